"""CMSEI's oracle: docs/models/cmsei.md, one region and one word at a time."""

from typing import Any

import numpy as np
import torch

from reference.common import (
    Item,
    Vector,
    attention_weights,
    box_iou,
    box_relation,
    graph_convolution,
    linear,
    polar_convolution,
    unit,
)
from reference.vse_infinity import generalized_pooling, perceptron

VARIANTS: list[dict[str, Any]] = [
    {},
    {"graph.spatial": "polar"},
    {"graph.spatial": "classes"},
    {"graph.spatial": "full"},
    {"graph.spatial": "none"},
    {"graph.semantic": "weighted"},
    {"graph.semantic": "none"},
    {"graph.spatial": "none", "graph.semantic": "none"},
    {"graph.directed": True},
    {"graph.directed": True, "graph.num_predicates": 5},
    {"graph.num_predicates": 2},
    {"graph.convolution": "classic"},
    {"graph.fusion": "sequential"},
    {"graph.fusion": "gated"},
    {"interaction.object_word": "regions"},
    {"interaction.object_word": "words"},
    {"interaction.object_word": "none"},
    {"interaction.object_sentence": False},
    {"interaction.word_image": False},
    {"interaction.object_word": "none", "interaction.object_sentence": False, "interaction.word_image": False},
    {"interaction.gate": "sigmoid"},
    {"interaction.gate": "memory"},
    {"interaction.alignment": "regions"},
    {"interaction.alignment": "words"},
    {"interaction.global_weight": 1.0},
    {"interaction.local_weight": 0.5},
    {"interaction.learn_weights": True, "interaction.global_weight": 0.5},
    {"summary.pooling": "gpo"},
    {"summary.pooling": "gpo", "summary.region_mlp": True},
    {"graph.num_layers": 1},
]


def score(model, image: Item, text: Item) -> float:
    projected = projected_regions(model, image)
    regions = explicit_regions(model, [unit(v) for v in projected], image.boxes, image.relations)
    words = [unit(v) for v in text.vectors]
    image_summary = summary(model.pool_images, regions, projected)
    return interaction(model, regions, words, image_summary, summary(model.pool_texts, words, text.vectors))


def projected_regions(model, image: Item) -> list[Vector]:
    """The regions of VSE-infinity: a linear map of the features, which `image.vectors` are, and a perceptron."""
    if model.mlp is None:
        return list(image.vectors)
    return [v + perceptron(model.mlp, f) for v, f in zip(image.vectors, image.features, strict=True)]


def summary(pool, fragments: list[Vector], projected: list[Vector]) -> Vector:
    """The mean of fragments, or VSE-infinity's pooling of them with the lengths that they had when projected."""
    if pool is None:
        return unit(np.mean(fragments, axis=0))
    long = [np.linalg.norm(p) * fragment for fragment, p in zip(fragments, projected, strict=True)]
    return unit(generalized_pooling(pool.weights(torch.tensor([len(long)]), len(long))[0].numpy(), long))


def explicit_regions(model, regions: list[Vector], boxes: np.ndarray, relations: np.ndarray) -> list[Vector]:
    """The regions after both graphs; `regions` are projected and of unit length."""
    config = model.config
    spatial = cmsei_spatial(model, regions, boxes) if len(model.explicit.spatial) else None
    source = spatial if config.graph.fusion == "sequential" and spatial else regions
    semantic = cmsei_semantic(model, source, relations) if len(model.explicit.semantic) else None
    out = []
    for i, region in enumerate(regions):
        if config.graph.fusion == "sequential":
            fused = semantic[i] if semantic else (spatial or regions)[i]
        elif config.graph.fusion == "gated":
            s, m = (spatial or regions)[i], (semantic or regions)[i]
            gate = 1 / (1 + np.exp(-linear(model.explicit.gate, np.concatenate([s, m]))))
            fused = gate * s + (1 - gate) * m
        else:
            parts = [part[i] for part in (spatial, semantic) if part] or [region]
            fused = sum(parts) / len(parts)
        out.append(unit(fused))
    return out


def cmsei_spatial(model, regions: list[Vector], boxes: np.ndarray) -> list[Vector]:
    config, count = model.config, len(regions)
    edges, labels = np.zeros((count, count)), np.zeros((count, count), int)
    for layer in model.explicit.spatial:
        if config.graph.spatial == "polar":
            regions = polar_convolution(layer, regions, boxes)
            continue
        if layer is model.explicit.spatial[0]:  # the edges are computed once, from the projected regions
            for i in range(count):
                for j in range(count):
                    cosine = float(np.dot(regions[i], regions[j]))
                    if config.graph.spatial == "full":
                        edges[i, j] = cosine
                    elif config.graph.spatial == "iou":
                        edges[i, j] = (
                            cosine if i == j or box_iou(boxes[i], boxes[j]) >= config.graph.iou_threshold else 0
                        )
                    else:
                        labels[i, j] = 0 if i == j else box_relation(boxes[i], boxes[j])
                        edges[i, j] = 1 if i == j or labels[i, j] else 0
            if config.graph.spatial == "classes":
                edges = edges / edges.sum(1, keepdims=True)
        regions = graph_convolution(layer, regions, edges, labels)
    return regions


def cmsei_semantic(model, regions: list[Vector], relations: np.ndarray) -> list[Vector]:
    config, count = model.config, len(regions)
    edges = np.zeros((count, count))
    labels = np.minimum(relations, config.graph.num_predicates) if config.graph.num_predicates else None
    for i in range(count):
        for j in range(count):
            related = relations[i, j] > 0 or (not config.graph.directed and relations[j, i] > 0)
            if i == j or related:
                edges[i, j] = float(np.dot(regions[i], regions[j])) if config.graph.semantic == "weighted" else 1
    if config.graph.semantic == "edges":
        edges = edges / edges.sum(1, keepdims=True)
    for layer in model.explicit.semantic:
        regions = graph_convolution(layer, regions, edges, labels)
    return regions


def interaction(model, regions: list[Vector], words: list[Vector], image: Vector, text: Vector) -> float:
    """The score of refined regions and words of unit length, with the summaries of both items."""
    config, parts = model.config, []
    if config.interaction.alignment in ("both", "regions"):
        parts.append(cmsei_branch(model.interaction.regions, regions, words, text))
    if config.interaction.alignment in ("both", "words"):
        parts.append(cmsei_branch(model.interaction.sentences, words, regions, image))
    local, whole = config.interaction.local_weight, config.interaction.global_weight
    return local * sum(parts) / len(parts) + whole * float(np.dot(image, text))


def cmsei_branch(branch, queries: list[Vector], context: list[Vector], whole: Vector) -> float:
    """One direction: attention and refinement, guidance by the other side's global vector, pooling, cosine."""
    refined = list(queries)
    if branch.attend is not None:
        cell = branch.attend
        alpha = attention_weights(queries, context, branch.temperature, "clipped_l2norm")
        for q, query in enumerate(queries):
            attended = sum(alpha[q, c] * item for c, item in enumerate(context))
            scale, shift = np.split(linear(cell.modulation, attended), 2)
            hidden = np.maximum(linear(cell.first, query * np.tanh(scale) + shift), 0)
            refined[q] = query + linear(cell.second, hidden)
    if branch.guide is not None:
        refined = cmsei_guidance(branch.guide, refined, whole)
    pooled = np.mean(refined, axis=0) + np.max(refined, axis=0)
    return float(np.dot(unit(pooled), whole))


def cmsei_guidance(cell, fragments: list[Vector], whole: Vector) -> list[Vector]:
    # A name for one expression: a def would be four lines.
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    if cell.gate == "norm":
        x = np.stack([linear(cell.local, fragment) * whole for fragment in fragments])
        for feature in range(x.shape[1]):
            x[:, feature] = unit(x[:, feature])
        return [(1 + x[i]) * fragment for i, fragment in enumerate(fragments)]
    joint = [linear(cell.local, fragment) + linear(cell.whole, whole) for fragment in fragments]
    if cell.gate == "sigmoid":
        return [fragment * sigmoid(j) for fragment, j in zip(fragments, joint, strict=True)]
    out = []
    for fragment, j in zip(fragments, joint, strict=True):
        keep, new = np.split(j, 2)
        out.append(sigmoid(keep) * fragment + (1 - sigmoid(keep)) * np.tanh(new))
    return out
