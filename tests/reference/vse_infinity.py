"""VSE-infinity's oracle. The weights of ranks are the model's own (a GRU of positions); the rest is plain loops."""

from typing import Any

import numpy as np
import torch

from reference.common import Item, Vector, batch_norm, linear, unit

VARIANTS: list[dict[str, Any]] = [
    {},
    {"pooling": "mean"},
    {"region_mlp": False},
    {"unit_images": False},
    {"unit_texts": False},
]


def score(model, image: Item, text: Item) -> float:
    regions = list(image.vectors)
    if model.mlp is not None:
        for r, feature in enumerate(image.features):
            regions[r] = regions[r] + perceptron(model.mlp, feature)
    pooled = []
    sides = (
        (model.pool_images, regions, model.config.unit_images),
        (model.pool_texts, text.vectors, model.config.unit_texts),
    )
    for pool, fragments, is_unit in sides:
        count = len(fragments)
        learnt = model.config.pooling == "gpo"
        weights = pool.weights(torch.tensor([count]), count)[0].numpy() if learnt else np.full(count, 1 / count)
        vector = generalized_pooling(weights, fragments)
        pooled.append(unit(vector) if is_unit else vector)
    return float(np.dot(*pooled))


def perceptron(mlp, feature: Vector) -> Vector:
    return linear(mlp.second, np.maximum(batch_norm(mlp.norm, linear(mlp.first, feature)), 0))


def generalized_pooling(weights: Vector, fragments: list[Vector]) -> Vector:
    """VSE-infinity, eq. 4: the weighted sum of each feature's k-th largest value."""
    out = np.zeros(len(fragments[0]))
    for feature in range(len(out)):
        values = sorted((fragment[feature] for fragment in fragments), reverse=True)
        out[feature] = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return out
