"""What the oracles share: the real fragments of one item, and equations of more than one paper."""

import math
from dataclasses import dataclass

import numpy as np

Vector = np.ndarray


@dataclass(frozen=True)
class Item:
    """One image or text without its padding, in float64: an oracle needs no mask."""

    vectors: list[Vector]  # model.project(features), or the text encoder's words; not normalised
    features: list[Vector]  # as read; empty for a text
    boxes: np.ndarray | None  # [region, 4]
    labels: np.ndarray | None  # [region]
    relations: np.ndarray | None  # [region, region] or [word, word]


def unit(vector: Vector) -> Vector:
    length = math.sqrt(sum(float(x) * float(x) for x in vector))
    return vector / length if length > 0 else vector


def linear(layer, vector: Vector) -> Vector:
    out = layer.weight.detach().double().numpy() @ vector
    return out + layer.bias.detach().double().numpy() if layer.bias is not None else out


def attention_weights(
    queries: list[Vector], context: list[Vector], temperature: float, normalisation: str
) -> np.ndarray:
    """SCAN, eq. 1-2: alpha[q][c], a softmax over the context of the similarity normalised over the queries."""
    similarity = np.zeros((len(queries), len(context)))
    for q, query in enumerate(queries):
        for c, item in enumerate(context):
            s = float(np.dot(query, item))
            if normalisation.startswith("clipped"):
                s = s if s > 0 else 0.1 * s
            similarity[q, c] = s
    if normalisation in ("clipped_l2norm", "l2norm"):
        for c in range(len(context)):
            similarity[:, c] = unit(similarity[:, c])
    elif normalisation in ("clipped_l1norm", "l1norm"):
        for c in range(len(context)):
            similarity[:, c] /= sum(abs(s) for s in similarity[:, c])
    elif normalisation == "softmax":
        for c in range(len(context)):
            exponents = [math.exp(s) for s in similarity[:, c]]
            similarity[:, c] = [e / sum(exponents) for e in exponents]
    alpha = np.zeros_like(similarity)
    for q in range(len(queries)):
        exponents = [math.exp(temperature * s) for s in similarity[q]]
        for c in range(len(context)):
            alpha[q, c] = exponents[c] / sum(exponents)
    return alpha


def box_area(box: Vector) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def box_overlap(a: Vector, b: Vector) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def box_iou(a: Vector, b: Vector) -> float:
    both = box_overlap(a, b)
    return both / (box_area(a) + box_area(b) - both)


def box_relation(a: Vector, b: Vector) -> int:
    """The eleven relation classes of (subject a, object b); 0 = none."""
    both = box_overlap(a, b)
    if both >= box_area(a) * (1 - 1e-6):
        return 1
    if both >= box_area(b) * (1 - 1e-6):
        return 2
    if box_iou(a, b) >= 0.5:
        return 3
    dx, dy = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
    if math.hypot(dx, dy) >= 0.5 * math.sqrt(2):
        return 0
    return 4 + round(math.atan2(dy, dx) / (math.pi / 4)) % 8


def batch_norm(layer, vector: Vector) -> Vector:
    """Batch normalisation of one fragment in eval mode."""
    mean, var = layer.running_mean.double().numpy(), layer.running_var.double().numpy()
    gamma, beta = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return (vector - mean) / np.sqrt(var + layer.eps) * gamma + beta


def layer_norm(layer, vector: Vector) -> Vector:
    """Layer normalisation; the vector itself if the layer is an identity."""
    if not hasattr(layer, "weight"):
        return vector
    scaled = (vector - vector.mean()) / np.sqrt(vector.var() + layer.eps)
    return scaled * layer.weight.detach().double().numpy() + layer.bias.detach().double().numpy()


def graph_convolution(layer, regions: list[Vector], edges: np.ndarray, labels: np.ndarray | None) -> list[Vector]:
    """V + BN(W_r(A(V W_g) + labels)), or relu(A V W) + V, one region at a time."""
    out = []
    for i, region in enumerate(regions):
        total = np.zeros(len(region))
        for j, other in enumerate(regions):
            message = linear(layer.message, other)
            if layer.label is not None and labels is not None:
                message = message + layer.label.weight.detach().double().numpy()[labels[i, j]]
            total = total + edges[i, j] * message
        if layer.update is None:
            out.append(region + np.maximum(total, 0))
        else:
            out.append(region + batch_norm(layer.norm, linear(layer.update, total)))
    return out


def polar_convolution(layer, regions: list[Vector], boxes: np.ndarray) -> list[Vector]:
    """GSMN, eq. 4-6: Gaussian kernels over distance and angle, normalised over the neighbours."""
    rho, theta = layer.distance.detach().double(), layer.angle.detach().double()
    rho_width, theta_width = layer.distance_width.detach().double(), layer.angle_width.detach().double()
    message = layer.message.detach().double().numpy()
    out = []
    for i, region in enumerate(regions):
        parts = []
        for k in range(len(message)):
            weights = []
            for j in range(len(regions)):
                dx = (boxes[j][0] + boxes[j][2] - boxes[i][0] - boxes[i][2]) / 2
                dy = (boxes[j][1] + boxes[j][3] - boxes[i][1] - boxes[i][3]) / 2
                turn = abs(math.atan2(dx, dy) - float(theta[k]))
                turn = min(turn, abs(2 * math.pi - turn))
                near = (math.hypot(dx, dy) - float(rho[k])) ** 2 / (2 * float(rho_width[k]) ** 2)
                weights.append(math.exp(-near) * math.exp(-(turn**2) / (2 * float(theta_width[k]) ** 2)))
            total = sum(weight / sum(weights) * other for weight, other in zip(weights, regions, strict=True))
            parts.append(total @ message[k])
        out.append(region + batch_norm(layer.norm, np.concatenate(parts)))
    return out
