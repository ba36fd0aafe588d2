"""Relations between words from parsed sentences, stored beside the sentences: `regard data parse DIR`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from regard.data.layout import Files, data_folder
from regard.data.lines import Lines
from regard.data.relation_files import TEXT_FILE, Triples
from regard.files import InputError
from regard.words.parser import ROLES, Parser, own_parser

CHUNK = 4096  # sentences parsed at a time


def parse_split(
    folder: Path, split: str, parser: Parser | None = None, progress: Callable[[int], None] | None = None
) -> float:
    """Write `{split}_text_relations.npz` with the roles that `parser` finds; return the mean edges per sentence.

    By default, `parser` is our own. Raises InputError for a split that has relations between words already.
    """
    files = Files(data_folder(folder), split)
    path = files.path("text_relations.npz")
    if path.exists():
        raise InputError(f"{path} is there already: remove it to parse the sentences instead.")
    captions = Lines(files.path("caps.txt"))
    found = parsed(captions, parser, progress)
    found.save(path, TEXT_FILE)
    return len(found.label) / max(len(captions), 1)


def parsed(
    captions: Sequence[str], parser: Parser | None = None, progress: Callable[[int], None] | None = None
) -> Triples:
    """Return the roles that `parser` (by default our own) finds in sentences."""
    parse, columns = parser or own_parser(), [np.zeros((0, 4), np.int32)]
    for start in range(0, len(captions), CHUNK):
        some = [captions[row] for row in range(start, min(start + CHUNK, len(captions)))]
        edges = [(start + row, *edge) for row, found in enumerate(parse(some)) for edge in found.edges]
        columns.append(np.array(edges, np.int32).reshape(-1, 4))
        if progress:
            progress(len(some))
    text, head, dependent, role = np.concatenate(columns).T
    return Triples.of(text, head, dependent, role, ROLES, len(captions))
