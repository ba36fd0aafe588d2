"""The cascade: a shortlist for each query by one product of summary vectors, then exact scores of the shortlist."""

import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regard import ranks
from regard.batch import to_device
from regard.data import Split
from regard.encode import check_inputs, encode_images, encode_texts
from regard.evaluation.evaluate import encode_divided, score_divided
from regard.files import InputError
from regard.matcher import Matcher
from regard.metrics import Recalls, recalls, seven
from regard.runtime import fast_products, inner
from regard.score import NUMBERS, block_of

TOLERANCE = 0.1  # percentage points that a metric may differ from the one over all pairs


@dataclass(frozen=True)
class Cascade:
    """The metrics with a shortlist of `count` texts per image and images per text, beside those over all pairs."""

    count: int
    recalls: Recalls
    exhaustive: Recalls | None
    shortlist_i2t: float  # percentage of images whose shortlist contains a text of theirs: an upper bound of R@K
    shortlist_t2i: float  # percentage of texts whose shortlist contains their image
    work: float  # pairs scored exactly, as a fraction of all pairs
    seconds: float  # for summary vectors and exact scores
    exhaustive_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        row = {key: value for key, value in vars(self).items() if not isinstance(value, Recalls)}
        row |= {"speedup": self.speedup, **self.recalls.to_dict()}
        return row | ({"exhaustive": self.exhaustive.to_dict()} if self.exhaustive else {})

    def render(self) -> str:
        """Return a small table for the terminal."""
        lines = [f"{'':18}" + "".join(f"{name:>7}" for name in ("R@1", "R@5", "R@10", "R@1", "R@5", "R@10", "rSum"))]
        for name, measured in (("all pairs", self.exhaustive), (f"shortlist of {self.count}", self.recalls)):
            if measured is not None:
                lines.append(f"{name:18}" + "".join(f"{value:7.1f}" for value in seven(measured)))
        lines.append(
            f"The shortlist contains a matching sentence for {self.shortlist_i2t:.1f} % of the images, "
            f"and the matching image for {self.shortlist_t2i:.1f} % of the sentences."
        )
        speed = f", {self.speedup:.1f} times faster than all pairs" if self.speedup else ""
        lines.append(f"Scored exactly: 1 of every {1 / self.work:.1f} pairs, in {self.seconds:.2f} s{speed}.")
        return "\n".join(lines)

    @property
    def speedup(self) -> float | None:
        return None if self.exhaustive_seconds is None else self.exhaustive_seconds / self.seconds


def shortlisted_pairs(summaries: Float[Tensor, "image text"], count: int) -> Bool[Tensor, "image text"]:
    """Return which pairs to score exactly: the `count` best texts of each image and best images of each text."""
    pairs = torch.zeros_like(summaries, dtype=torch.bool)
    pairs.scatter_(1, summaries.topk(min(count, summaries.shape[1]), 1).indices, True)
    return pairs.scatter_(0, summaries.topk(min(count, summaries.shape[0]), 0).indices, True)


def merged_scores(
    summaries: Float[Tensor, "image text"], exact: Float[Tensor, "image text"], pairs: Bool[Tensor, "image text"]
) -> Float[Tensor, "image text"]:
    """Return one matrix to rank by: exact scores for `pairs`, and below all of them the other pairs by summary."""
    if not pairs.any():
        return summaries
    low, high = float(exact[pairs].min()), float(summaries.max())
    return torch.where(pairs, exact, summaries - high + low - 1)


@torch.inference_mode()
def exact_scores(
    model: Matcher, images: Any, texts: Any, pairs: Bool[Tensor, "image text"]
) -> Float[Tensor, "image text"]:
    """Return the scores of `pairs`, and 0 elsewhere. Texts of similar length are scored together.

    Several processes have some images each.
    """
    order = texts.lengths().argsort(stable=True)
    device = next(iter(texts.tensors().values())).device
    own = torch.arange(len(images)).tensor_split(ranks.world())[ranks.rank()].tolist()
    scores = torch.zeros(len(own), len(texts), device=device)
    _, columns = block_of(model, images[:1], texts, NUMBERS[device.type])
    with fast_products():
        for row, image in enumerate(own):
            for places in order[pairs[image, order]].split(columns):
                some = texts[places].trimmed()
                scores[row, to_device(places, device)] = model.score(images[image : image + 1], some)[0].float()
    return ranks.gather_tensors([scores.cpu()])[0]


@torch.inference_mode()
def cascade(model: Matcher, split: Split, count: int, exhaustive: bool = True) -> Cascade:
    """Measure a model on a split with shortlists of `count` and, if `exhaustive`, over all pairs too.

    Raises InputError for a `count` below 1, and if the split lacks what the model needs.
    """
    if count < 1:
        raise InputError(f"A shortlist of {count} is too short: give at least 1, or auto.")
    images, texts = _encode(model, split)
    began = time.perf_counter()
    summaries = summary_scores(images, texts)
    pairs = shortlisted_pairs(summaries, count)
    scores = merged_scores(summaries, exact_scores(model, images, texts, pairs), pairs)
    seconds = time.perf_counter() - began
    all_pairs, all_seconds = None, None
    if exhaustive:
        began = time.perf_counter()
        all_scores = _all_scores(model, images, texts)
        all_seconds = time.perf_counter() - began
        all_pairs = recalls(all_scores.numpy(), split.image_of_text)
    i2t, t2i = coverage(pairs, split.image_of_text)
    with_shortlist = recalls(scores.numpy(), split.image_of_text)
    work = float(pairs.float().mean())
    return Cascade(count, with_shortlist, all_pairs, i2t, t2i, work, seconds, all_seconds)


@torch.inference_mode()
def smallest_shortlist(model: Matcher, split: Split) -> int:
    """Return the length of the shortest shortlist that keeps each of the seven metrics within 0.1 of all pairs.

    It is found by bisection, assuming that a longer shortlist is never worse. Raises InputError if the split lacks what
    the model needs.
    """
    images, texts = _encode(model, split)
    summaries, exact = summary_scores(images, texts), _all_scores(model, images, texts)
    exhaustive = seven(recalls(exact.numpy(), split.image_of_text))

    def is_enough(count: int) -> bool:
        scores = merged_scores(summaries, exact, shortlisted_pairs(summaries, count))
        metrics = seven(recalls(scores.numpy(), split.image_of_text))
        return all(abs(a - b) <= TOLERANCE + 1e-9 for a, b in zip(metrics, exhaustive, strict=True))

    return bisect_left(range(max(exact.shape)), True, lo=1, key=is_enough)


def _encode(model: Matcher, split: Split) -> tuple[Any, Any]:
    """The encodings of all images and texts. Raises InputError if the split lacks what the model needs."""
    ranks.together(lambda: check_inputs(model, split))
    images = encode_divided(lambda rows: encode_images(model, split, rows, model.for_scoring), split.num_images)
    texts = encode_divided(lambda rows: encode_texts(model, split, rows), split.num_texts)
    return images, model.for_scoring(texts)


def _all_scores(model: Matcher, images: Any, texts: Any) -> Float[Tensor, "image text"]:
    return score_divided(model, images, lambda rows: texts[rows], texts.lengths().argsort(stable=True).numpy())


def summary_scores(images: Any, texts: Any) -> Float[Tensor, "image text"]:
    """Return the inner products of the summary vectors of two encodings."""
    with fast_products():
        return inner(images.summary(), texts.summary()).cpu()


def coverage(pairs: Bool[Tensor, "image text"], image_of_text: np.ndarray) -> tuple[float, float]:
    """Return the percentage of images with a matching text among `pairs`, and of texts with their image."""
    matches = torch.from_numpy(np.arange(len(pairs))[:, None] == image_of_text)
    covered = pairs & matches
    return 100 * float(covered.any(1)[matches.any(1)].float().mean()), 100 * float(covered.any(0).float().mean())
