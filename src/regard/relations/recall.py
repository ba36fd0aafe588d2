"""Metrics of predicted relations: recall of annotated relations (PredCls), and calibration error.

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

TOPS = (20, 50, 100)  # the k of R@k
BLOCK = 2**22  # probabilities in memory at a time


def count_recalled(
    scores: Float[Tensor, "image region region predicate"],
    annotated: Bool[Tensor, "image region region predicate"],
    tops: Sequence[int],
    constrained: bool = True,
) -> Int[Tensor, "image top"]:
    """Return the number of annotated relations among the k best scored relations of each image, for each k in `tops`.

    A relation with a score below 0 is not a candidate. If `constrained`, only the best predicate of each pair is a
    candidate (the graph constraint). Among equal scores, annotated relations come last.
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
        above, tied = scores > last, (scores == last) & (last >= 0)
        places_left = top - above.sum(1) - (tied & ~annotated).sum(1)
        out.append((annotated & above).sum(1) + places_left.clamp(min=0).minimum((tied & annotated).sum(1)))
    return torch.stack(out, 1)


def calibration_error(
    confidence: Float[Tensor, " prediction"], correct: Bool[Tensor, " prediction"], bins: int = 15
) -> float:
    """Return the expected calibration error (Naeini et al. 2015), from 0 to 1, over bins of equal width."""
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, bin_of, confidence.double() - correct.double())
    return float(gaps.abs().sum() / max(len(confidence), 1))


@dataclass(frozen=True)
class Recall:
    """Recall in percent for each k of R@k."""

    mean: dict[int, float]  # mean of the recalls of the images
    total: dict[int, float]  # recall over the relations of all images together


@dataclass(frozen=True)
class PredicateMetrics:
    """Metrics of a relation predictor on annotated images."""

    images: int  # number of images that have relations
    relations: int
    constrained: Recall  # one predicate per pair (graph constraint)
    free: Recall  # any number of predicates per pair
    related_error: float  # expected calibration error of P(related) over all pairs, in percent
    predicate_error: float  # expected calibration error of P(best predicate | related) over related pairs, in percent

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(predictor: Predictor, images: Annotations, rows: np.ndarray | None = None) -> PredicateMetrics:
    """Measure a predictor on the images at `rows` (by default all): PredCls recall and calibration.

    The names of `images` are numbered like those of the predictor (`Annotations.renumbered`). Images without relations
    count for calibration only. Raises InputError if no image has relations.
    """
    if not len(images.relations):
        raise InputError(f"{images}: expected relations whose names the predictor has.")
    rows, parts = np.arange(len(images)) if rows is None else rows, []
    for block in images.blocks(rows, BLOCK // len(predictor.predicates)):
        probabilities, pairs = predictor.probabilities(block.boxes, block.labels), pairs_of(block.labels)
        annotated = block.relation_masks(len(predictor.predicates) - 1)
        scores = probabilities[..., 1:].masked_fill(~pairs[..., None], -1)
        hits = torch.stack([count_recalled(scores, annotated, TOPS, constrained) for constrained in (True, False)], 1)
        related, (best, predicate) = scores[pairs].sum(-1), scores[pairs].max(-1)
        is_related = annotated[pairs].any(-1)
        confidence = (best / related.clamp(min=1e-30))[is_related]
        correct = annotated[pairs].gather(1, predicate[:, None])[is_related, 0]
        parts.append((hits, annotated.flatten(1).sum(1), related, is_related, confidence, correct))
    hits, counts, related, is_related, confidence, correct = map(torch.cat, zip(*parts, strict=True))
    hits, counts = hits[counts > 0].double(), counts[counts > 0]
    mean, total = (hits / counts[:, None, None]).mean(0), hits.sum(0) / counts.sum()
    constrained, free = (
        Recall(*(dict(zip(TOPS, (100 * values).tolist(), strict=True)) for values in mean_and_total))
        for mean_and_total in zip(mean, total, strict=True)
    )
    return PredicateMetrics(
        images=len(counts),
        relations=int(counts.sum()),
        constrained=constrained,
        free=free,
        related_error=100 * calibration_error(related, is_related),
        predicate_error=100 * calibration_error(confidence, correct),
    )


def measure_held_out(images: Annotations) -> dict[str, PredicateMetrics]:
    """Fit a predictor to nine tenths of the images, and measure it and its simpler variants on the held-out tenth.

    Raises InputError if there are too few images.
    """
    fitted, held_out = images.held_out_rows()
    is_held_out = np.isin(images.relations[:, 0], held_out)
    if not is_held_out.any() or is_held_out.all():
        raise InputError(f"{images}: too few to hold out one image in ten. Expected some dozens of images.")
    variants = predictor_variants(fit(images, fitted))
    return {name: measure(variant, images, held_out) for name, variant in variants.items()}


def predictor_variants(predictor: Predictor) -> dict[str, Predictor]:
    """Return variants of a predictor by name, from simple to full.

    The first uses the frequencies of predicates only, the second those for each pair of classes, and the last is the
    predictor itself, which also uses the boxes.
    """
    frequencies = replace(
        predictor, exponents=torch.ones_like(predictor.exponents), weights=torch.zeros_like(predictor.weights)
    )
    overall = replace(frequencies, strengths=torch.full_like(predictor.strengths, 1e12))
    return {"predicates alone": overall, "pairs of classes": frequencies, "with the boxes": predictor}


def render(rows: dict[str, PredicateMetrics]) -> str:
    """Return a table of the recalls of each predictor, with the calibration errors of the last one below it."""
    last = list(rows.values())[-1]
    tops = "".join(f"{f'R@{top}':>7}" for top in TOPS)
    lines = [
        f"PredCls recall in percent on {last.images:,} images with {last.relations:,} relations",
        f"{'':18}{'1 predicate per pair':>21}   {'any number per pair':>21}",
        f"{'':18}{tops}   {tops}",
    ]
    for name, row in rows.items():
        means, totals = zip(*((recall.mean, recall.total) for recall in (row.constrained, row.free)), strict=True)
        for label, recalls in ((name, means), ("  all together", totals)):
            cells = ("".join(f"{recall[top]:7.1f}" for top in TOPS) for recall in recalls)
            lines.append(f"{label:18}" + "   ".join(cells))
    lines.append(
        f"Expected calibration error in percent: {last.related_error:.1f} for whether a pair is related, "
        f"{last.predicate_error:.1f} for its predicate"
    )
    return "\n".join(lines)
