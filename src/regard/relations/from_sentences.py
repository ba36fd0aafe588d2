"""Relations between words from parsed sentences: written beside them (`regard data parse DIR`) or given to a model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.layout import Files, data_folder
from regard.data.lines import Lines
from regard.data.relation_files import TEXT_FILE, Triples
from regard.data.sentence_relations import parse_sentences
from regard.data.split import with_relations
from regard.files import InputError
from regard.joint import JointTokenizer
from regard.matcher import Matcher
from regard.words.parser import Parser


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
