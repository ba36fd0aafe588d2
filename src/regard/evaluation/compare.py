"""How sure a recall is, and whether one score matrix is better than another: the bootstrap over images.

Images are drawn with replacement and bring their texts along, since texts of one image are not independent. Ranks are
computed once, in the whole gallery, and drawn with their queries; so the intervals speak of other queries of this kind,
not of galleries of another size. Of several folds, each is resampled by itself and the mean taken.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile interval) and 16 (tests).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from regard.files import InputError
from regard.metrics import Protocol, Ranks, Recalls, galleries, matches, render, summary

RECALLS = tuple((way, level) for way in ("i2t", "t2i") for level in ("r1", "r5", "r10"))
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Interval:
    """Where 95 % of the resampled values lie."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """The 95 % intervals of the six recalls and of their sum, in percent."""

    i2t: dict[str, Interval]  # by r1, r5, r10
    t2i: dict[str, Interval]
    rsum: Interval


@dataclass(frozen=True)
class Difference:
    """One matrix's rSum minus another's, on the same images and texts."""

    rsum: float
    low: float
    high: float  # the 95 % interval of the difference
    p: float  # two-sided: how often the resampled difference has the other sign, or none, twice


@dataclass(frozen=True)
class Measured:
    """A score matrix's metrics, and how sure they are."""

    name: str
    recalls: Recalls
    intervals: Intervals

    def to_dict(self) -> dict[str, Any]:
        return {**self.recalls.to_dict(), "ties": self.recalls.ties, "intervals": asdict(self.intervals)}


@dataclass(frozen=True)
class Report:
    """What `regard metrics` tells."""

    protocol: Protocol
    resamples: int
    scores: Measured
    against: Measured | None = None
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """The seven keys of `Recalls.to_dict`, and beside them ties, intervals, and what it was compared against."""
        told = {**self.scores.to_dict(), "protocol": self.protocol, "resamples": self.resamples}
        if self.against and self.difference:
            told |= {"against": self.against.to_dict(), "difference": asdict(self.difference)}
        return told

    def render(self) -> str:
        parts = [_table(self.scores, self.resamples)]
        if self.against and self.difference:
            parts += [_table(self.against, self.resamples), self._verdict(self.difference)]
        return "\n\n".join(parts)

    def _verdict(self, found: Difference) -> str:
        clear = "a clear difference" if found.p < 0.05 else "no clear difference"
        interval = f"95 % {found.low:+.1f} to {found.high:+.1f}"
        return f"rSum differs by {found.rsum:+.1f} ({interval}, p = {found.p:.3f}): {clear}."


def measure(
    scores: Path,
    image_of_text: Path,
    against: Path | None = None,
    protocol: Protocol = "full",
    resamples: int = 2000,
    seed: int = 0,
) -> Report:
    """The metrics of the score matrix in a .npy file, with intervals; and of `against`, with the test between the two.

    Raises InputError, naming the file, where a file is not what it should be or the files do not belong together.
    """
    owners = read_image_of_text(image_of_text)
    found, parts = [], []
    for path in (scores, against) if against else (scores,):
        with _naming(path):
            matrix = read_matrix(path)
            parts.append(galleries(matrix, matches(matrix.shape, owners), protocol))
        found.append(Measured(os.fspath(path), summary(parts[-1]), intervals(parts[-1], resamples, seed)))
    if against is None:
        return Report(protocol, resamples, found[0])
    return Report(protocol, resamples, found[0], found[1], difference(parts[0], parts[1], resamples, seed))


def intervals(parts: tuple[Ranks, ...], resamples: int = 2000, seed: int = 0) -> Intervals:
    """Percentile intervals of the recalls of one gallery, or of the mean of several: of `regard.metrics.galleries`."""
    drawn = _resampled([parts], resamples, seed)[0]
    by_name = dict(zip(RECALLS, (_interval(values) for values in drawn.T), strict=True))
    i2t, t2i = ({level: by_name[way, level] for level in ("r1", "r5", "r10")} for way in ("i2t", "t2i"))
    return Intervals(i2t, t2i, _interval(drawn.sum(1)))


def difference(ours: tuple[Ranks, ...], theirs: tuple[Ranks, ...], resamples: int = 2000, seed: int = 0) -> Difference:
    """The paired test: the same draw of images for both, so that what is hard for both cancels.

    Raises InputError where the two are not of the same images and texts.
    """
    same = len(ours) == len(theirs) and all(
        np.array_equal(one.image_of_text, other.image_of_text) for one, other in zip(ours, theirs, strict=True)
    )
    if not same:
        raise InputError("The two score matrices are not of the same images and texts: a paired test needs that.")
    first, second = _resampled([ours, theirs], resamples, seed).sum(2)
    drawn = np.round(first - second, 9)  # equal sums may differ in the last bit
    sides = min((drawn <= 0).sum(), (drawn >= 0).sum())
    interval = _interval(drawn)
    rsum = summary(ours).rsum - summary(theirs).rsum
    return Difference(rsum, interval.low, interval.high, min(1.0, float(2 * (1 + sides) / (1 + resamples))))


def read_matrix(path: Path) -> np.ndarray:
    """A score matrix of [image, text] from a .npy file, memory-mapped. Raises InputError where it is none."""
    scores = _mapped(path)
    if scores.ndim != 2:
        raise InputError(f"{path} has the shape {list(scores.shape)}: want a matrix of [image, text] scores.")
    if scores.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{path} is of dtype {scores.dtype}: want scores in float16, float32 or float64.")
    return scores


def read_image_of_text(path: Path) -> Int[np.ndarray, " text"]:
    """The image row of each text from a .npy file. Raises InputError where it is no vector of integers."""
    image_of_text = _mapped(path)
    if image_of_text.ndim != 1 or image_of_text.dtype.kind not in "iu":
        raise InputError(
            f"{path} holds {image_of_text.dtype} of shape {list(image_of_text.shape)}: "
            "want a vector of integers, the image row of each text (numpy.arange(texts) // 5, say)."
        )
    return np.array(image_of_text, np.int64)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as an array ({error}): want what numpy.save writes, whole, without Python objects."
        ) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if str(error).startswith(os.fspath(path)):
            raise
        raise InputError(f"{path}: {error}") from error


def _resampled(
    matrices: Sequence[tuple[Ranks, ...]], resamples: int, seed: int
) -> Float[np.ndarray, "matrix resample recall"]:
    """The six recalls of each matrix under the same draws of images, in the order of RECALLS, in percent."""
    rng = np.random.default_rng(seed)
    folds = []
    for parts in zip(*matrices, strict=True):
        hits = np.stack([_hits(part) for part in parts])
        size = hits.shape[1]
        draws = (np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(resamples))
        sums = np.stack([draw @ hits for draw in draws], axis=1)
        queries = sums[..., [6, 6, 6, 7, 7, 7]]
        folds.append(100 * sums[..., :6] / queries)
    return np.mean(folds, axis=0)


def _hits(part: Ranks) -> Int[np.ndarray, "image 8"]:
    """Of each image: its three hits, its texts' three, how many images it is (one) and how many texts it has."""
    size = len(part.i2t)
    levels = (1, 5, 10, np.inf)
    of_image = [np.ones(size, int) * (part.i2t <= level) for level in levels]
    of_texts = [np.bincount(part.image_of_text[part.t2i <= level], minlength=size) for level in levels]
    return np.stack([*of_image[:3], *of_texts[:3], of_image[3], of_texts[3]], axis=1)


def _interval(values: Float[np.ndarray, " resample"]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))


def _table(measured: Measured, resamples: int) -> str:
    found = measured.intervals
    lines = [measured.name, render(measured.recalls), "", f"95 % intervals, {resamples} draws of the images"]
    for name, way in (("image to text", found.i2t), ("text to image", found.t2i)):
        spans = "   ".join(f"R@{level[1:]} {_span(interval)}" for level, interval in way.items())
        lines.append(f"{name:14}   {spans}")
    lines.append(f"{'rSum':14}   {_span(found.rsum)}")
    return "\n".join(lines)


def _span(interval: Interval) -> str:
    return f"{interval.low:5.1f} to {interval.high:5.1f}"
