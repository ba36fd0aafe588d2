"""SGRAF's oracle. Equation numbers as in docs/models/sgraf.md."""

import math
from typing import Any

from reference.common import Item, Vector, attention_weights, unit
from reference.similarity import affine, filtration, global_attention, reasoning, similarity_vector

VARIANTS: list[dict[str, Any]] = [
    {},
    {"reasoning": "saf"},
    {"reasoning": "both"},
    {"reasoning": "mean"},
    {"nodes": "global"},
    {"nodes": "local"},
    {"nodes": "local", "reasoning": "saf"},
    {"global_pooling": "mean"},
    {"global_pooling": "mean", "reasoning": "saf"},
    {"steps": 1},
    {"similarity_dim": 8},
    {"normalisation": "none"},
    {"normalisation": "softmax"},
    {"unit_regions": False},
    {"unit_words": False},
    {"places": 6},
    {"temperature": 4.0, "dropout": 0.1},  # dropout alone changes no score
]


def score(model, image: Item, text: Item) -> float:
    config = model.config
    regions = [unit(v) if config.unit_regions else v for v in image.vectors]  # eq. 1
    words = [unit(v) if config.unit_words else v for v in text.vectors]
    nodes = []
    if config.nodes != "local":
        whole = [pooled(pool, some) for pool, some in ((model.image_pool, regions), (model.text_pool, words))]  # eq. 2
        nodes.append(similarity_vector(model.whole, *whole))  # eq. 5
    if config.nodes != "global":
        alpha = attention_weights(words, regions, config.temperature, config.normalisation)  # eq. 3
        for j, word in enumerate(words):
            attended = unit(sum(alpha[j, i] * region for i, region in enumerate(regions)))  # eq. 4
            nodes.append(similarity_vector(model.local, attended, word))  # eq. 5
    kinds = ["mean"] if config.nodes == "global" else {"both": ["sgr", "saf"]}.get(config.reasoning, [config.reasoning])
    scores = []
    for kind, head in zip(kinds, model.heads, strict=True):
        vector = unit(sum(nodes)) if kind == "mean" else GATHER[kind](head.gather, nodes)  # eq. 6-9
        scores.append(1 / (1 + math.exp(-float(affine(head.weigh, vector)[0]))))  # eq. 10
    return sum(scores) / len(scores)


GATHER = {"sgr": reasoning, "saf": filtration}


def pooled(pool, fragments: list[Vector]) -> Vector:
    return unit(sum(fragments)) if pool is None else global_attention(pool, fragments)
