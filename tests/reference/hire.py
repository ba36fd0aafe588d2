"""Hire's oracle: docs/models/hire.md. The parts shared with CMSEI are those of its oracle."""

import math
from typing import Any

import numpy as np

from reference.cmsei import explicit_regions, interaction, projected_regions, summary
from reference.common import Item, Vector, layer_norm, linear, unit

VARIANTS: list[dict[str, Any]] = [
    {},
    {"implicit": "none"},
    {"implicit": "words"},
    {"implicit": "both"},
    {"order": "after"},
    {"recombine": True},
    {"recombine": True, "order": "after"},
    {"num_heads": 4},
    {"num_implicit": 2},
    {"feedforward_dim": 0},
    {"layer_norm": True},
    {"output_map": False},
    {"layer_norm": True, "feedforward_dim": 0},
    {"graph.spatial": "none"},
    {"graph.spatial": "polar"},
    {"graph.semantic": "none"},
    {"graph.semantic": "weighted"},
    {"graph.spatial": "none", "graph.semantic": "none"},
    {"graph.directed": True},
    {"graph.num_predicates": 2},
    {"graph.num_layers": 1},
    {"graph.convolution": "classic"},
    {"graph.fusion": "sequential"},
    {"graph.fusion": "gated"},
    {"interaction.object_word": "none"},
    {"interaction.object_sentence": False},
    {"interaction.word_image": False},
    {"interaction.gate": "sigmoid"},
    {"interaction.alignment": "regions"},
    {"interaction.alignment": "words"},
    {"interaction.global_weight": 1.0},
    {"interaction.local_weight": 0.5},
    {"interaction.learn_weights": True, "interaction.global_weight": 0.5},
    {"summary.pooling": "gpo"},
    {"summary.pooling": "gpo", "summary.region_mlp": True},
]


def score(model, image: Item, text: Item) -> float:
    projected = projected_regions(model, image)
    regions = [unit(v) for v in projected]
    if model.config.order == "before":
        inputs = implicit(model.implicit_regions, regions)
        regions = explicit_regions(model, inputs, image.boxes, image.relations)
    else:
        inputs = explicit_regions(model, regions, image.boxes, image.relations)
        regions = implicit(model.implicit_regions, inputs)
    if model.config.recombine:
        regions = [unit(a + b) for a, b in zip(inputs, regions, strict=True)]
    words = implicit(model.implicit_words, [unit(v) for v in text.vectors])
    image_summary = summary(model.pool_images, regions, projected)
    return interaction(model, regions, words, image_summary, summary(model.pool_texts, words, text.vectors))


def implicit(layers, fragments: list[Vector]) -> list[Vector]:
    for layer in layers:
        fragments = self_attention(layer, fragments)
    return [unit(v) for v in fragments]


def self_attention(layer, fragments: list[Vector]) -> list[Vector]:
    dim, out = len(fragments[0]), []
    queries, keys, values = zip(*(np.split(linear(layer.read, v), 3) for v in fragments), strict=True)
    width = dim // layer.num_heads
    for i, fragment in enumerate(fragments):
        total = np.zeros(dim)
        for head in range(layer.num_heads):
            at = slice(head * width, (head + 1) * width)
            weights = [math.exp(float(np.dot(queries[i][at], key[at])) / math.sqrt(width)) for key in keys]
            for weight, value in zip(weights, values, strict=True):
                total[at] += weight / sum(weights) * value[at]
        new = layer_norm(
            layer.norm, fragment + (linear(layer.write, total) if hasattr(layer.write, "weight") else total)
        )
        if layer.feedforward is not None:
            hidden = np.maximum(linear(layer.feedforward[0], new), 0)
            new = layer_norm(layer.norm_after, new + linear(layer.feedforward[2], hidden))
        out.append(new)
    return out
