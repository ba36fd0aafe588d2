"""The cascade: every pair by one product of summary vectors, and exact scores for each query's best alone."""

import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regard.batch import Fragments
from regard.data import Split
from regard.encode import encode
from regard.files import InputError
from regard.matcher import Matcher
from regard.metrics import Recalls, recalls
from regard.runtime import fast_products, inner
from regard.score import NUMBERS, block_of, score_all

WITHIN = 0.1  # what a metric may differ by from the exhaustive one's, in points


@dataclass(frozen=True)
class Cascade:
    """What a shortlist of `count` texts an image and images a text gives, beside all pairs."""

    count: int
    recalls: Recalls
    exhaustive: Recalls | None
    shortlist_i2t: float  # the share of images of which a text is scored exactly, in percent: what bounds the recalls
    shortlist_t2i: float
    work: float  # the pairs scored exactly, as a part of all
    seconds: float  # of summaries and exact scores
    exhaustive_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        row = {key: value for key, value in vars(self).items() if not isinstance(value, Recalls)}
        row |= {"speedup": self.speedup, **self.recalls.to_dict()}
        return row | ({"exhaustive": self.exhaustive.to_dict()} if self.exhaustive else {})

    def render(self) -> str:
        """A small table for the terminal."""
        lines = [f"{'':18}" + "".join(f"{name:>7}" for name in ("R@1", "R@5", "R@10", "R@1", "R@5", "R@10", "rSum"))]
        for name, found in (("all pairs", self.exhaustive), (f"shortlist of {self.count}", self.recalls)):
            if found is not None:
                lines.append(f"{name:18}" + "".join(f"{value:7.1f}" for value in seven(found)))
        lines.append(
            f"On the lists: for {self.shortlist_i2t:.1f} % of images a sentence of theirs, "
            f"for {self.shortlist_t2i:.1f} % of sentences their image."
        )
        speed = f", {self.speedup:.1f} times faster than all pairs" if self.speedup else ""
        lines.append(f"Scored exactly: 1 of {1 / self.work:.1f} pairs, in {self.seconds:.2f} s{speed}.")
        return "\n".join(lines)

    @property
    def speedup(self) -> float | None:
        return None if self.exhaustive_seconds is None else self.exhaustive_seconds / self.seconds


def listed(summaries: Float[Tensor, "image text"], count: int) -> Bool[Tensor, "image text"]:
    """The pairs to score exactly: the `count` best texts of each image and the `count` best images of each text."""
    found = torch.zeros_like(summaries, dtype=torch.bool)
    found.scatter_(1, summaries.topk(min(count, summaries.shape[1]), 1).indices, True)
    return found.scatter_(0, summaries.topk(min(count, summaries.shape[0]), 0).indices, True)


def joined(
    summaries: Float[Tensor, "image text"], exact: Float[Tensor, "image text"], pairs: Bool[Tensor, "image text"]
) -> Float[Tensor, "image text"]:
    """One matrix to rank by: the pairs listed by their exact scores, and under all of them the others by summary."""
    if not pairs.any():
        return summaries
    low, high = float(exact[pairs].min()), float(summaries.max())
    return torch.where(pairs, exact, summaries - high + low - 1)


@torch.inference_mode()
def exact_scores(
    model: Matcher, images: Any, texts: Any, pairs: Bool[Tensor, "image text"]
) -> Float[Tensor, "image text"]:
    """The scores of the pairs asked for; 0 elsewhere. Texts of like length go together."""
    scores = torch.zeros(pairs.shape)
    order = texts.lengths().argsort() if isinstance(texts, Fragments) else torch.arange(len(texts))
    _, columns = block_of(model, images[:1], texts, NUMBERS[order.device.type])
    with fast_products():
        for image in range(len(images)):
            mine = order[pairs[image, order.cpu()].to(order.device)]
            for at in mine.split(columns):
                some = texts[at].trimmed() if isinstance(texts, Fragments) else texts[at]
                scores[image, at.cpu()] = model.score(images[image : image + 1], some)[0].float().cpu()
    return scores


@torch.inference_mode()
def cascade(model: Matcher, split: Split, count: int, exhaustive: bool = True) -> Cascade:
    """Measure a model on a split by a shortlist of `count`, and by all pairs beside it.

    Raises InputError for a `count` below 1, and where the split lacks what the model needs.
    """
    if count < 1:
        raise InputError(f"A shortlist of {count}: want at least 1, or auto.")
    images, texts = (model.scored(side) for side in encode(model, split))
    began = time.perf_counter()
    summaries = summary_scores(images, texts)
    pairs = listed(summaries, count)
    scores = joined(summaries, exact_scores(model, images, texts, pairs), pairs)
    took = time.perf_counter() - began
    every, every_took = None, None
    if exhaustive:
        began = time.perf_counter()
        every_scores = score_all(model, images, texts)
        every_took = time.perf_counter() - began
        every = recalls(every_scores.numpy(), split.image_of_text)
    i2t, t2i = coverage(pairs, split.image_of_text)
    found = recalls(scores.numpy(), split.image_of_text)
    return Cascade(count, found, every, i2t, t2i, float(pairs.float().mean()), took, every_took)


@torch.inference_mode()
def smallest(model: Matcher, split: Split) -> int:
    """The shortest list that keeps each of the seven metrics of a split within 0.1 of exhaustive.

    Found by bisection: if a list does, a longer one is taken to do so too.
    """
    images, texts = (model.scored(side) for side in encode(model, split))
    summaries, exact = summary_scores(images, texts), score_all(model, images, texts)
    wanted = seven(recalls(exact.numpy(), split.image_of_text))

    def does(count: int) -> bool:
        found = recalls(joined(summaries, exact, listed(summaries, count)).numpy(), split.image_of_text)
        return all(abs(a - b) <= WITHIN + 1e-9 for a, b in zip(seven(found), wanted, strict=True))

    return bisect_left(range(max(exact.shape)), True, lo=1, key=does)


def seven(found: Recalls) -> list[float]:
    """The seven metrics."""
    return [*(value for way in (found.i2t, found.t2i) for value in (way.r1, way.r5, way.r10)), found.rsum]


def summary_scores(images: Any, texts: Any) -> Float[Tensor, "image text"]:
    with fast_products():
        return inner(images.summary(), texts.summary()).cpu()


def coverage(pairs: Bool[Tensor, "image text"], image_of_text: np.ndarray) -> tuple[float, float]:
    """The percentage of images of which a text is listed with them; of texts, of their image."""
    match = torch.from_numpy(np.arange(len(pairs))[:, None] == image_of_text)
    found = pairs & match
    return 100 * float(found.any(1)[match.any(1)].float().mean()), 100 * float(found.any(0).float().mean())
