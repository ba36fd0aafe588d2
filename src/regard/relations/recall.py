"""Quality of predicted relations: recall of annotated relations (PredCls), and calibration.

In PredCls (Lu et al. 2016, Xu et al. 2017), boxes and classes are given, and all relations of an image are ranked by
their probability. Ties count against the model.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard.files import InputError
from regard.relations.annotations import Annotations, pairs_of
from regard.relations.predictor import Predictor, fit

TOPS = (20, 50, 100)
PAIRS = 2**22  # probabilities in memory at a time


def found(
    scores: Float[Tensor, "image region region predicate"],
    annotated: Bool[Tensor, "image region region predicate"],
    tops: Sequence[int],
    constrained: bool = True,
) -> Int[Tensor, "image top"]:
    """Count each image's annotated relations among its `tops` best scored ones.

    A score below 0 is not a candidate. `constrained`: only the best predicate of a pair is a candidate (graph
    constraint).
    """
    if constrained:
        best = scores.amax(-1, keepdim=True)
        tied = scores == best
        annotated = (tied & annotated).any(-1) & ~(tied & ~annotated).any(-1)
        scores = best[..., 0]
    scores, annotated = scores.flatten(1), annotated.flatten(1)
    best = scores.topk(min(max(tops), scores.shape[1])).values
    out = []
    for top in tops:
        last = best[:, min(top, best.shape[1]) - 1, None]
        level = (scores == last) & (last >= 0)
        room = (
            top - (scores > last).sum(1) - (level & ~annotated).sum(1)
        )  # among equal scores, annotated relations come last
        out.append((annotated & (scores > last)).sum(1) + room.clamp(min=0).minimum((level & annotated).sum(1)))
    return torch.stack(out, 1)


def calibration_error(sure: Float[Tensor, " answer"], right: Bool[Tensor, " answer"], bins: int = 15) -> float:
    """Return the expected calibration error (Naeini et al. 2015) between confidence and accuracy, with equal bins."""
    bin_of = (sure * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, bin_of, sure.double() - right.double())
    return float(gaps.abs().sum() / max(len(sure), 1))


@dataclass(frozen=True)
class Recall:
    """Recall in percent, by the number of top relations per image."""

    mean: dict[int, float]  # over images
    total: dict[int, float]  # of all relations together


@dataclass(frozen=True)
class PredicateMetrics:
    """The metrics of a predictor on annotated images. Expected calibration errors are in percent."""

    images: int  # that have relations
    relations: int
    constrained: Recall  # one predicate per pair
    free: Recall  # any number
    related_error: float  # calibration error of P(some relation), over all pairs
    predicate_error: float  # of the best predicate's P given some relation, over related pairs

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(predictor: Predictor, images: Annotations, rows: np.ndarray | None = None) -> PredicateMetrics:
    """Measure PredCls on the images at `rows` (by default all), whose names are numbered like those of the predictor.

    Images without relations count for calibration only. Raises InputError if no image has relations.
    """
    if not len(images.relations):
        raise InputError(f"{images}: expected relations whose names the predictor has.")
    rows, parts = np.arange(len(images)) if rows is None else rows, []
    for block in images.blocks(rows, PAIRS // len(predictor.predicates)):
        probabilities, pairs = predictor.probabilities(block.boxes, block.labels), pairs_of(block.labels)
        answers = block.answers(len(predictor.predicates) - 1)
        scores = probabilities[..., 1:].masked_fill(~pairs[..., None], -1)
        hits = torch.stack([found(scores, answers, TOPS, constrained) for constrained in (True, False)], 1)
        related, (best, which) = scores[pairs].sum(-1), scores[pairs].max(-1)
        answered = answers[pairs]
        some = answered.any(-1)
        right = answered.gather(1, which[:, None])[some, 0]
        parts.append((hits, answers.flatten(1).sum(1), related, some, (best / related.clamp(min=1e-30))[some], right))
    hits, counts, related, some, sure, right = (torch.cat(columns) for columns in zip(*parts, strict=True))
    hits, counts = hits[counts > 0].double(), counts[counts > 0]
    mean, total = (hits / counts[:, None, None]).mean(0), hits.sum(0) / counts.sum()
    constrained, free = (
        Recall(*(dict(zip(TOPS, (100 * values).tolist(), strict=True)) for values in ways))
        for ways in zip(mean, total, strict=True)
    )
    errors = (100 * calibration_error(*answers) for answers in ((related, some), (sure, right)))
    return PredicateMetrics(len(counts), int(counts.sum()), constrained, free, *errors)


def measure_held_out(images: Annotations) -> dict[str, PredicateMetrics]:
    """Fit a predictor to nine tenths of the images and measure it on the rest, with simpler predictors beside it.

    Raises InputError for too few images.
    """
    rest, held = images.held_out_rows()
    has = np.isin(images.relations[:, 0], held)
    if not has.any() or has.all():
        raise InputError(f"{images}: too few to hold out one image in ten. Expected some dozens of images.")
    return {name: measure(rung, images, held) for name, rung in simpler_predictors(fit(images, rest)).items()}


def simpler_predictors(predictor: Predictor) -> dict[str, Predictor]:
    """Return the predictor and simpler ones: frequencies of predicates, and of predicates per pair of classes."""
    frequencies = replace(
        predictor, exponents=torch.ones_like(predictor.exponents), weights=torch.zeros_like(predictor.weights)
    )
    everywhere = replace(frequencies, strengths=torch.full_like(predictor.strengths, 1e12))
    return {"predicates alone": everywhere, "pairs of classes": frequencies, "with the boxes": predictor}


def render(rows: dict[str, PredicateMetrics]) -> str:
    """Return a table of recalls and calibration errors, in percent."""
    last = list(rows.values())[-1]
    tops = "".join(f"{f'R@{top}':>7}" for top in TOPS)
    lines = [
        f"PredCls recall in percent on {last.images:,} images with {last.relations:,} relations",
        f"{'':18}{'one predicate per pair':>21}   {'any number':>21}",
        f"{'':18}{tops}   {tops}",
    ]
    for name, row in rows.items():
        both = row.constrained, row.free
        for label, ways in ((name, [way.mean for way in both]), ("  all together", [way.total for way in both])):
            lines.append(f"{label:18}" + "   ".join("".join(f"{way[top]:7.1f}" for top in TOPS) for way in ways))
    lines.append(
        f"Expected calibration error: {last.related_error:.1f} of whether a pair is related, "
        f"{last.predicate_error:.1f} of which predicate"
    )
    return "\n".join(lines)
