"""Relations between words from parsed sentences, as triples."""

from collections.abc import Callable, Sequence

import numpy as np

from regard.data.relation_files import Triples
from regard.words.parser import ROLES, Parser, parse_all


def parse_sentences(
    captions: Sequence[str], parser: Parser | None = None, progress: Callable[[int], None] | None = None
) -> Triples:
    """Return the relations between words that `parser` (by default the one of Regard) finds in sentences.

    `progress(n)` is called after every `n` sentences.
    """
    edges = [(text, *edge) for text, parse in enumerate(parse_all(captions, parser, progress)) for edge in parse.edges]
    text, head, dependent, role = np.array(edges, np.int32).reshape(-1, 4).T
    return Triples.of(text, head, dependent, role, ROLES, len(captions))
