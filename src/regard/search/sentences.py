"""The sentences of an index, which pictures are answered with: `regard index ... --texts`, `regard search --image`."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from regard.encode import BATCH
from regard.search.encoder import Encoder, Queries, Stored
from regard.search.entries import Entry, Link, pack, unpack
from regard.search.gallery import check_scores
from regard.search.index_store import IndexStore, LanceStore, Snapshot
from regard.search.query import SearchOptions, best_rows
from regard.search.source import Source


def sentence_entries(
    encoder: Encoder, sources: Sequence[Source], keys: dict[Source, list[str]], known: set[str]
) -> Iterator[Entry]:
    """Yield the sentences of sources that are not `known`, with one link per picture, named by the picture's key."""
    links: dict[str, list[Link]] = {}
    for source in sources:
        split = source.split
        for text, image in enumerate(split.image_of_text.tolist()):
            sentence = str(split.captions[text])
            links.setdefault(sentence, []).append(
                Link(sentence, keys[source][image], "", str(source.folder), source.name)
            )
    sentences = (sentence for sentence in links if sentence.strip() and _key(sentence) not in known)
    while batch := list(islice(sentences, BATCH)):
        yield from encoded_sentences(encoder, [tuple(dict.fromkeys(links[sentence])) for sentence in batch])


def encoded_sentences(encoder: Encoder, links: Sequence[tuple[Link, ...]]) -> Iterator[Entry]:
    """Yield entries of sentences, given by their links, encoded together."""
    sentences = [own[0].id for own in links]
    queries = encoder.encode_texts(sentences)
    encodings = [b""] * len(sentences)
    if encoder.run:
        encodings = pack(encoder.run.model.for_scoring(queries.encoding).to("cpu"))
    for sentence, own, summary, encoding in zip(sentences, links, queries.summaries, encodings, strict=True):
        yield Entry(_key(sentence), own, summary, encoding)


def encode_sentences_again(encoder: Encoder, sentences: Snapshot, store: LanceStore) -> None:
    """Make a store contain the sentences of another vector set, encoded by another encoder.

    What an earlier, interrupted call encoded is kept; each batch is one transaction.
    """
    store.create(encoder.dim)
    known = set(store.snapshot().keys)
    if gone := sorted(known.difference(sentences.keys)):
        store.put((), {}, gone)
    new = [links for key, links in zip(sentences.keys, sentences.links(), strict=True) if key not in known]
    for first in range(0, len(new), BATCH):
        store.put(encoded_sentences(encoder, new[first : first + BATCH]), {})


def remove_orphans(store: IndexStore, snapshot: Snapshot, pictures: set[str]) -> None:
    """Remove the sentences of which no picture is left. `pictures` are the keys of those that are."""
    orphans = [
        key
        for key, links in zip(snapshot.keys, snapshot.links(), strict=True)
        if not any(link.name in pictures for link in links)
    ]
    if orphans:
        store.put((), {}, orphans)


def rank_sentences(
    snapshot: Snapshot, encoder: Encoder, image: Stored, k: int, shortlist: int
) -> list[tuple[str, float]]:
    """Return the `k` best sentences of one picture and their scores: exact ones of a shortlist by summary vectors.

    Raises InputError for a number that is out of range, and for NaN.
    """
    SearchOptions(k=k, shortlist=shortlist)
    count = min(max(shortlist, k), len(snapshot)) if shortlist else len(snapshot)
    rows = best_rows(snapshot, image.summaries[0], np.arange(len(snapshot)), count)
    encoding = None
    if encoder.run:
        model = encoder.run.model
        encoding = unpack(model.text_encoding, snapshot.fetch(rows.tolist())).to(next(model.parameters()).device)
    scores = encoder.score_all(image, Queries(snapshot.summaries[rows], encoding))[:, 0]
    check_scores(scores, snapshot.ids, rows)
    order = np.argsort(-scores, kind="stable")[:k]
    return [(snapshot.ids[rows[at]], float(scores[at])) for at in order]


def _key(sentence: str) -> str:
    return hashlib.blake2b(sentence.encode(), digest_size=16).hexdigest()
