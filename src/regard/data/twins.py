"""Twins: two pictures of the same things in different relations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regard.data.split import Split
from regard.files import InputError, replacing


@dataclass(frozen=True)
class Twins:
    """The twins of a split, from `{split}_twins.npz`."""

    first: np.ndarray  # int [pair], image row
    second: np.ndarray  # int [pair], image row of its twin
    kind: np.ndarray  # of str [pair], how they differ: "relation", "attribute", "mirror" or "exchange"

    @classmethod
    def of(cls, split: Split) -> "Twins":
        """Read the twins of a split. Raises InputError if it has none, or if their file is damaged."""
        path = split.folder / f"{split.name}_twins.npz"
        if not path.exists():
            raise InputError(
                f"{path} is not there: `regard data scenes`, `regard data spatial` and `regard data collage` make "
                "data with twins. To train on other data, set train.twins=false."
            )
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                twins = cls(*(arrays[name] for name in ("first", "second", "kind")))
            if {twins.first.dtype.kind, twins.second.dtype.kind} - set("iu"):
                raise ValueError("expected numbers of rows")
            if not len(twins.first) == len(twins.second) == len(twins.kind):
                raise ValueError("expected pairs with a kind each")
        except Exception:  # zipfile, zlib and numpy raise anything for a damaged file
            raise InputError(f"{path} is damaged: make the data folder again.") from None
        rows = np.concatenate([twins.first, twins.second])
        if len(rows) and not 0 <= rows.min() <= rows.max() < split.num_images:
            raise InputError(
                f"{path} contains image row {rows.max()}, but {split.name} has {split.num_images} images. "
                "Make the data folder again."
            )
        if len(np.unique(rows)) != len(rows):
            raise InputError(f"{path} has an image that is in two pairs: expected each image in one pair of twins.")
        return twins


def save_twins(path: Path, pairs: Sequence[tuple[int, int]], kind: str) -> None:
    """Write `{split}_twins.npz` with pairs of image rows, of which all differ in the same way, `kind`."""
    first, second = np.array(pairs, np.int32).reshape(-1, 2).T
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, first=first, second=second, kind=np.full(len(pairs), kind))
