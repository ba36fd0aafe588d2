"""Records of detector outputs, one per image: what all their files have in common.

Records contain features, boxes and sizes under an image id. `{split}_ids.txt` and `{split}_caps.txt` beside them list
the images and sentences of a split. Only `regard data convert` and `regard data check` read records: base64 text and
compressed files are too slow to train on.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from regard.data.layout import PIXELS


@dataclass(frozen=True)
class Record:
    """One image: features [region, feature], and what else is known of it."""

    features: np.ndarray
    boxes: np.ndarray | None = None  # [region, 4], x1 y1 x2 y2 in pixels, or as fractions of the image
    size: tuple[int, int] | None = None  # width and height in pixels
    labels: np.ndarray | None = None  # [region], object classes, counted from 0

    def fractions(self) -> np.ndarray | None:
        """Return the boxes as fractions of the image; None if there are none, or if pixels have no size."""
        if self.boxes is None:
            return None
        if float(self.boxes.max(initial=0)) <= PIXELS:
            return self.boxes.astype(np.float32)
        if not self.size or min(self.size) < 1:
            return None
        return (self.boxes / np.tile(self.size, 2)).astype(np.float32)


class Records(ABC):
    """The records of a folder, by image id."""

    def __init__(self) -> None:
        self.notes: list[str] = []  # what was skipped, and why

    @abstractmethod
    def ids(self) -> Collection[str]:
        """Return every image id that has a record."""

    @abstractmethod
    def read(self, name: str) -> Record:
        """Read the record of an image. Raises InputError if it cannot be read."""

    def outline(self, name: str) -> Record:
        """Return the record of an image, perhaps with features of no columns, if this is faster."""
        return self.read(name)

    def why_missing(self, name: str) -> str:
        """Return why an image has no record, for a message; empty if it is not mentioned anywhere."""
        return ""
