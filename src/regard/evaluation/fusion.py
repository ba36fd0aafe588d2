"""Combine the scores of several models: standardise each, and add them with weights.

A mean and a deviation per model are measured on validation data and kept. They are never taken from the gallery that is
searched, so that the score of a pair depends on that pair alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from regard.files import InputError
from regard.metrics import recalls

STEPS = 20  # weights are multiples of 1 / STEPS


@dataclass(frozen=True)
class Fusion:
    """The weighted sum of standardised scores: `sum of weight * (score - mean) / deviation` over the models."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]  # they sum to 1

    @classmethod
    def fit(
        cls,
        scores: Sequence[Float[np.ndarray, "image text"]],
        image_of_text: np.ndarray,
        weights: Sequence[float] | None = None,
    ) -> "Fusion":
        """Measure means and deviations on the score matrices of the models for the same validation split.

        Without `weights`, choose those of the largest rSum: of two models on a grid of STEPS steps, of more models one
        after another, each added to the sum of the earlier ones with the best weight. Raises InputError if the matrices
        differ in shape, or if one of them is constant.
        """
        if len({matrix.shape for matrix in scores}) != 1:
            shapes = " and ".join(sorted({str(list(matrix.shape)) for matrix in scores}))
            raise InputError(
                f"The scores to combine have shapes {shapes}: expected scores of the same images and texts."
            )
        means = tuple(float(matrix.mean(dtype=np.float64)) for matrix in scores)
        deviations = tuple(float(matrix.std(dtype=np.float64)) for matrix in scores)
        if not all(deviation > 0 for deviation in deviations):
            raise InputError("All scores of one model are equal: they cannot be combined with others.")
        standard = [
            (matrix - mean) / deviation for matrix, mean, deviation in zip(scores, means, deviations, strict=True)
        ]
        if weights is None:
            weights, total = [1.0], standard[0]
            for matrix in standard[1:]:
                share = max(
                    (step / STEPS for step in range(STEPS + 1)),
                    key=lambda share: recalls((1 - share) * total + share * matrix, image_of_text).rsum,
                )
                weights = [(1 - share) * weight for weight in weights] + [share]
                total = (1 - share) * total + share * matrix
        return cls(means, deviations, tuple(float(weight) for weight in weights))

    def combine(self, scores: Sequence[Any]) -> Any:
        """Return the weighted sum of the scores of the models, which may be arrays, tensors or numbers."""
        return sum(self.parts(scores))

    def parts(self, scores: Sequence[Any]) -> list[Any]:
        """Return the terms of the weighted sum."""
        terms = zip(scores, self.means, self.deviations, self.weights, strict=True)
        return [weight * (score - mean) / deviation for score, mean, deviation, weight in terms]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, as JSON values."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> "Fusion":
        """Return the fusion that `to_dict` wrote."""
        return cls(**{name: tuple(map(float, values[name])) for name in ("means", "deviations", "weights")})
