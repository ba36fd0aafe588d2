"""The file format of relations: sparse triples in `{split}_relations.npz` and `{split}_text_relations.npz`.

In a batch, relations are dense matrices.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.checksums import save_arrays
from regard.files import InputError

IMAGE_FILE = ("image", "subject", "object", "predicate", "predicates")
TEXT_FILE = ("text", "head", "dependent", "label", "labels")


@dataclass(frozen=True)
class Triples:
    """Relations (item, source, target, label) sorted by item, with their confidences and the names of the labels.

    The relations of item i are those from `bounds[i]` to `bounds[i + 1]`. Labels count from 1; names[0] is "none".
    """

    bounds: np.ndarray
    source: np.ndarray
    target: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        item: np.ndarray,
        source: np.ndarray,
        target: np.ndarray,
        label: np.ndarray,
        names: Sequence[str],
        num_items: int,
        confidence: np.ndarray | None = None,
    ) -> "Triples":
        """Create triples from relations in any order. Without confidences, all are 1."""
        confidence = np.ones(len(item), np.float16) if confidence is None else confidence
        if np.any(item[1:] < item[:-1]):
            order = np.argsort(item, kind="stable")
            item, source, target, label, confidence = (
                column[order] for column in (item, source, target, label, confidence)
            )
        bounds = np.searchsorted(item, np.arange(num_items + 1))
        return cls(bounds, source, target, label, confidence, tuple(names))

    @classmethod
    def load(cls, path: str | os.PathLike[str], num_items: int, width: int | None = None) -> "Triples":
        """Read a file of relations.

        `num_items` is the number of images or texts, `width` the number of regions per image. Raises InputError if
        arrays are missing, differ in length, or contain values out of range.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                known = {*IMAGE_FILE, *TEXT_FILE, "confidence"}
                columns = {name: file[name] for name in file.files if name in known}
        except OSError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise anything for a damaged file
            raise InputError(
                f"{path} is not an .npz file of plain arrays ({error}). Write it with numpy.savez."
            ) from None
        array_names = TEXT_FILE if "text" in columns else IMAGE_FILE
        missing = [name for name in array_names if name not in columns]
        if missing:
            raise InputError(f"{path} has no array {missing[0]!r}: expected {', '.join(array_names)}.")
        item, source, target, label, names = (columns[name] for name in array_names)
        confidence = columns.get("confidence")
        for name in (*array_names[:4], "confidence"):
            column, kinds = columns.get(name), "iuf" if name == "confidence" else "iu"
            if column is not None and (column.ndim != 1 or column.dtype.kind not in kinds):
                want = "numbers" if name == "confidence" else "whole numbers"
                raise InputError(
                    f"{path}: {name} is {column.dtype} {list(column.shape)}; expected {want} with one axis."
                )
        if names.ndim != 1 or names.dtype.kind != "U" or not len(names):
            raise InputError(f"{path}: {array_names[4]} is not a list of names, of which the first is none.")
        if confidence is not None and not (is_part := (confidence >= 0) & (confidence <= 1)).all():
            row = int(is_part.argmin())
            raise InputError(f"{path}, relation {row}: confidence is {confidence[row]}; expected a number from 0 to 1.")
        lengths = {len(column) for column in (item, source, target, label, confidence) if column is not None}
        if len(lengths) > 1:
            raise InputError(f"{path} contains arrays of {sorted(lengths)} relations: expected one length.")
        for name, first, limit in zip(array_names, (0, 0, 0, 1), (num_items, width, width, len(names)), strict=False):
            wrong = (columns[name] < first) | (columns[name] >= (limit or np.inf))
            if wrong.any():
                row = int(wrong.argmax())
                want = f"{first} to {limit - 1}" if limit else f"{first} or more"
                raise InputError(f"{path}, relation {row}: {name} is {columns[name][row]}; expected {want}.")
        return cls.of(item, source, target, label, [str(name) for name in names], num_items, confidence)

    def save(self, path: str | os.PathLike[str], array_names: Sequence[str]) -> None:
        """Write the file. `array_names` is IMAGE_FILE or TEXT_FILE."""
        items = np.repeat(np.arange(len(self.bounds) - 1, dtype=np.int32), np.diff(self.bounds))
        columns = [items, *(column.astype(np.int16) for column in (self.source, self.target, self.label))]
        arrays: dict[str, Any] = dict(zip(array_names, [*columns, np.array(self.names)], strict=True))
        if array_names is IMAGE_FILE:
            arrays["confidence"] = self.confidence.astype(np.float16)
        save_arrays(path, arrays)

    def renumbered(self, numbers: np.ndarray, names: Sequence[str]) -> "Triples":
        """Return the relations under other names: label k becomes numbers[k], and is left out if that is 0."""
        label = numbers[self.label]
        kept = label > 0
        bounds = np.append(0, np.cumsum(kept))[self.bounds]
        return Triples(bounds, self.source[kept], self.target[kept], label[kept], self.confidence[kept], tuple(names))

    def corrupted(self, part: float, lengths: np.ndarray, seed: int = 0) -> "Triples":
        """Return the relations with a random `part` of them moved to another, random pair of regions of the same item.

        A relation of the only region stays. `lengths` is the number of regions of each item. The same seed gives the
        same corruption, in whatever order items are read, so that training and evaluation see the same errors.
        """
        random = np.random.default_rng(seed)
        count = lengths[np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))]
        others = np.maximum(count - 1, 1)  # regions beside one
        pairs = np.maximum(count * (count - 1), 2)
        wrong = (random.random(len(self.label)) < part) & (count > 1)
        own = self.source.astype(np.int64) * others + self.target - (self.target > self.source)
        source, other = np.divmod((own + random.integers(1, pairs)) % pairs, others)
        target = other + (other >= source)
        return replace(self, source=np.where(wrong, source, self.source), target=np.where(wrong, target, self.target))

    def dense(
        self, items: np.ndarray, width: int, threshold: float = 0.0, offset: int = 0, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """Return int64 [item, width, width]: the label of (source, target), or 0 for none.

        If a pair has several labels, the one with the highest confidence counts. Positions are moved by `offset`, and
        relations beyond the `lengths` of an item (default: `width`) are left out.
        """
        starts, counts = self.bounds[items], self.bounds[items + 1] - self.bounds[items]
        place = np.repeat(np.arange(len(items)), counts)
        relation = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
        source = self.source[relation].astype(np.int64) + offset
        target = self.target[relation].astype(np.int64) + offset
        limit = (np.full(len(items), width) if lengths is None else lengths)[place]
        kept = (self.confidence[relation] >= threshold) & (source < limit) & (target < limit)
        order = np.flatnonzero(kept)
        # Sorted by confidence: of several assignments to one position, the last one counts.
        order = order[np.argsort(self.confidence[relation[order]], kind="stable")]
        out = np.zeros((len(items), width, width), np.int64)
        out[place[order], source[order], target[order]] = self.label[relation[order]]
        return out
