"""Score as published code usually does: loop over the captions, and build every attended vector of each pair.

The loops follow the equations in docs/models/ and use the weights of our models. Tests check that `score` returns the
same scores, and `regard bench` measures its speed against them. Each loop reads two encodings and returns the scores
[image, text], computed for one caption at a time.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regard.batch import Fragments, Pooled
from regard.layers.attention import Normalisation
from regard.layers.interaction import Branch
from regard.layers.pooling import unit
from regard.models import CMSEI, SCAN, SGRAF, TVRN, Hire, ReSG, VSEInfinity
from regard.models.resg import ReSGGraph
from regard.models.tvrn import TVRNImages, TVRNTexts

Loop = Callable[[Any, Any, Any], Float[Tensor, "image text"]]


def _weights(
    queries: Tensor,
    context: Tensor,
    mask: Tensor,
    temperature: float,
    kind: Normalisation = "clipped_l2norm",
    real: Tensor | None = None,
) -> Float[Tensor, "image context query"]:
    """The weights of the context for each query, as `func_attention` in SCAN's code computes them.

    `real` marks the queries that are no padding, by default all.
    """
    similarity = context @ queries.mT
    if kind.startswith("clipped"):
        similarity = F.leaky_relu(similarity, 0.1)
    if kind.endswith("l2norm"):
        similarity = F.normalize(similarity, dim=2)
    elif kind.endswith("l1norm"):
        similarity = similarity / (similarity.abs().sum(2, keepdim=True) + 1e-8)
    elif kind == "softmax":
        padding = torch.zeros_like(mask[:, :1]) if real is None else ~real
        similarity = similarity.masked_fill(padding[:, None], float("-inf")).softmax(2)
    return (temperature * similarity).masked_fill(~mask[..., None], float("-inf")).softmax(1)


def scan(model: SCAN, images: Fragments, texts: Fragments) -> Float[Tensor, "image text"]:
    config, columns = model.config, []
    for words in _captions(texts):
        queries = words.vectors.expand(len(images), -1, -1)
        context, mask, real = images.vectors, images.mask, queries.new_ones(queries.shape[:2], dtype=torch.bool)
        if config.direction == "i2t":
            queries, context, mask, real = context, queries, real, mask
        weights = _weights(queries, context, mask, config.temperature, config.normalisation, real)
        vectors = weights.mT @ context
        cosine = F.cosine_similarity(queries, vectors, dim=2)
        if config.aggregation in ("mean", "sum"):
            total = cosine.masked_fill(~real, 0).sum(1)
            columns.append(total / real.sum(1) if config.aggregation == "mean" else total)
        elif config.aggregation == "max":
            columns.append(cosine.masked_fill(~real, float("-inf")).amax(1))
        else:
            logits = (config.lse_temperature * cosine).masked_fill(~real, float("-inf"))
            columns.append(logits.logsumexp(1) / config.lse_temperature)
    return torch.stack(columns, 1)


def sgraf(model: SGRAF, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
    columns = []
    for words in _captions(texts):
        nodes = []
        if model.whole is not None:
            nodes.append(model.whole(images.pooled, words.pooled)[:, None])
        if model.local is not None:
            queries = words.vectors.expand(len(images), -1, -1)
            config = model.config
            weights = _weights(queries, images.vectors, images.mask, config.temperature, config.normalisation)
            nodes.append(model.local(unit(weights.mT @ images.vectors), queries))
        vectors = torch.cat(nodes, 1)
        real = vectors.new_ones(vectors.shape[:2], dtype=torch.bool)
        columns.append(model.heads(vectors, real))
    return torch.stack(columns, 1)


def cmsei(model: CMSEI | Hire, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
    """Return the scores of CMSEI or Hire as DIME's code does: its cells map the attended vectors of each pair."""
    interaction, columns = model.interaction, []
    for words in _captions(texts):
        queries, real = words.vectors.expand(len(images), -1, -1), words.mask.expand(len(images), -1)
        text = Pooled(queries, real, words.pooled.expand(len(images), -1))
        scores = []
        if interaction.regions is not None:
            scores.append(_branch(interaction.regions, images, text))
        if interaction.sentences is not None:
            scores.append(_branch(interaction.sentences, text, images))
        options = interaction.options
        learnt = interaction.weights
        local, whole = (options.local_weight, options.global_weight) if learnt is None else learnt
        columns.append(local * sum(scores) / len(scores) + whole * (images.pooled @ words.pooled[0]))
    return torch.stack(columns, 1)


def _branch(branch: Branch, queries: Pooled, context: Pooled) -> Float[Tensor, " pair"]:
    """Return the score of the queries and the context in each row."""
    fragments, real = queries.vectors, queries.mask[..., None]
    if branch.attend is not None:
        refine, zero_padded = branch.attend, fragments.masked_fill(~real, 0)
        vectors = _weights(zero_padded, context.vectors, context.mask, branch.temperature).mT @ context.vectors
        scale, shift = refine.modulation(vectors).chunk(2, -1)
        fragments = fragments + refine.second(refine.first(fragments * scale.tanh() + shift).relu())
    if branch.guide is not None:
        cell, whole, local = branch.guide, context.pooled[:, None], branch.guide.local(fragments)
        if cell.whole is None:
            gate = F.normalize((local * whole).masked_fill(~real, 0), dim=1)
            fragments = fragments + fragments * gate
        elif cell.gate == "sigmoid":
            fragments = fragments * (local + cell.whole(whole)).sigmoid()
        else:
            keep, new = (local + cell.whole(whole)).chunk(2, -1)
            fragments = keep.sigmoid() * fragments + (1 - keep.sigmoid()) * new.tanh()
    mean = fragments.masked_fill(~real, 0).sum(1) / real.sum(1)
    pooled = unit(mean + fragments.masked_fill(~real, float("-inf")).amax(1))
    return (pooled * context.pooled).sum(1)


def tvrn(model: TVRN, images: TVRNImages, texts: TVRNTexts) -> Float[Tensor, "image text"]:
    """Return the scores of TVRN as the authors' code does.

    Each text is expanded by each image, and the GRU then reads it from its first word.
    """
    config, parts, columns = model.config, images.parts(), []
    for words in _captions(texts):
        sequence = words.vectors.expand(len(images), -1, -1)
        content, real = sequence, sequence.new_ones(sequence.shape[:2], dtype=torch.bool)
        if model.attend is not None and words.context is not None:
            queries = model.attend.query(words.context).expand(len(images), -1, -1)
            keys = model.attend.key(images.vectors)
            weights = _weights(queries, keys, images.mask, config.temperature)
            sequence = torch.cat([sequence, unit(weights.mT @ images.vectors)], 1)
            content, real = torch.cat([content, content], 1), torch.cat([real, real], 1)
        if model.read_words.gru is not None:
            states = model.read_words.gru(sequence)[0]
            sequence = unit(states + content if model.read_words.residual else states)
        nodes = []
        if model.whole is not None and model.text_pool is not None and images.pooled is not None:
            nodes.append(model.whole(images.pooled, model.text_pool(sequence, real))[:, None])
        if model.local is not None:
            weights = model.enhanced(
                _weights(sequence, parts.vectors, parts.mask, config.temperature)[..., None], images
            )
            local = model.local(unit(weights[..., 0].mT @ parts.vectors), sequence)
            if config.enhancement == "weighted" and images.pooled is not None:
                gate = (config.temperature * (sequence @ images.pooled[..., None])[..., 0]).softmax(1)
                local = local * (gate * gate.shape[1])[..., None]
            nodes.append(local)
        vectors = torch.cat(nodes, 1)
        real = vectors.new_ones(vectors.shape[:2], dtype=torch.bool)
        columns.append(model.heads(vectors, real))
    return torch.stack(columns, 1)


def resg(model: ReSG, images: ReSGGraph, texts: ReSGGraph) -> Float[Tensor, "image text"]:
    config, columns = model.config, []
    for words in _captions(texts):
        column = _best_cosines(images.vectors, images.mask, words.vectors, words.mask, config.direction)
        if model.related:
            image, text = (images.relations, images.relation_mask), (words.relations, words.relation_mask)
            column = column + config.relation_weight * _best_cosines(*image, *text, config.direction)
        columns.append(column + config.global_weight * (images.pooled @ words.pooled[0]))
    return torch.stack(columns, 1)


def _best_cosines(
    nodes: Tensor, mask: Tensor, other: Tensor, other_mask: Tensor, direction: str
) -> Float[Tensor, " image"]:
    cosine = nodes @ other.mT  # [image, node, other]
    to_text = (
        cosine.masked_fill(~mask[..., None], float("-inf")).amax(1).masked_fill(~(mask.any(1, True) & other_mask), 0)
    )
    to_image = cosine.masked_fill(~other_mask[:, None], float("-inf")).amax(2).masked_fill(~mask, 0)
    means = {"t2i": to_text.sum(1) / other_mask.sum(), "i2t": to_image.sum(1) / mask.sum(1).clamp(min=1)}
    return means[direction] if direction in means else (means["t2i"] + means["i2t"]) / 2


def vse_infinity(model: VSEInfinity, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
    return torch.stack([images.pooled @ text for text in texts.pooled], 1)


def _captions(texts: Any) -> Any:
    """Yield each text as a batch of one, without padding."""
    for number in range(len(texts)):
        yield texts[number : number + 1].trimmed()


LOOPS: dict[type, Loop] = {
    CMSEI: cmsei,
    Hire: cmsei,
    ReSG: resg,
    SCAN: scan,
    SGRAF: sgraf,
    TVRN: tvrn,
    VSEInfinity: vse_infinity,
}
