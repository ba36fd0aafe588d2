"""TVRN's oracle. Equation numbers as in docs/models/tvrn.md."""

import math
from typing import Any

import numpy as np

from reference.common import Item, Vector, box_iou, unit
from reference.similarity import affine, filtration, global_attention, reasoning, similarity_vector, softmax

VARIANTS: list[dict[str, Any]] = [
    {},
    {"unit_regions": False},
    {"unit_words": False},
    {"spatial": "released"},
    {"places": 6},
    {"places": 6, "context": "none"},
    {"context": "self"},
    {"context": "spatial"},
    {"context": "none"},
    {"text_spatial": "none"},
    {"unify": "gru_plain"},
    {"unify": "none"},
    {"expand": False},
    {"expand": False, "context": "spatial"},  # eq. 2 is not used
    {"expand": False, "refine": "none"},
    {"refine": "gru_plain"},
    {"refine": "none"},
    {"enhancement": "weighted"},
    {"enhancement": "equal"},
    {"enhancement": "prob"},
    {"enhancement": "none"},
    {"nodes": "global"},
    {"nodes": "local"},
    {"nodes": "local", "enhancement": "none", "reasoning": "saf"},
    {"reasoning": "saf"},
    {"reasoning": "both"},
    {"steps": 1, "similarity_dim": 8},
    {"temperature": 4.0, "dropout": 0.1},  # dropout alone changes no score
]


def score(model, image: Item, text: Item) -> float:
    config, many = model.config, {"both": ("sgr", "saf")}
    content = [unit(v) if config.unit_regions else v for v in image.vectors]  # eq. 1
    words = [unit(v) if config.unit_words else v for v in text.vectors]

    # The image on its own
    parts = []
    if config.context in ("both", "self"):
        parts.append(attended(model.attend, content, content, config.temperature))  # eq. 2
    if config.context in ("both", "spatial"):
        near = [[i == j or box_iou(a, b) >= config.iou_threshold for j, b in enumerate(image.boxes)]
                for i, a in enumerate(image.boxes)]  # fmt: skip
        released = config.spatial == "released"
        parts.append(neighbours(model.region_graph, content, near, config.temperature, released))  # eq. 3
    context = [unit(sum(each) / len(parts)) for each in zip(*parts, strict=True)] if parts else content  # eq. 4
    joint = [unit(leaky(v * c)) for v, c in zip(content, context, strict=True)] if parts else []  # eq. 5
    unified = refined(model.read_regions, config.unify, content + joint, content)  # eq. 6

    # The text, expanded by what its words attend to
    expanded = list(words)
    if config.expand:
        queries = attended(model.attend, words, words, config.temperature)  # eq. 2
        if config.text_spatial == "dep":
            pairs = text.relations
            near = [[i == j or bool(pairs[i, j] or pairs[j, i]) for j in range(len(words))] for i in range(len(words))]
            spatial = neighbours(model.word_graph, words, near, config.temperature)  # eq. 3
            queries = [unit((a + b) / 2) for a, b in zip(queries, spatial, strict=True)]  # eq. 4
        expanded += attended(model.attend, queries, context, config.temperature)  # eq. 7
    expanded = refined(model.read_words, config.refine, expanded, words)  # eq. 8

    # The two global vectors, and what each word attends to in the image
    nodes, guide = [], None
    if config.nodes != "local" or config.enhancement in ("weighted", "regions"):
        guide = global_attention(model.image_pool, in_places(unified, len(content)))  # eq. 9
    if config.nodes != "local":
        nodes.append(similarity_vector(model.whole, guide, global_attention(model.text_pool, expanded)))  # eq. 13
    if config.nodes != "global":
        weights = enhanced(config, focus(unified, expanded, config.temperature), unified, guide)  # eq. 10-11
        gates = np.ones(len(expanded))
        if config.enhancement == "weighted":
            agreement = [config.temperature * float(np.dot(z, guide)) for z in expanded]
            gates = len(expanded) * np.array(softmax(agreement))  # eq. 10
        for j, word in enumerate(expanded):
            attended_region = unit(sum(weights[i, j] * u for i, u in enumerate(unified)))  # eq. 12
            nodes.append(gates[j] * similarity_vector(model.local, attended_region, word))  # eq. 13

    scores = []
    for kind, head in zip(many.get(config.reasoning, (config.reasoning,)), model.heads, strict=False):
        vector = nodes[0] if config.nodes == "global" else GATHER[kind](head.gather, nodes)  # eq. 14
        scores.append(1 / (1 + math.exp(-float(affine(head.weigh, vector)[0]))))  # eq. 15
    assert len(scores) == len(model.heads)
    return sum(scores) / len(scores)


def in_places(unified: list[Vector], regions: int) -> list[Vector]:
    """The content and the context of the first region, those of the second, and so on."""
    return [part for region in range(regions) for part in unified[region::regions]]


GATHER = {"sgr": reasoning, "saf": filtration}


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def weights_of(similarity: np.ndarray, temperature: float) -> np.ndarray:
    """weights[i, j] of context i for query j: each row scaled to unit length over the queries, then a softmax."""
    similarity = np.array([unit(leaky(row)) for row in similarity])
    return np.array([softmax([temperature * float(x) for x in column]) for column in similarity.T]).T


def focus(context: list[Vector], queries: list[Vector], temperature: float) -> np.ndarray:
    return weights_of(np.array([[float(np.dot(c, q)) for q in queries] for c in context]), temperature)


def attended(layer, queries: list[Vector], context: list[Vector], temperature: float) -> list[Vector]:
    """ATT(Q, K)."""
    weights = focus([affine(layer.key, k) for k in context], [affine(layer.query, q) for q in queries], temperature)
    return [unit(sum(weights[i, j] * k for i, k in enumerate(context))) for j in range(len(queries))]


def neighbours(layer, items: list[Vector], near: list[list[bool]], temperature: float, released=False) -> list[Vector]:
    similarity = np.zeros((len(items), len(items)))
    keys, queries = [affine(layer.key, item) for item in items], [affine(layer.query, item) for item in items]
    for i, key in enumerate(keys):
        for j, query in enumerate(queries):
            if near[i][j]:
                length = np.linalg.norm(keys[j] if released else key) * np.linalg.norm(query)
                similarity[i, j] = float(np.dot(key, query)) / length
    weights = weights_of(similarity, temperature)
    return [unit(sum(weights[i, j] * k for i, k in enumerate(items))) for j in range(len(items))]


def refined(layer, kind: str, sequence: list[Vector], content: list[Vector]) -> list[Vector]:
    """The whole sequence through the GRU at once; the content is added to each of its halves."""
    if kind == "none":
        return sequence
    output = gru(layer.gru, sequence)
    if kind == "gru":
        output = [h + content[place % len(content)] for place, h in enumerate(output)]
    return [unit(h) for h in output]


def gru(layer, sequence: list[Vector]) -> list[Vector]:
    def numbers(name: str) -> np.ndarray:
        return getattr(layer, name).detach().double().numpy()

    def sigmoid(x: Vector) -> Vector:
        return 1 / (1 + np.exp(-x))

    state, states = np.zeros(layer.hidden_size), []
    for x in sequence:
        x_part = np.split(numbers("weight_ih_l0") @ x + numbers("bias_ih_l0"), 3)
        h_part = np.split(numbers("weight_hh_l0") @ state + numbers("bias_hh_l0"), 3)
        reset, update = sigmoid(x_part[0] + h_part[0]), sigmoid(x_part[1] + h_part[1])
        new = np.tanh(x_part[2] + reset * h_part[2])
        state = (1 - update) * new + update * state
        states.append(state)
    return states


def enhanced(config, weights: np.ndarray, unified: list[Vector], guide: Vector | None) -> np.ndarray:
    kept = weights.copy()
    if config.enhancement in ("weighted", "regions"):
        gates = softmax([config.temperature * float(np.dot(u, guide)) for u in unified])
        kept = np.array([gate * row for gate, row in zip(gates, weights, strict=True)])
    for j in range(weights.shape[1]):
        column = weights[:, j]
        for i, weight in enumerate(column):
            if config.enhancement == "equal":
                focal = sum(weight - other for other in column)
            elif config.enhancement == "prob":
                focal = sum((weight - other) * math.sqrt(other) for other in column)
            else:
                continue
            if focal < -1e-9:
                kept[i, j] = 0
    return kept / kept.sum(0)
