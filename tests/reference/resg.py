"""ReSG's oracle: docs/models/resg.md, one node at a time."""

import math
from typing import Any

import numpy as np

from reference.common import Item, Vector, box_iou, box_overlap, layer_norm, linear, unit

VARIANTS: list[dict[str, Any]] = [
    {"num_concepts": 20, "num_labels": 6, "num_predicates": 4},
    {"image_graph": False},
    {"text_graph": False},
    {"concepts": "labels", "num_labels": 6},
    {"concepts": "none"},
    {"concept_temperature": 0.1},
    {"relations": "inferred", "num_predicates": 6},
    {"relations": "none"},
    {"num_relations": 3},
    {"relations": "inferred", "num_relations": 7},
    {"num_layers": 0},
    {"num_layers": 1},
    {"num_heads": 2},
    {"affine_neighbours": 1},
    {"order_edges": False},
    {"direction": "i2t"},
    {"direction": "both"},
    {"relation_weight": 0.5},
    {"global_weight": 1.0},
]


def weight(module) -> np.ndarray:
    return module.weight.detach().double().numpy()


def softmax(logits: list[float]) -> list[float]:
    exponents = [math.exp(x - max(logits)) for x in logits]
    return [x / sum(exponents) for x in exponents]


def score(model, image: Item, text: Item) -> float:
    config = model.config
    concepts, image_relations = image_graph(model, image)
    words, text_relations = text_graph(model, text)
    total = best(concepts, words, config.direction)
    if image_relations is not None and text_relations is not None:
        total += config.relation_weight * best(image_relations, text_relations, config.direction)
    if config.global_weight:
        whole = whole_of(model.pool_image, concepts, image_relations), whole_of(model.pool_text, words, text_relations)
        total += config.global_weight * float(np.dot(*whole))
    return total


def best(image: list[Vector], text: list[Vector], direction: str) -> float:
    if not image or not text:
        return 0.0
    t2i = sum(max(float(np.dot(a, b)) for a in image) for b in text) / len(text)
    i2t = sum(max(float(np.dot(a, b)) for b in text) for a in image) / len(image)
    return {"t2i": t2i, "i2t": i2t, "both": (t2i + i2t) / 2}[direction]


def whole_of(pool, nodes: list[Vector], relations: list[Vector] | None) -> Vector:
    parts = [np.mean(nodes, axis=0)]
    if relations is not None:
        parts.append(np.mean(relations, axis=0) if relations else np.zeros_like(parts[0]))
    return unit(linear(pool, np.concatenate(parts)))


def image_graph(model, image: Item) -> tuple[list[Vector], list[Vector] | None]:
    config, count = model.config, len(image.features)
    if not config.image_graph:
        return [unit(v) for v in image.vectors], None
    objects = []
    for r, feature in enumerate(image.features):
        vector = image.vectors[r]
        if config.concepts == "labels":
            table = weight(model.concepts.labels)
            vector = vector + linear(model.concepts.map, table[min(image.labels[r], len(table) - 1)])
        elif config.concepts == "inferred":
            bank = model.concepts.bank.detach().double().numpy()
            guess = linear(model.concepts.guess, feature)
            probability = softmax([float(np.dot(guess, b)) / config.concept_temperature for b in bank])
            vector = vector + linear(model.concepts.map, sum(p * b for p, b in zip(probability, bank, strict=True)))
        objects.append(np.maximum(vector, 0))
    affinity = np.array([[float(np.dot(unit(a), unit(b))) for b in objects] for a in objects])
    edges = [{i} for i in range(count)]
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j: -affinity[i, j])
        edges[i] |= set(others[: config.affine_neighbours])
    nodes = [np.tanh(linear(model.objects, v)) for v in objects]
    triples = related_pairs(model, image, affinity) if model.related else []
    for s, p, o in triples:
        module = model.pictured
        union = linear(module.subject, image.features[s]) + linear(module.object, image.features[o])
        union = union + linear(module.geometry, geometry(image.boxes[s], image.boxes[o]))
        table = weight(module.predicates)
        if config.relations == "inferred":
            probability = softmax([float(np.dot(union, row)) for row in table])
            predicate = sum(share * row for share, row in zip(probability, table, strict=True))
        else:
            predicate = table[min(p, len(table) - 1)]
        relation = np.maximum(union + predicate, 0)
        edges.append({len(nodes), s, o})
        for end in (s, o):
            edges[end].add(len(nodes))
        nodes.append(np.tanh(linear(module.order, np.concatenate([objects[s], relation, objects[o]]))))
    nodes = [unit(v) for v in context(model.image_context, nodes, edges)]
    return nodes[:count], nodes[count:] if model.related else None


def related_pairs(model, image: Item, affinity: np.ndarray) -> list[tuple[int, int, int]]:
    config, count = model.config, len(image.features)
    if config.relations == "file":
        pairs = [(s, o) for s in range(count) for o in range(count) if image.relations[s, o] > 0]
        pairs.sort(key=lambda pair: (-affinity[pair], image.relations[pair]))
        return [(s, int(image.relations[s, o]), o) for s, o in pairs[: config.num_relations]]
    pairs = [(s, o) for s in range(count) for o in range(s + 1, count)]
    pairs.sort(key=lambda pair: -(affinity[pair] + box_iou(image.boxes[pair[0]], image.boxes[pair[1]])))
    pairs = pairs[: config.num_relations // 2]
    return [(s, 0, o) for s, o in pairs] + [(o, 0, s) for s, o in pairs]


def geometry(a: Vector, b: Vector) -> Vector:
    (ax, ay), (bx, by) = ((box[:2] + box[2:]) / 2 for box in (a, b))
    (aw, ah), (bw, bh) = (np.maximum(box[2:] - box[:2], 1e-3) for box in (a, b))
    overlap = box_overlap(a, b)
    return np.array([
        np.clip((bx - ax) / aw, -10, 10), np.clip((by - ay) / ah, -10, 10), math.log(bw / aw), math.log(bh / ah),
        overlap / (aw * ah + bw * bh - overlap), math.hypot(bx - ax, by - ay), math.atan2(bx - ax, by - ay),
    ])  # fmt: skip


def text_graph(model, text: Item) -> tuple[list[Vector], list[Vector] | None]:
    config, words = model.config, [unit(v) for v in text.vectors]
    if not config.text_graph:
        return words, None
    count = len(words)
    edges = [{i} for i in range(count)]
    if config.order_edges:
        for i in range(count - 1):
            edges[i].add(i + 1)
            edges[i + 1].add(i)
    nodes = list(words)
    if model.related:
        for i in range(count):
            for j in range(count):
                if text.relations[i, j] or text.relations[j, i]:
                    edges[i].add(j)
        sentence = len(nodes)
        nodes.append(np.mean(words, axis=0))
        edges.append({sentence, *range(count)})
        for i in range(count):
            edges[i].add(sentence)
        for p in range(count):
            subjects = [i for i in range(count) if text.relations[p, i] == 1]
            objects = [i for i in range(count) if text.relations[p, i] == 2]
            if not subjects and not objects:
                continue
            ends = [np.mean([words[i] for i in some], axis=0) if some else np.zeros_like(words[0])
                    for some in (subjects, objects)]  # fmt: skip
            for member in {p, *subjects, *objects}:
                edges[member].add(len(nodes))
            edges.append({len(nodes), p, *subjects, *objects})
            nodes.append(unit(read(model.told, [ends[0], words[p], ends[1]])))
    nodes = [unit(v) for v in context(model.text_context, nodes, edges)]
    return nodes[:count], nodes[count:] if model.related else None


def read(gru, sequence: list[Vector]) -> Vector:
    """The mean of the last states of both directions."""
    last = []
    for ending, order in (("", sequence), ("_reverse", sequence[::-1])):
        w_in, w_state, b_in, b_state = (
            getattr(gru, f"{name}_l0{ending}").detach().double().numpy()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        state = np.zeros(w_state.shape[1])
        for vector in order:
            r_in, z_in, n_in = np.split(w_in @ vector + b_in, 3)
            r_state, z_state, n_state = np.split(w_state @ state + b_state, 3)
            r, z = 1 / (1 + np.exp(-(r_in + r_state))), 1 / (1 + np.exp(-(z_in + z_state)))
            state = (1 - z) * np.tanh(n_in + r * n_state) + z * state
        last.append(state)
    return (last[0] + last[1]) / 2


def context(module, nodes: list[Vector], edges: list[set[int]]) -> list[Vector]:
    for attend, norm in zip(module.attend, module.norm, strict=True):
        heads = attend.num_heads
        queries, keys, values = zip(*(np.split(linear(attend.read, v), 3) for v in nodes), strict=True)
        width, out = len(nodes[0]) // heads, []
        for i, node in enumerate(nodes):
            total = np.zeros(len(node))
            for head in range(heads):
                at = slice(head * width, (head + 1) * width)
                near = sorted(edges[i])
                shares = softmax([float(np.dot(queries[i][at], keys[j][at])) / math.sqrt(width) for j in near])
                for share, j in zip(shares, near, strict=True):
                    total[at] += share * values[j][at]
            out.append(layer_norm(norm, node + linear(attend.write, total)))
        nodes = out
    return nodes
