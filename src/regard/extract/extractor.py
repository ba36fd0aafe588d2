"""Extractors: from photographs to regions with boxes, labels and features. Composed of a detector and a backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from regard.boxes import non_maximum_suppression
from regard.files import InputError

MAX_REGIONS = 100
MIN_SCORE = 0.05  # of a detection that is kept
MAX_DETECTIONS = 300  # per photograph
MAX_SAME_CLASS_IOU = 0.45  # a box with a larger IoU with a better box of its class is a duplicate
# k: side of the k x k windows, in fractions of the image. 2 x 2 has a fifth window in the middle.
WINDOWS = {2: 0.65, 3: 0.42, 4: 0.30, 5: 0.24, 6: 0.20}
NUM_COARSE_WINDOWS = 14  # those of the first two sizes


@dataclass(frozen=True)
class Detections:
    """The detections in one photograph, in any order."""

    boxes: Float[np.ndarray, "region 4"]  # x1 y1 x2 y2 as fractions of the photograph
    labels: Int[np.ndarray, " region"]  # index into the detector's classes, from 1
    scores: Float[np.ndarray, " region"]  # 0 to 1

    @classmethod
    def none(cls) -> "Detections":
        """Return no detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def take(self, index: Shaped[np.ndarray, " index"]) -> "Detections":
        """Return the detections at `index`."""
        return Detections(self.boxes[index], self.labels[index], self.scores[index])


@dataclass(frozen=True)
class Regions(Detections):
    """The regions of one photograph. The first is the whole photograph.

    The whole photograph and windows have label 0 (none) and score 0.
    """

    features: Float[np.ndarray, "region feature"]


def filter_detections(
    boxes: Float[np.ndarray, "candidate 4"],
    labels: Int[np.ndarray, " candidate"],
    scores: Float[np.ndarray, " candidate"],
) -> Detections:
    """Return the candidates of a detector that are detections, best first.

    Candidates with a low score, with boxes that are not finite or have no area within the photograph, and duplicates of
    better candidates of the same class are skipped. Boxes are clipped to the photograph.
    """
    valid = np.flatnonzero((scores >= MIN_SCORE) & np.isfinite(boxes).all(1))
    best = valid[np.argsort(-scores[valid], kind="stable")][:MAX_DETECTIONS]
    detections = Detections(boxes[best].clip(0, 1).astype(np.float32), labels[best], scores[best].astype(np.float32))
    detections = detections.take(np.flatnonzero((detections.boxes[:, 2:] > detections.boxes[:, :2]).all(1)))
    return detections.take(non_maximum_suppression(detections.boxes, MAX_SAME_CLASS_IOU, detections.labels))


@runtime_checkable
class Detector(Protocol):
    """Finds objects in photographs. `classes` are the names of its labels; classes[0] is "none"."""

    classes: tuple[str, ...]

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]: ...


@runtime_checkable
class Backbone(Protocol):
    """Describes each box of each photograph by `dim` numbers."""

    dim: int

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]: ...


@runtime_checkable
class Extractor(Protocol):
    """Returns the regions of photographs. A class with these members can be passed to `extract`."""

    @property
    def classes(self) -> tuple[str, ...]: ...  # names of the labels; the first is "none", and the only one if no labels
    @property
    def feature_dim(self) -> int: ...
    @property
    def num_regions(self) -> int: ...  # largest number of regions per photograph

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Regions]: ...


@dataclass(frozen=True)
class ComposedExtractor:
    """An extractor composed of a detector (or none), windows, and a backbone.

    The first `num_regions` of these are the regions of a photograph:

    1. the whole photograph;
    2. detections with a score of at least `confidence_threshold`, best first, up to 70 % of `num_regions`;
    3. the 14 coarse windows;
    4. the other detections;
    5. the finer windows.

    A region is skipped if its IoU with an earlier one is above `overlap_threshold`. The whole photograph does not count
    here, because it has no label, and a detection that fills the photograph has one. If `windows` is False, there may
    be fewer regions. Raises InputError if a number is out of range.
    """

    detector: Detector | None
    backbone: Backbone
    num_regions: int = 36
    windows: bool = True
    confidence_threshold: float = 0.25
    overlap_threshold: float = 0.7

    def __post_init__(self) -> None:
        if not 1 <= self.num_regions <= MAX_REGIONS:
            raise InputError(f"num_regions (--regions) is {self.num_regions}: expected 1 to {MAX_REGIONS}.")
        for name, option in (("confidence_threshold", "--sure"), ("overlap_threshold", "--overlap")):
            if not 0 < getattr(self, name) <= 1:
                value = getattr(self, name)
                raise InputError(f"{name} ({option}) is {value}: expected a number above 0 and at most 1.")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.detector.classes if self.detector else ("none",)

    @property
    def feature_dim(self) -> int:
        return self.backbone.dim

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Regions]:
        detections = self.detector(photographs) if self.detector else [Detections.none()] * len(photographs)
        selected = [self.select_regions(own) for own in detections]
        features = self.backbone(photographs, [regions.boxes for regions in selected])
        return [
            Regions(regions.boxes, regions.labels, regions.scores, own)
            for regions, own in zip(selected, features, strict=True)
        ]

    def select_regions(self, detections: Detections) -> Detections:
        """Return the regions of a photograph with these detections, in the order above. At most 3 x `num_regions`
        detections are considered.
        """
        best = detections.take(np.argsort(-detections.scores, kind="stable")[: 3 * self.num_regions])
        num_first = min(int((best.scores >= self.confidence_threshold).sum()), max(1, 7 * self.num_regions // 10))
        first, others = best.take(np.arange(num_first)), best.take(np.arange(num_first, len(best.scores)))
        parts = [_unlabelled(np.array([[0, 0, 1, 1]], np.float32)), first]
        if self.windows:
            grid = multi_scale_windows()
            parts += [_unlabelled(grid[:NUM_COARSE_WINDOWS]), others, _unlabelled(grid[NUM_COARSE_WINDOWS:])]
        else:
            parts.append(others)
        boxes = np.concatenate([part.boxes for part in parts])
        kept = np.append(0, 1 + non_maximum_suppression(boxes[1:], self.overlap_threshold))[: self.num_regions]
        labels, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "scores"))
        return Detections(boxes[kept], labels[kept], scores[kept])


def _unlabelled(boxes: Float[np.ndarray, "region 4"]) -> Detections:
    return Detections(boxes, np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.float32))


def multi_scale_windows() -> Float[np.ndarray, "region 4"]:
    """Return the windows from coarse to fine, each size row by row. They have the aspect ratio of the image."""
    windows = []
    for count, side in WINDOWS.items():
        starts = np.linspace(0, 1 - side, count, dtype=np.float32)
        corners = [(x, y) for y in starts for x in starts] + [((1 - side) / 2,) * 2] * (count == 2)
        windows += [(x, y, x + side, y + side) for x, y in corners]
    return np.array(windows, np.float32)
