"""Strata: the sentences of a split in groups, by relations, length, spatial words, regions or a column of a table."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from regard.data import Split
from regard.data.captions import Captions
from regard.files import InputError, nearest
from regard.words import tokenize
from regard.words.parser import parse_all

LENGTHS = (7, 10, 14)  # the longest sentences of all strata of lengths but the last, in words
MOST_VALUES = 20  # of a column that have strata of their own; numbers with more values are divided into thirds

# Words of place and direction. "In", "on", "at", "by" and "with" are left out, because most captions have one of them.
SPATIAL = frozenset({
    "left", "right", "above", "below", "under", "underneath", "beneath", "over", "atop", "behind", "front", "beside",
    "next", "near", "between", "among", "inside", "outside", "top", "bottom", "middle", "opposite", "across", "along",
    "around", "against", "through", "past", "toward", "towards", "away",
})  # fmt: skip


@dataclass(frozen=True)
class Strata:
    """A division of the sentences of a split."""

    title: str
    names: tuple[str, ...]
    of_text: Int[np.ndarray, " text"]  # the stratum of each sentence; -1: in none

    def of_images(self, image_of_text: Int[np.ndarray, " text"]) -> Int[np.ndarray, " image"] | None:
        """Return the stratum of each image, if all sentences of each image are in one; otherwise None."""
        of_image = np.full(image_of_text.max(initial=-1) + 1, -1)
        of_image[image_of_text] = self.of_text
        return of_image if np.array_equal(of_image[image_of_text], self.of_text) else None


def divide(split: Split, by: str, table: Captions | None = None) -> Strata:
    """Divide the sentences of a split by one of KINDS, or by a column of a table of sentences.

    A sentence gets the value of its row in the table: that of its image with the same words. If there is none, it gets
    the value that all rows of its image share; otherwise it is in no stratum. Raises InputError if `by` is neither a
    kind nor a column, and if no row is of an image of the split.
    """
    column = by.lower()  # as the names in a header are read
    if by in KINDS and (table is None or column not in table.others):
        return KINDS[by](split)
    if table is None:
        raise InputError(
            f"There are no strata {by!r}. {nearest(by, KINDS)} For a column of a table of sentences, give --by-table."
        )
    if column not in table.others:
        raise InputError(f"{table.path} has no column {by!r} beside images and sentences. {_columns(table)}")
    values = _values(split, table, column)
    if not any(values):
        raise InputError(
            f"{table.path} has a value of {by!r} for no sentence of {split.folder} {split.name}: its sentences are "
            f"such as {table.sentences[0]!r:.60}."
        )
    return _by_values(by, values)


def _by_relations(split: Split) -> Strata:
    """By the number of (subject, predicate, object) that Regard's parser finds in the sentence."""
    counts = [len(parse.links) for parse in parse_all(split.captions)]
    return _occurring("relations", ("0", "1", "2", "3 or more"), np.minimum(counts, 3))


def _by_words(split: Split) -> Strata:
    """By the number of words of the sentence."""
    counts = np.array([len(tokenize(caption)) for caption in split.captions])
    first = (0, *(longest + 1 for longest in LENGTHS))
    names = [f"{low} to {high}" for low, high in zip(first, LENGTHS, strict=False)]
    return _occurring("words", (*names, f"{first[-1]} or more"), np.searchsorted(LENGTHS, counts))


def _by_spatial_words(split: Split) -> Strata:
    """By whether the sentence has one of the words SPATIAL."""
    has = np.array([bool(SPATIAL.intersection(tokenize(caption))) for caption in split.captions])
    return _occurring("spatial", ("without", "with"), has.astype(int))


def _by_regions(split: Split) -> Strata:
    """By the number of regions of the image, in thirds of the images."""
    names, of_image = _thirds(split.counts)
    return _occurring("regions", names, of_image[split.image_of_text])


KINDS: dict[str, Callable[[Split], Strata]] = {
    "relations": _by_relations,
    "words": _by_words,
    "spatial": _by_spatial_words,
    "regions": _by_regions,
}


def _values(split: Split, table: Captions, column: str) -> list[str]:
    """The value of each sentence; empty if it has none."""
    rows_of, values = table.rows_of(list(split.ids)), []
    words_of = {row: tokenize(table.sentences[row]) for rows in rows_of.values() for row in rows}
    for caption, image in zip(split.captions, split.image_of_text.tolist(), strict=True):
        rows, words = rows_of.get(split.ids[image], []), tokenize(caption)
        own = [row for row in rows if words_of[row] == words] or rows
        found = {table.others[column][row].strip() for row in own}
        values.append(found.pop() if len(found) == 1 else "")
    return values


def _by_values(title: str, values: Sequence[str]) -> Strata:
    counts = Counter(filter(None, values))
    numbers = _numbers(values) if len(counts) > MOST_VALUES else None
    if numbers is not None:
        known = np.isfinite(numbers)
        names, of_known = _thirds(numbers[known])
        of_text = np.full(len(values), -1)
        of_text[known] = of_known
        return _occurring(title, names, of_text)
    kept = [value for value, _ in counts.most_common(MOST_VALUES)]
    place = {value: at for at, value in enumerate(sorted(kept))}
    rest = len(kept) if len(counts) > MOST_VALUES else -1
    of_text = np.array([place.get(value, rest) if value else -1 for value in values], np.int64)
    return _occurring(title, (*place, "other values"), of_text)


def _numbers(values: Sequence[str]) -> Float[np.ndarray, " text"] | None:
    """The values as numbers, NaN for empty ones; None if one is no number."""
    try:
        return np.array([float(value or "nan") for value in values])
    except ValueError:
        return None


def _thirds(values: np.ndarray) -> tuple[tuple[str, ...], Int[np.ndarray, " value"]]:
    """At most three strata of about equal size, in the order of the values; equal values are in one."""
    edges = np.unique(np.quantile(values, (1 / 3, 2 / 3), method="lower")) if len(values) else np.zeros(0)
    stratum = np.searchsorted(edges, values)
    parts = [values[stratum == number] for number in range(len(edges) + 1)]
    spans = [(part.min(), part.max()) if len(part) else (0, 0) for part in parts]
    return tuple(f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in spans), stratum


def _occurring(title: str, names: Sequence[str], of_text: np.ndarray) -> Strata:
    """Strata without those that have no sentence."""
    used = np.unique(of_text[of_text >= 0])
    number = np.full(len(names) + 1, -1)  # the last one is that of -1
    number[used] = np.arange(len(used))
    return Strata(title, tuple(names[place] for place in used), number[of_text])


def _columns(table: Captions) -> str:
    return f"Its columns are {', '.join(table.others)}." if table.others else "It has no other columns."
