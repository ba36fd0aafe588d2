"""Retrieval metrics of a score matrix: ranks and recalls, image to text and text to image.

All functions take a score matrix and `image_of_text`, so they measure the scores of any model, memory-mapped or not.
Ties count against the model: a constant score gets the last place, never the first. NaN is refused.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.files import InputError, nearest

Array = np.ndarray | Tensor
Protocol = Literal["full", "5fold"]
FOLDS = {"full": 1, "5fold": 5}
COLUMNS = ("R@1", "R@5", "R@10", "median", "mean")  # of a table of Recalls
BLOCK = 1 << 22  # scores compared at a time


@dataclass(frozen=True)
class Ranks:
    """The rank, from 1, of each query's best match in its gallery; ties with non-matches count against the query."""

    i2t: Int[np.ndarray, " image"]  # rank of the best of the image's own texts
    t2i: Int[np.ndarray, " text"]  # rank of the text's image
    image_of_text: Int[np.ndarray, " text"]
    i2t_ties: int  # images whose best match has the same score as a non-match
    t2i_ties: int  # texts whose image has the same score as another

    @property
    def ties(self) -> int:
        """The number of tied queries."""
        return self.i2t_ties + self.t2i_ties


@dataclass(frozen=True)
class Direction:
    """The metrics of one direction: recalls in percent, ranks from 1."""

    r1: float
    r5: float
    r10: float
    medr: float
    meanr: float


@dataclass(frozen=True)
class Recalls:
    """The seven metrics, and median and mean rank. With folds, each value is the mean over the folds."""

    i2t: Direction
    t2i: Direction
    rsum: float  # r1 + r5 + r10 of both directions, at most 600
    ties: int  # tied queries of all folds together
    folds: tuple["Recalls", ...] = ()

    def to_dict(self) -> dict[str, dict[str, float] | float]:
        return {"i2t": asdict(self.i2t), "t2i": asdict(self.t2i), "rsum": self.rsum}

    def _repr_html_(self) -> str:
        """The table of `render` as HTML, which a notebook shows. Its colours are those of the notebook's theme."""
        head = "<td></td>" + "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
        rows = ""
        for name, way in (("image to text", self.i2t), ("text to image", self.t2i)):
            cells = "".join(f"<td>{value:.1f}</td>" for value in (way.r1, way.r5, way.r10, way.medr, way.meanr))
            rows += f'<tr><th scope="row">{name}</th>{cells}</tr>'
        notes = render(self).splitlines()[3:]  # of rSum, of folds and of ties
        table = f'<table style="text-align: right"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        return table + "".join(f"<p>{note}</p>" for note in notes)


def recalls(
    scores: Float[Array, "image text"], image_of_text: Int[Array, " text"], protocol: Protocol = "full"
) -> Recalls:
    """Return the recalls of a score matrix. `5fold` is the mean over five galleries, the 1K protocol of MS-COCO.

    Raises InputError as `galleries` does.
    """
    return summary(galleries(scores, image_of_text, protocol))


def galleries(
    scores: Float[Array, "image text"], image_of_text: Int[Array, " text"], protocol: Protocol = "full"
) -> tuple[Ranks, ...]:
    """Return the ranks in each gallery of a protocol: the whole matrix, or five consecutive folds of images.

    Each fold contains its own texts only. Raises InputError for NaN, for a number of images that five does not divide,
    and for an `image_of_text` that does not fit the scores.
    """
    if protocol not in FOLDS:
        raise InputError(f"There is no protocol {protocol!r}. {nearest(protocol, FOLDS)}")
    folds, (num_images, _) = FOLDS[protocol], scores.shape
    if folds == 1:
        return (ranks(scores, image_of_text),)
    if num_images % folds:
        raise InputError(f"{num_images} images cannot be divided into {folds} equal folds: use the protocol full.")

    image_of_text = check_image_of_text(scores.shape, image_of_text)
    refuse_nan(scores)
    size, parts = num_images // folds, []
    for first in range(0, num_images, size):
        texts = np.flatnonzero((image_of_text >= first) & (image_of_text < first + size))
        parts.append(ranks(scores[first : first + size][:, texts], image_of_text[texts] - first))
    return tuple(parts)


def ranks(scores: Float[Array, "image text"], image_of_text: Int[Array, " text"]) -> Ranks:
    """Return the ranks of one gallery: 1 + the number of non-matches that score at least as high as the best match.

    `image_of_text` contains the image of each text. Images may have any number of texts, and another text of the same
    image never counts as a wrong answer. The matrix is read in blocks of images, so it may be memory-mapped. Infinite
    scores are allowed. Raises InputError for NaN, and for an `image_of_text` that does not fit the scores.
    """
    image_of_text = check_image_of_text(scores.shape, image_of_text)
    refuse_nan(scores)

    num_images, num_texts = scores.shape
    owner = torch.from_numpy(image_of_text)
    own = torch.as_tensor(scores[image_of_text, np.arange(num_texts)])  # the score of each text with its image
    owner = owner.to(own.device)
    best = own.new_full((num_images,), -torch.inf).scatter_reduce(0, owner, own, "amax")
    own_at_best = torch.bincount(owner[own == best[owner]], minlength=num_images)

    i2t_above, i2t_level = torch.zeros_like(own_at_best), torch.zeros_like(own_at_best)
    t2i_above, t2i_level = torch.zeros_like(owner), torch.zeros_like(owner)
    for first, block in _blocks(scores):
        here = slice(first, first + len(block))
        i2t_above[here] = (block > best[here, None]).sum(1)
        i2t_level[here] = (block == best[here, None]).sum(1)
        t2i_above += (block > own).sum(0)
        t2i_level += (block == own).sum(0)

    i2t_level -= own_at_best
    t2i_level -= 1
    ties = int((i2t_level > 0).sum()), int((t2i_level > 0).sum())
    i2t, t2i = 1 + i2t_above + i2t_level, 1 + t2i_above + t2i_level
    return Ranks(i2t.cpu().numpy(), t2i.cpu().numpy(), image_of_text, *ties)


def summary(parts: tuple[Ranks, ...]) -> Recalls:
    """Return the recalls of one gallery, or the mean over several."""
    folds = tuple(_one_gallery(part) for part in parts)
    if len(folds) == 1:
        return folds[0]
    i2t, t2i = _mean([fold.i2t for fold in folds]), _mean([fold.t2i for fold in folds])
    return Recalls(i2t, t2i, _rsum(i2t, t2i), sum(fold.ties for fold in folds), folds)


def check_image_of_text(shape: tuple[int, ...], image_of_text: Int[Array, " given"]) -> Int[np.ndarray, " given"]:
    """Return `image_of_text` as an int64 array, checked against the shape of the scores.

    Raises InputError unless it has one image row for each text, and each image has at least one text.
    """
    num_images, num_texts = shape
    image_of_text = image_of_text.cpu().numpy() if isinstance(image_of_text, Tensor) else image_of_text
    image_of_text = np.array(image_of_text, np.int64)
    if len(image_of_text) != num_texts:
        transposed = "; the scores look transposed" if len(image_of_text) == num_images else ""
        raise InputError(
            f"The scores are {num_images} by {num_texts} and image_of_text has {len(image_of_text)} entries: "
            f"expected scores of [image, text] and one image row for each text{transposed}."
        )
    outside = np.flatnonzero((image_of_text < 0) | (image_of_text >= num_images))
    if len(outside):
        raise InputError(
            f"{len(outside)} texts point outside the {num_images} images, first text {outside[0]} "
            f"(to image {image_of_text[outside[0]]}): expected image rows from 0 to {num_images - 1}."
        )
    alone = np.flatnonzero(np.bincount(image_of_text, minlength=num_images) == 0)
    if len(alone) or not num_images:
        first = f" (first: row {alone[0]})" if len(alone) else ""
        raise InputError(f"{len(alone)} of {num_images} images have no text{first}: each image needs at least one.")
    return image_of_text


def refuse_nan(scores: Float[Array, "image text"]) -> None:
    """Raise InputError if any score is NaN, which would be sorted first."""
    count, where = 0, ""
    for first, block in _blocks(scores):
        if not block.amax().isnan():  # the maximum is NaN where any score is
            continue
        places = block.isnan().nonzero()
        where = where or f"image {first + int(places[0, 0])}, text {int(places[0, 1])}"
        count += len(places)
    if count:
        raise InputError(f"{count} scores are NaN, the first at {where}: they cannot be ranked. Check the model.")


def seven(measured: Recalls) -> list[float]:
    """Return the seven metrics: R@1, R@5 and R@10 in both directions, and rSum."""
    ways = (measured.i2t, measured.t2i)
    return [*(value for way in ways for value in (way.r1, way.r5, way.r10)), measured.rsum]


def render(recalls: Recalls) -> str:
    """Return a small table for the terminal."""
    lines = [f"{'':14}{'R@1':>7}{'R@5':>7}{'R@10':>7}{'median':>8}{'mean':>8}"]
    for name, way in (("image to text", recalls.i2t), ("text to image", recalls.t2i)):
        lines.append(f"{name:14}{way.r1:7.1f}{way.r5:7.1f}{way.r10:7.1f}{way.medr:8.1f}{way.meanr:8.1f}")
    lines.append(f"{'rSum':14}{recalls.rsum:7.1f}")
    if recalls.folds:
        lines[-1] += "   mean over the folds " + " ".join(f"{fold.rsum:.1f}" for fold in recalls.folds)
    if recalls.ties:
        lines.append(f"{recalls.ties} queries tie with a wrong answer; ties count against the model.")
    return "\n".join(lines)


def _blocks(scores: Array) -> Iterator[tuple[int, Tensor]]:
    """Blocks of whole rows, each with its first row. The rows of a memory map are copied, one block at a time."""
    rows = max(1, BLOCK // scores.shape[1])
    for first in range(0, len(scores), rows):
        block = scores[first : first + rows]
        yield first, block if isinstance(block, Tensor) else torch.from_numpy(np.array(block))


def _one_gallery(part: Ranks) -> Recalls:
    i2t, t2i = _direction(part.i2t), _direction(part.t2i)
    return Recalls(i2t, t2i, _rsum(i2t, t2i), part.ties)


def _direction(ranks: Int[np.ndarray, " query"]) -> Direction:
    r1, r5, r10 = (float(100 * (ranks <= k).sum() / len(ranks)) for k in (1, 5, 10))
    median = float(np.floor(np.median(ranks - 1)) + 1)  # as in the field: of ranks from 0, rounded down
    return Direction(r1, r5, r10, median, float(ranks.mean()))


def _rsum(i2t: Direction, t2i: Direction) -> float:
    return math.fsum((i2t.r1, i2t.r5, i2t.r10, t2i.r1, t2i.r5, t2i.r10))


def _mean(ways: list[Direction]) -> Direction:
    return Direction(**{name: fmean(getattr(way, name) for way in ways) for name in asdict(ways[0])})
