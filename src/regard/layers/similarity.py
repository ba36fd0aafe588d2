"""Similarity as a vector, and reasoning over many of them: SGRAF's layers (Diao, Zhang, Ma, Lu, AAAI 2021).

The *nodes* of a pair are its similarity vectors: node 0 of the two global vectors, the others of each word and what it
attends to. Masks say which nodes are real. Equation numbers are those of docs/models/sgraf.md.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.files import InputError
from regard.layers.normalisation import MaskedBatchNorm
from regard.layers.pooling import unit


def xavier(module: nn.Module) -> None:
    """Start every linear map in `module` as the authors do: Xavier-uniform weights, biases of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class SimilarityVector(nn.Module):
    """How alike two vectors are, as a vector of unit length: unit(W (x - y)^2)."""

    def __init__(self, dim: int, similarity_dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, similarity_dim)
        xavier(self)

    def forward(
        self, first: Float[Tensor, "*#pair dim"], second: Float[Tensor, "*#pair dim"]
    ) -> Float[Tensor, "*pair similarity"]:
        # In mixed precision the attended vectors are narrow already: their difference from wide ones would be wide.
        return unit(self.map((first - second.to(first.dtype)).square()))


class MaskedDropout(nn.Dropout):
    """Dropout that draws for real fragments alone, so that a training step does not depend on the padding."""

    def forward(  # type: ignore[override]  # it needs the mask
        self, vectors: Float[Tensor, "*item fragment dim"], mask: Bool[Tensor, "*item fragment"]
    ) -> Float[Tensor, "*item fragment dim"]:
        if not self.training or self.p == 0:
            return vectors
        # On CPU, uniform numbers are drawn four times as fast as dropout draws its own.
        kept = torch.rand(int(mask.sum()), vectors.shape[-1], device=vectors.device) >= self.p
        scale = kept.to(vectors.dtype) / (1 - self.p)
        return vectors * torch.zeros_like(vectors).masked_scatter(mask[..., None], scale)


class GlobalAttention(nn.Module):
    """One vector of an item: its fragments, weighed by how each agrees with their mean.

    `normalise` adds batch normalisation under each tanh. The authors normalise each *place* of a region over the batch;
    places mean nothing and their number varies, so here it is each feature, over the real fragments.
    """

    def __init__(self, dim: int, dropout: float, normalise: bool) -> None:
        super().__init__()
        self.local = nn.Linear(dim, dim, bias=not normalise)  # normalisation would take a bias away
        self.whole = nn.Linear(dim, dim, bias=not normalise)
        self.local_norm = MaskedBatchNorm(dim) if normalise else None
        self.whole_norm = MaskedBatchNorm(dim) if normalise else None
        self.dropout = MaskedDropout(dropout)
        self.weigh = nn.Linear(dim, 1, bias=False)  # the softmax would take a bias away
        xavier(self)

    def forward(
        self, vectors: Float[Tensor, "*item fragment dim"], mask: Bool[Tensor, "*item fragment"]
    ) -> Float[Tensor, "*item dim"]:
        """A vector of unit length an item; each item has at least one real fragment."""
        mean = vectors.masked_fill(~mask[..., None], 0).sum(-2) / mask.sum(-1, keepdim=True)
        real = mask.any(-1, keepdim=True)
        local, whole = self.local(vectors), self.whole(mean)[..., None, :]
        if self.local_norm is not None and self.whole_norm is not None:
            local, whole = self.local_norm(local, mask), self.whole_norm(whole, real)
        # w'(l * g) = l'(w * g): the product of each fragment and the mean is never built.
        asked = self.dropout(whole.tanh(), real) * self.weigh.weight
        agreement = (self.dropout(local.tanh(), mask) @ asked.to(local.dtype).mT)[..., 0]
        weights = agreement.masked_fill(~mask, float("-inf")).softmax(-1)
        return unit((weights[..., None, :] @ vectors)[..., 0, :])


class SimilarityReasoning(nn.Module):
    """SGR: the nodes hear each other for `steps` rounds, N <- relu(W_r softmax((W_q N)(W_k N)^T) N), each its own W."""

    def __init__(self, dim: int, steps: int = 3) -> None:
        """Raise InputError if there is no step."""
        super().__init__()
        if steps < 1:
            raise InputError(f"Reasoning in {steps} steps: expected at least 1.")
        self.rounds = nn.ModuleList(ReasoningStep(dim) for _ in range(steps))

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, "*pair dim"]:
        """Node 0 after the last round."""
        for step in self.rounds[:-1]:
            nodes = step(nodes, nodes, mask)
        return self.rounds[-1](nodes[..., :1, :], nodes, mask)[..., 0, :]


class ReasoningStep(nn.Module):
    """One round: each of some `hearers` attends to the nodes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # the softmax would take a bias away
        self.update = nn.Linear(dim, dim)
        xavier(self)

    def forward(
        self,
        hearers: Float[Tensor, "*pair hearer dim"],
        nodes: Float[Tensor, "*pair node dim"],
        mask: Bool[Tensor, "*pair node"],
    ) -> Float[Tensor, "*pair hearer dim"]:
        # (W_q h)'(W_k n) = (W_k' W_q h)'n: the two maps are one, and only hearers need it.
        asked = nn.functional.linear(hearers, self.key.weight.T @ self.query.weight, self.query.bias @ self.key.weight)
        edges = (asked @ nodes.mT).masked_fill(~mask[..., None, :], float("-inf")).softmax(-1)
        return self.update(edges.to(nodes.dtype) @ nodes).relu()


class SimilarityFiltration(nn.Module):
    """SAF: the mean of the nodes, each weighed by what a gate makes of it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, 1, bias=False)  # normalisation would take a bias away
        self.norm = MaskedBatchNorm(1)
        xavier(self)

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, "*pair dim"]:
        """A vector of unit length."""
        gates = self.norm(self.gate(nodes), mask).sigmoid().masked_fill(~mask[..., None], 0)
        return unit((gates / gates.sum(-2, keepdim=True)).mT.to(nodes.dtype).matmul(nodes)[..., 0, :])


class MeanNode(nn.Module):
    """The mean of the real nodes, of unit length: neither reasoning nor filtration."""

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, "*pair dim"]:
        return unit(nodes.masked_fill(~mask[..., None], 0).sum(-2))


class Head(nn.Module):
    """From similarity vectors to a score of 0 to 1 (eq. 10): reasoning (eq. 6-7), filtration (eq. 8-9) or the mean."""

    def __init__(self, dim: int, steps: int, kind: str) -> None:
        super().__init__()
        kinds: dict[str, Callable[[], nn.Module]] = {
            "sgr": lambda: SimilarityReasoning(dim, steps),
            "saf": lambda: SimilarityFiltration(dim),
            "mean": MeanNode,
        }
        self.gather = kinds[kind]()
        self.weigh = nn.Linear(dim, 1)
        xavier(self.weigh)

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, " *pair"]:
        gathered = self.gather(nodes, mask)
        # Not as a matrix product, which mixed precision would round: near 1, scores differ by less.
        return ((gathered * self.weigh.weight[0]).sum(-1) + self.weigh.bias).sigmoid()
