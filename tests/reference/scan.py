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
    {"normalisation": "l1norm"},
    {"normalisation": "clipped_l1norm"},
    {"normalisation": "softmax"},
    {"direction": "i2t", "normalisation": "softmax"},
    {"aggregation": "max"},
    {"aggregation": "sum"},
    {"unit_regions": False},
    {"unit_words": False},
    {"direction": "i2t", "unit_regions": False, "unit_words": False},
]


def score(model, image: Item, text: Item) -> float:
    config = model.config
    regions = [unit(v) if config.unit_regions else v for v in image.vectors]
    words = [unit(v) if config.unit_words else v for v in text.vectors]
    queries, context = (words, regions) if config.direction == "t2i" else (regions, words)
    alpha = attention_weights(queries, context, config.temperature, config.normalisation)
    cosines = []
    for q, query in enumerate(queries):
        attended = sum(alpha[q, c] * item for c, item in enumerate(context))
        cosines.append(float(np.dot(unit(attended), unit(query))))
    if config.aggregation == "mean":
        return sum(cosines) / len(cosines)
    if config.aggregation in ("max", "sum"):
        return max(cosines) if config.aggregation == "max" else sum(cosines)
    return math.log(sum(math.exp(config.lse_temperature * cosine) for cosine in cosines)) / config.lse_temperature
