"""SCAN's oracle. Equation numbers as in docs/models/scan.md."""

import math
from typing import Any

import numpy as np

from reference.common import Item, attention_weights, unit

VARIANTS: list[dict[str, Any]] = [
    {},
    {"aggregation": "lse"},
    {"direction": "i2t", "temperature": 4.0},
    {"direction": "i2t", "temperature": 4.0, "aggregation": "lse", "lse_temperature": 5.0},
    {"normalisation": "l2norm"},
    {"normalisation": "clipped"},
    {"normalisation": "none"},
]


def score(model, image: Item, text: Item) -> float:
    config = model.config
    regions, words = [unit(v) for v in image.vectors], [unit(v) for v in text.vectors]
    queries, context = (words, regions) if config.direction == "t2i" else (regions, words)
    alpha = attention_weights(queries, context, config.temperature, config.normalisation)
    cosines = []
    for q, query in enumerate(queries):
        attended = sum(alpha[q, c] * item for c, item in enumerate(context))
        cosines.append(float(np.dot(unit(attended), unit(query))))
    if config.aggregation == "mean":
        return sum(cosines) / len(cosines)
    return math.log(sum(math.exp(config.lse_temperature * cosine) for cosine in cosines)) / config.lse_temperature
