"""Confidence intervals of recalls, and a paired test of two score matrices: the bootstrap over images.

Images are drawn with replacement together with their texts, because texts of one image are not independent. Ranks are
computed once, in the whole gallery, and drawn with their queries. So the intervals describe other queries of the same
kind, not galleries of another size. Folds are resampled separately, and the mean is taken over the folds.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile interval) and 16 (tests).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from regard.files import InputError
from regard.metrics import Protocol, Ranks, Recalls, check_image_of_text, galleries, render, summary

RECALLS = tuple((way, level) for way in ("i2t", "t2i") for level in ("r1", "r5", "r10"))
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Interval:
    """The range that contains 95 % of the resampled values."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """The 95 % intervals of the six recalls and of their sum, in percent."""

    i2t: dict[str, Interval]  # keys r1, r5, r10
    t2i: dict[str, Interval]
    rsum: Interval


@dataclass(frozen=True)
class Difference:
    """The rSum of one matrix minus that of another, on the same images and texts."""

    rsum: float
    low: float  # of the 95 % interval of the difference
    high: float
    p: float  # two-sided p-value: twice the share of resampled differences that are zero or have the other sign

    def render(self) -> str:
        """Return a line for the terminal."""
        clear = "a clear difference" if self.p < 0.05 else "no clear difference"
        interval = f"95 % {self.low:+.1f} to {self.high:+.1f}"
        return f"rSum differs by {self.rsum:+.1f} ({interval}, p = {self.p:.3f}): {clear}."


@dataclass(frozen=True)
class MeasuredScores:
    """The metrics of a score matrix, with their intervals."""

    name: str
    recalls: Recalls
    intervals: Intervals

    def to_dict(self) -> dict[str, Any]:
        return {**self.recalls.to_dict(), "ties": self.recalls.ties, "intervals": asdict(self.intervals)}


@dataclass(frozen=True)
class Comparison:
    """The metrics of one score matrix or of two, and the test between them: the result of `regard metrics`."""

    protocol: Protocol
    resamples: int
    scores: MeasuredScores
    against: MeasuredScores | None = None
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return `Recalls.to_dict` of the scores, with ties, intervals and the comparison."""
        values = {**self.scores.to_dict(), "protocol": self.protocol, "resamples": self.resamples}
        if self.against and self.difference:
            values |= {"against": self.against.to_dict(), "difference": asdict(self.difference)}
        return values

    def render(self) -> str:
        """Return the tables for the terminal."""
        parts = [_table(self.scores, self.resamples)]
        if self.against and self.difference:
            parts += [_table(self.against, self.resamples), self.difference.render()]
        return "\n\n".join(parts)


def measure(
    scores: Path,
    image_of_text: Path,
    against: Path | None = None,
    protocol: Protocol = "full",
    resamples: int = 2000,
    seed: int = 0,
    text_to_image: Path | None = None,
) -> Comparison:
    """Measure the score matrix in a .npy file, with intervals; and `against`, with a paired test of the two.

    `text_to_image` is a second matrix [text, image] of the same model, by which texts rank images; the first one then
    ranks texts for images only. Re-rankers such as BLIP score each direction apart. Raises InputError, naming the file,
    if a file has the wrong content or the files do not belong together.
    """
    owners = read_image_of_text(image_of_text)
    measured, parts = [], []
    for path in (scores, against) if against else (scores,):
        with _naming(path):
            matrix = read_matrix(path)
            parts.append(galleries(matrix, check_image_of_text(matrix.shape, owners), protocol))
        if text_to_image and path is scores:
            with _naming(text_to_image):
                parts[-1] = _with_direction(parts[-1], read_matrix(text_to_image), matrix.shape, owners, protocol)
        measured.append(MeasuredScores(os.fspath(path), summary(parts[-1]), intervals(parts[-1], resamples, seed)))
    if against is None:
        return Comparison(protocol, resamples, measured[0])
    return Comparison(protocol, resamples, measured[0], measured[1], difference(parts[0], parts[1], resamples, seed))


def _with_direction(
    parts: tuple[Ranks, ...], matrix: np.ndarray, shape: tuple[int, ...], owners: np.ndarray, protocol: Protocol
) -> tuple[Ranks, ...]:
    """Return the ranks with those of texts replaced by the ranks of a matrix [text, image]."""
    if matrix.shape != shape[::-1]:
        raise InputError(f"The scores are {list(matrix.shape)}: expected {list(shape[::-1])}, [text, image].")
    others = galleries(matrix.T, owners, protocol)
    pairs = zip(parts, others, strict=True)
    return tuple(replace(part, t2i=other.t2i, t2i_ties=other.t2i_ties) for part, other in pairs)


def intervals(parts: tuple[Ranks, ...], resamples: int = 2000, seed: int = 0) -> Intervals:
    """Return the percentile intervals of the recalls of one gallery, or of the mean over several (`galleries`)."""
    drawn = _resampled([parts], resamples, seed)[0]
    by_name = dict(zip(RECALLS, (interval_of(values) for values in drawn.T), strict=True))
    i2t, t2i = ({level: by_name[way, level] for level in ("r1", "r5", "r10")} for way in ("i2t", "t2i"))
    return Intervals(i2t, t2i, interval_of(drawn.sum(1)))


def difference(ours: tuple[Ranks, ...], theirs: tuple[Ranks, ...], resamples: int = 2000, seed: int = 0) -> Difference:
    """Test the difference of two rSums, with the same draws of images for both, so that common difficulty cancels.

    Raises InputError if the two do not rank the same images and texts.
    """
    same = len(ours) == len(theirs) and all(
        np.array_equal(one.image_of_text, other.image_of_text) for one, other in zip(ours, theirs, strict=True)
    )
    if not same:
        raise InputError("The two score matrices belong to different images or texts: a paired test needs the same.")
    first, second = _resampled([ours, theirs], resamples, seed).sum(2)
    drawn = np.round(first - second, 9)  # equal sums may differ in the last bit
    span = interval_of(drawn)
    rsum = summary(ours).rsum - summary(theirs).rsum
    return Difference(rsum, span.low, span.high, p_value_of(drawn))


def interval_of(drawn: Float[np.ndarray, " resample"], level: float = 0.95) -> Interval:
    """Return the interval of the middle `level` of the resampled values."""
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(low), float(high))


def p_value_of(drawn: Float[np.ndarray, " resample"]) -> float:
    """Return the two-sided p-value of resampled differences: see Difference."""
    sides = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, float(2 * (1 + sides) / (1 + len(drawn))))


def read_matrix(path: Path) -> np.ndarray:
    """Open the score matrix [image, text] of a .npy file, memory-mapped. Raises InputError if it is not one."""
    scores = _mapped(path)
    if scores.ndim != 2:
        raise InputError(f"{path} has the shape {list(scores.shape)}: expected a matrix of [image, text] scores.")
    if scores.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{path} has the dtype {scores.dtype}: expected float16, float32 or float64.")
    return scores


def read_image_of_text(path: Path) -> Int[np.ndarray, " text"]:
    """Read the image row of each text from a .npy file. Raises InputError if it is not a vector of integers."""
    image_of_text = _mapped(path)
    if image_of_text.ndim != 1 or image_of_text.dtype.kind not in "iu":
        raise InputError(
            f"{path} contains {image_of_text.dtype} of shape {list(image_of_text.shape)}: expected a vector of "
            "integers, the image row of each text (for example numpy.arange(num_texts) // 5)."
        )
    return np.array(image_of_text, np.int64)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    except Exception as error:  # the header is text of Python, and numpy raises anything for what is not
        raise InputError(
            f"{path} cannot be read as an array ({error}): expected a complete file written by numpy.save, without "
            "Python objects."
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
    """The six recalls of each matrix in percent, in the order of RECALLS, under the same draws of images."""
    rng = np.random.default_rng(seed)
    folds = []
    for parts in zip(*matrices, strict=True):
        hits = np.stack([hits_of(part) for part in parts])
        size = hits.shape[1]
        draws = (np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(resamples))
        sums = np.stack([draw @ hits for draw in draws], axis=1)
        queries = sums[..., [6, 6, 6, 7, 7, 7]]
        folds.append(100 * sums[..., :6] / queries)
    return np.mean(folds, axis=0)


def hits_of(
    part: Ranks,
    images: Bool[np.ndarray, " image"] | np.bool = np.True_,
    texts: Bool[np.ndarray, " text"] | np.bool = np.True_,
) -> Int[np.ndarray, "image 8"]:
    """Return for each image: its hits at 1, 5 and 10, those of its texts, and the numbers of queries of both.

    The queries are all images and texts, or those that `images` and `texts` mark.
    """
    size = len(part.i2t)
    levels = (1, 5, 10, np.inf)
    of_image = [(images & (part.i2t <= level)).astype(int) for level in levels]
    of_texts = [np.bincount(part.image_of_text[texts & (part.t2i <= level)], minlength=size) for level in levels]
    return np.stack([*of_image[:3], *of_texts[:3], of_image[3], of_texts[3]], axis=1)


def _table(measured: MeasuredScores, resamples: int) -> str:
    spread = measured.intervals
    lines = [measured.name, render(measured.recalls), "", f"95 % intervals, {resamples} draws of the images"]
    for name, way in (("image to text", spread.i2t), ("text to image", spread.t2i)):
        spans = "   ".join(f"R@{level[1:]} {_span(interval)}" for level, interval in way.items())
        lines.append(f"{name:14}   {spans}")
    lines.append(f"{'rSum':14}   {_span(spread.rsum)}")
    return "\n".join(lines)


def _span(interval: Interval) -> str:
    return f"{interval.low:5.1f} to {interval.high:5.1f}"
