"""Relations between words from parsed sentences: written beside them (`regard data parse DIR`) or given to a model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.layout import Files, data_folder
from regard.data.lines import Lines
from regard.data.relation_files import TEXT_FILE, Triples
from regard.data.split import with_relations
from regard.files import InputError
from regard.joint import JointTokenizer
from regard.matcher import Matcher
from regard.words.parser import ROLES, Parser, own_parser

CHUNK = 4096  # sentences parsed at a time


def parse_split(
    folder: Path, split: str, parser: Parser | None = None, progress: Callable[[int], None] | None = None
) -> float:
    """Parse the sentences of a split and write `{split}_text_relations.npz`.

    `parser` is by default the parser that comes with Regard. `progress(n)` is called after every `n` sentences. Returns
    the mean number of relations per sentence. Raises InputError if the split already has relations between words.
    """
    files = Files(data_folder(folder), split)
    path = files.path("text_relations.npz")
    if path.exists():
        raise InputError(f"{path} already exists: remove it to parse the sentences instead.")
    captions = Lines(files.path("caps.txt"))
    triples = parse_sentences(captions, parser, progress)
    triples.save(path, TEXT_FILE)
    return len(triples.label) / max(len(captions), 1)


def texts_of(model: Matcher, sentences: Sequence[str]) -> Any:
    """Return sentences as the inputs of `model`: tokenized, and parsed by Regard's own parser if it reads relations."""
    reads_relations = model.needs() & {"text_relations", "roles"}
    return _texts(model.tokenizer, list(sentences), parse_sentences(sentences) if reads_relations else None)


def _texts(tokenizer: Any, sentences: Sequence[str], relations: Triples | None) -> Any:
    """Sentences as Texts; for an ensemble, those of each tokenizer."""
    if isinstance(tokenizer, JointTokenizer):
        return tokenizer.kind.of([_texts(own, sentences, relations) for own in tokenizer.tokenizers])
    texts = tokenizer(sentences)
    if relations is None or tokenizer.offset is None:
        return texts
    return with_relations(texts, relations, np.arange(len(sentences)), tokenizer.offset)


def parse_sentences(
    captions: Sequence[str], parser: Parser | None = None, progress: Callable[[int], None] | None = None
) -> Triples:
    """Return the relations between words that `parser` (by default the one of Regard) finds in sentences.

    `progress(n)` is called after every `n` sentences.
    """
    parse, columns = parser or own_parser(), [np.zeros((0, 4), np.int32)]
    for start in range(0, len(captions), CHUNK):
        chunk = [captions[row] for row in range(start, min(start + CHUNK, len(captions)))]
        edges = [(start + row, *edge) for row, sentence in enumerate(parse(chunk)) for edge in sentence.edges]
        columns.append(np.array(edges, np.int32).reshape(-1, 4))
        if progress:
            progress(len(chunk))
    text, head, dependent, role = np.concatenate(columns).T
    return Triples.of(text, head, dependent, role, ROLES, len(captions))
