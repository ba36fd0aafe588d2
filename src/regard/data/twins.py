"""Twins: two pictures of the made world with the same things in different relations."""

from dataclasses import dataclass

import numpy as np

from regard.data.split import Split
from regard.files import InputError


@dataclass(frozen=True)
class Twins:
    """The twins of a split, from `{split}_twins.npz`."""

    first: np.ndarray  # int [pair], image row
    second: np.ndarray  # int [pair], image row of its twin
    kind: np.ndarray  # of str [pair], how they differ: "relation" or "attribute"

    @classmethod
    def of(cls, split: Split) -> "Twins":
        """Read the twins of a split. Raises InputError if it has none, or if their file is damaged."""
        path = split.folder / f"{split.name}_twins.npz"
        if not path.exists():
            raise InputError(
                f"{path} is not there: only the made world (`regard data scenes`) has twins. "
                "To train on other data, set train.twins=false."
            )
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                twins = cls(*(arrays[name] for name in ("first", "second", "kind")))
            if {twins.first.dtype.kind, twins.second.dtype.kind} - set("iu") or len(twins.first) != len(twins.second):
                raise ValueError("expected pairs of rows")
        except Exception:  # zipfile, zlib and numpy raise anything for a damaged file
            raise InputError(f"{path} is damaged: draw the world again by `regard data scenes`.") from None
        rows = np.concatenate([twins.first, twins.second])
        if len(rows) and not 0 <= rows.min() <= rows.max() < split.num_images:
            raise InputError(
                f"{path} contains image row {rows.max()}, but {split.name} has {split.num_images} images. "
                "Draw the world again by `regard data scenes`."
            )
        return twins
