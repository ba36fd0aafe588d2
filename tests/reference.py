"""Each paper's equations for one pair, in plain loops and float64: what the models must equal to 1e-5.

`regions` and `words` are lists of vectors (numpy arrays) of the real fragments alone: an oracle knows no padding.
"""

import math

import numpy as np

Vector = np.ndarray


def unit(vector: Vector) -> Vector:
    length = math.sqrt(sum(float(x) * float(x) for x in vector))
    return vector / length if length > 0 else vector


def linear(layer, vector: Vector) -> Vector:
    out = np.zeros(layer.weight.shape[0])
    weight = layer.weight.detach().double().numpy()
    for row in range(len(out)):
        out[row] = sum(weight[row, column] * vector[column] for column in range(len(vector)))
    return out + layer.bias.detach().double().numpy() if layer.bias is not None else out


def attention_weights(
    queries: list[Vector], context: list[Vector], temperature: float, normalisation: str
) -> np.ndarray:
    """SCAN, eq. 1-2: alpha[q][c], a softmax over the context of the similarity normalised over the queries."""
    similarity = np.zeros((len(queries), len(context)))
    for q, query in enumerate(queries):
        for c, item in enumerate(context):
            s = float(np.dot(query, item))
            if normalisation in ("clipped_l2norm", "clipped"):
                s = s if s > 0 else 0.1 * s
            similarity[q, c] = s
    if normalisation in ("clipped_l2norm", "l2norm"):
        for c in range(len(context)):
            similarity[:, c] = unit(similarity[:, c])
    alpha = np.zeros_like(similarity)
    for q in range(len(queries)):
        exponents = [math.exp(temperature * s) for s in similarity[q]]
        for c in range(len(context)):
            alpha[q, c] = exponents[c] / sum(exponents)
    return alpha


def scan(model, regions: list[Vector], words: list[Vector]) -> float:
    """SCAN's score of one pair; `regions` and `words` are projected and of unit length."""
    config = model.config
    queries, context = (words, regions) if config.direction == "t2i" else (regions, words)
    alpha = attention_weights(queries, context, config.temperature, config.normalisation)
    cosines = []
    for q, query in enumerate(queries):
        attended = sum(alpha[q, c] * item for c, item in enumerate(context))
        cosines.append(float(np.dot(unit(attended), unit(query))))
    if config.aggregation == "mean":
        return sum(cosines) / len(cosines)
    return math.log(sum(math.exp(config.lse_temperature * cosine) for cosine in cosines)) / config.lse_temperature


def generalized_pooling(weights: Vector, fragments: list[Vector]) -> Vector:
    """VSE-infinity, eq. 4: the weighted sum of each feature's k-th largest value."""
    out = np.zeros(len(fragments[0]))
    for feature in range(len(out)):
        values = sorted((fragment[feature] for fragment in fragments), reverse=True)
        out[feature] = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return out


def vse_infinity(region_weights: Vector, word_weights: Vector, regions: list[Vector], words: list[Vector]) -> float:
    image = unit(generalized_pooling(region_weights, regions))
    text = unit(generalized_pooling(word_weights, words))
    return float(np.dot(image, text))


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
    """Of a fragment in eval mode."""
    mean, var = layer.running_mean.double().numpy(), layer.running_var.double().numpy()
    gamma, beta = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return (vector - mean) / np.sqrt(var + layer.eps) * gamma + beta


def graph_convolution(layer, regions: list[Vector], edges: np.ndarray, labels: np.ndarray | None) -> list[Vector]:
    """V + BN(W_r(A(V W_g) + labels)), or relu(A V W) + V, a region at a time."""
    out = []
    for i, region in enumerate(regions):
        heard = np.zeros(len(region))
        for j, other in enumerate(regions):
            message = linear(layer.message, other)
            if layer.label is not None and labels is not None:
                message = message + layer.label.weight.detach().double().numpy()[labels[i, j]]
            heard = heard + edges[i, j] * message
        if layer.update is None:
            out.append(region + np.maximum(heard, 0))
        else:
            out.append(region + batch_norm(layer.norm, linear(layer.update, heard)))
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
            heard = sum(weight / sum(weights) * other for weight, other in zip(weights, regions, strict=True))
            parts.append(heard @ message[k])
        out.append(region + batch_norm(layer.norm, np.concatenate(parts)))
    return out


def cmsei_spatial(model, regions: list[Vector], boxes: np.ndarray) -> list[Vector]:
    config, count = model.config, len(regions)
    edges, labels = np.zeros((count, count)), np.zeros((count, count), int)
    for layer in model.spatial:
        if config.spatial == "polar":
            regions = polar_convolution(layer, regions, boxes)
            continue
        if layer is model.spatial[0]:  # the edges are made once, from the projected regions
            for i in range(count):
                for j in range(count):
                    cosine = float(np.dot(regions[i], regions[j]))
                    if config.spatial == "full":
                        edges[i, j] = cosine
                    elif config.spatial == "iou":
                        edges[i, j] = cosine if i == j or box_iou(boxes[i], boxes[j]) >= config.iou_threshold else 0
                    else:
                        labels[i, j] = 0 if i == j else box_relation(boxes[i], boxes[j])
                        edges[i, j] = 1 if i == j or labels[i, j] else 0
            if config.spatial == "classes":
                edges = edges / edges.sum(1, keepdims=True)
        regions = graph_convolution(layer, regions, edges, labels)
    return regions


def cmsei_semantic(model, regions: list[Vector], relations: np.ndarray) -> list[Vector]:
    config, count = model.config, len(regions)
    edges = np.zeros((count, count))
    labels = np.minimum(relations, config.num_predicates) if config.num_predicates else None
    for i in range(count):
        for j in range(count):
            related = relations[i, j] > 0 or (not config.directed and relations[j, i] > 0)
            if i == j or related:
                edges[i, j] = float(np.dot(regions[i], regions[j])) if config.semantic == "weighted" else 1
    if config.semantic == "edges":
        edges = edges / edges.sum(1, keepdims=True)
    for layer in model.semantic:
        regions = graph_convolution(layer, regions, edges, labels)
    return regions


def cmsei_regions(model, regions: list[Vector], boxes: np.ndarray, relations: np.ndarray) -> list[Vector]:
    """The regions after both graphs; `regions` are projected and of unit length."""
    config = model.config
    spatial = cmsei_spatial(model, regions, boxes) if len(model.spatial) else None
    source = spatial if config.fusion == "sequential" and spatial else regions
    semantic = cmsei_semantic(model, source, relations) if len(model.semantic) else None
    out = []
    for i, region in enumerate(regions):
        if config.fusion == "sequential":
            fused = semantic[i] if semantic else (spatial or regions)[i]
        elif config.fusion == "gated":
            s, m = (spatial or regions)[i], (semantic or regions)[i]
            gate = 1 / (1 + np.exp(-linear(model.fusion_gate, np.concatenate([s, m]))))
            fused = gate * s + (1 - gate) * m
        else:
            parts = [part[i] for part in (spatial, semantic) if part] or [region]
            fused = sum(parts) / len(parts)
        out.append(unit(fused))
    return out


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
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
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


def cmsei(model, regions: list[Vector], boxes: np.ndarray, relations: np.ndarray, words: list[Vector]) -> float:
    """CMSEI's score of one pair; `regions` and `words` are projected and of unit length."""
    config = model.config
    regions = cmsei_regions(model, regions, boxes, relations)
    image, text = unit(np.mean(regions, axis=0)), unit(np.mean(words, axis=0))
    parts = []
    if config.alignment in ("both", "regions"):
        parts.append(cmsei_branch(model.regions, regions, words, text))
    if config.alignment in ("both", "words"):
        parts.append(cmsei_branch(model.sentences, words, regions, image))
    return sum(parts) / len(parts) + config.global_weight * float(np.dot(image, text))
