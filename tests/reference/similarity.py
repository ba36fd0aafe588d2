"""The oracles of layers/similarity.py: SGRAF's global attention, similarity vectors and their two heads."""

import math

import numpy as np

from reference.common import Vector, batch_norm, unit


def affine(layer, vector: Vector) -> Vector:
    out = layer.weight.detach().double().numpy() @ vector
    return out if layer.bias is None else out + layer.bias.detach().double().numpy()


def softmax(logits: list[float]) -> list[float]:
    exponents = [math.exp(x - max(logits)) for x in logits]
    return [x / sum(exponents) for x in exponents]


def global_attention(layer, fragments: list[Vector]) -> Vector:
    def embed(linear, norm, vector: Vector, place: int = 0) -> Vector:
        vector = affine(linear, vector)
        if hasattr(norm, "shift"):  # of places
            return np.tanh(vector * float(norm.scale[place]) + float(norm.shift[place]))
        return np.tanh(vector if norm is None else batch_norm(norm, vector))

    whole = embed(layer.whole, layer.whole_norm, sum(fragments) / len(fragments))
    local = [embed(layer.local, layer.local_norm, x, place) for place, x in enumerate(fragments)]
    logits = [float(affine(layer.weigh, x * whole)[0]) for x in local]
    return unit(sum(weight * x for weight, x in zip(softmax(logits), fragments, strict=True)))


def similarity_vector(layer, x: Vector, y: Vector) -> Vector:
    return unit(affine(layer.map, (x - y) ** 2))


def reasoning(layer, nodes: list[Vector]) -> Vector:
    """SGR: node 0 after all rounds; each round is computed for every node."""
    for step in layer.rounds:
        queries, keys = [affine(step.query, n) for n in nodes], [affine(step.key, n) for n in nodes]
        edges = [softmax([float(np.dot(query, key)) for key in keys]) for query in queries]
        attended = [sum(weight * n for weight, n in zip(row, nodes, strict=True)) for row in edges]
        nodes = [np.maximum(affine(step.update, h), 0) for h in attended]
    return nodes[0]


def filtration(layer, nodes: list[Vector]) -> Vector:
    """SAF."""
    gates = [1 / (1 + math.exp(-float(batch_norm(layer.norm, affine(layer.gate, n))[0]))) for n in nodes]
    return unit(sum(gate / sum(gates) * n for gate, n in zip(gates, nodes, strict=True)))
