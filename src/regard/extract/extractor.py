"""Photograph -> regions: what an extractor is, and the one that a detector, windows and a backbone make together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from regard.boxes import non_maximum_suppression
from regard.files import InputError

MAX_REGIONS = 100
WEAK, MOST = 0.05, 300  # detections of a lower score are left out, and those beyond so many
SAME = 0.45  # of one class, a box that overlaps a better one by a larger IoU is that one again
# Windows of k x k places and their sides, in fractions of the image; 2 x 2 has a fifth one in the middle.
WINDOWS = {2: 0.65, 3: 0.42, 4: 0.30, 5: 0.24, 6: 0.20}
COARSE = 14  # the windows of the first two


@dataclass(frozen=True)
class Detections:
    """What a detector found in one photograph, in any order; at most some hundreds."""

    boxes: Float[np.ndarray, "region 4"]  # x1 y1 x2 y2 as fractions of the photograph
    labels: Int[np.ndarray, " region"]  # from 1: an index into the detector's classes
    scores: Float[np.ndarray, " region"]  # 0 to 1

    @classmethod
    def none(cls) -> "Detections":
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def take(self, index: Shaped[np.ndarray, " index"]) -> "Detections":
        return Detections(self.boxes[index], self.labels[index], self.scores[index])


@dataclass(frozen=True)
class Regions(Detections):
    """The regions of one photograph, the whole image first; label 0: none; score 0: a window, found by nobody."""

    features: Float[np.ndarray, "region feature"]


def suppressed(
    boxes: Float[np.ndarray, "candidate 4"],
    labels: Int[np.ndarray, " candidate"],
    scores: Float[np.ndarray, " candidate"],
) -> Detections:
    """Candidates as detections: within the photograph, best first, and of a class none that is an earlier one again."""
    kept = np.flatnonzero((scores >= WEAK) & np.isfinite(boxes).all(1))
    best = kept[np.argsort(-scores[kept], kind="stable")][:MOST]
    found = Detections(boxes[best].clip(0, 1).astype(np.float32), labels[best], scores[best].astype(np.float32))
    found = found.take(np.flatnonzero((found.boxes[:, 2:] > found.boxes[:, :2]).all(1)))
    # Each class is moved to a place of its own, so that boxes of different classes do not overlap.
    moved = found.boxes + 2 * found.labels[:, None].astype(np.float32)
    return found.take(non_maximum_suppression(moved, SAME))


@runtime_checkable
class Detector(Protocol):
    """Finds things. `classes` names its labels, classes[0] being "none"."""

    classes: tuple[str, ...]

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]: ...


@runtime_checkable
class Backbone(Protocol):
    """Describes boxes of photographs, each by `dim` numbers."""

    dim: int

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]: ...


@runtime_checkable
class Extractor(Protocol):
    """Photographs -> their regions: all that `regard.extract` asks of a model. Write your own as a class like this."""

    @property
    def classes(self) -> tuple[str, ...]: ...  # names of the labels, the first being "none"; ("none",) without labels
    @property
    def feature_dim(self) -> int: ...
    @property
    def num_regions(self) -> int: ...  # the most that a photograph gets

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Regions]: ...


@dataclass(frozen=True)
class Composed:
    """A detector (or none), windows, and a backbone.

    `num_regions` are taken in this order: the whole image; the detector's boxes of a score of at least `sure`, best
    first, up to seven tenths of all; the 14 coarse windows; its other boxes; the finer windows. Those that overlap an
    earlier one by an IoU above `overlap` are left out, but for what fills the image: that has a name, the whole has
    none. Without `windows` there may be fewer.
    Raises InputError if a number is out of its range.
    """

    detector: Detector | None
    backbone: Backbone
    num_regions: int = 36
    windows: bool = True
    sure: float = 0.25
    overlap: float = 0.7

    def __post_init__(self) -> None:
        if not 1 <= self.num_regions <= MAX_REGIONS:
            raise InputError(f"{self.num_regions} regions a photograph: expected 1 to {MAX_REGIONS}.")
        for name, value in (("sure", self.sure), ("overlap", self.overlap)):
            if not 0 < value <= 1:
                raise InputError(f"{name} is {value}: expected a number above 0 and at most 1.")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.detector.classes if self.detector else ("none",)

    @property
    def feature_dim(self) -> int:
        return self.backbone.dim

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Regions]:
        found = self.detector(photographs) if self.detector else [Detections.none()] * len(photographs)
        chosen = [self.choose(detections) for detections in found]
        features = self.backbone(photographs, [regions.boxes for regions in chosen])
        return [
            Regions(regions.boxes, regions.labels, regions.scores, own)
            for regions, own in zip(chosen, features, strict=True)
        ]

    def choose(self, found: Detections) -> Detections:
        """The whole image, what was found and windows, in the order above and as many as are wanted."""
        best = found.take(np.argsort(-found.scores, kind="stable")[: 3 * self.num_regions])
        cut = min(int((best.scores >= self.sure).sum()), max(1, 7 * self.num_regions // 10))
        sure, unsure = best.take(np.arange(cut)), best.take(np.arange(cut, len(best.scores)))
        parts = [_unlabelled(np.array([[0, 0, 1, 1]], np.float32)), sure]
        if self.windows:
            grid = multi_scale_windows()
            parts += [_unlabelled(grid[:COARSE]), unsure, _unlabelled(grid[COARSE:])]
        else:
            parts.append(unsure)
        boxes = np.concatenate([part.boxes for part in parts])
        kept = np.append(0, 1 + non_maximum_suppression(boxes[1:], self.overlap))[: self.num_regions]
        labels, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "scores"))
        return Detections(boxes[kept], labels[kept], scores[kept])


def _unlabelled(boxes: Float[np.ndarray, "region 4"]) -> Detections:
    return Detections(boxes, np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.float32))


def multi_scale_windows() -> Float[np.ndarray, "region 4"]:
    """Square windows (in fractions: of the image's shape) from coarse to fine, each size row by row."""
    found = []
    for count, side in WINDOWS.items():
        starts = np.linspace(0, 1 - side, count, dtype=np.float32)
        places = [(x, y) for y in starts for x in starts] + [((1 - side) / 2,) * 2] * (count == 2)
        found += [(x, y, x + side, y + side) for x, y in places]
    return np.array(found, np.float32)
