"""Similarity vectors and reasoning over them: the layers of SGRAF (Diao, Zhang, Ma, Lu, AAAI 2021).

The *nodes* of a pair are its similarity vectors: node 0 compares the two global vectors, each other node compares a
word and its attended vector. Masks mark the real nodes. Equation numbers are those of docs/models/sgraf.md.
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.batch import host, on_both
from regard.draws import FRAGMENTS, WHOLE, uniform
from regard.files import InputError
from regard.kernels import fused
from regard.layers.normalisation import MaskedBatchNorm
from regard.layers.pooling import unit


def xavier(module: nn.Module) -> None:
    """Initialise every linear map in `module` like the authors: Xavier-uniform weights, biases of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class SimilarityVector(nn.Module):
    """The similarity of two vectors as a vector of unit length: unit(W (x - y)^2)."""

    def __init__(self, dim: int, similarity_dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, similarity_dim)
        xavier(self)

    def forward(
        self, first: Float[Tensor, "*#pair dim"], second: Float[Tensor, "*#pair dim"]
    ) -> Float[Tensor, "*pair similarity"]:
        # Under autocast, the attended vectors are in bfloat16; their difference from float32 vectors would be float32.
        second = second.to(first.dtype)
        if first.shape[-2:] == second.shape[-2:] and (kernels := fused(first, second)):
            return unit(self.map(kernels.squared_difference(first, second)))
        return unit(self.map((first - second).square()))


class Noise(NamedTuple):
    """Random factors of a dropout."""

    local: Float[Tensor, "item fragment copy dim"]
    whole: Float[Tensor, "item dim"]


class AffineByPlace(nn.Module):
    """A scale and a shift of each fragment by its place among the real fragments of its item.

    This is what SGRAF's batch normalisation of places is in eval mode. There is none in training mode.
    """

    def __init__(self, places: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(places)), nn.Parameter(torch.zeros(places))

    def forward(
        self, vectors: Float[Tensor, "item fragment dim"], mask: Bool[Tensor, "item fragment"]
    ) -> Float[Tensor, "item fragment dim"]:
        """Raises InputError if an item has more real fragments than there are places."""
        if (most := max(host(mask).sum(1).tolist(), default=0)) > len(self.scale):
            raise InputError(f"An image has {most} fragments, and the model was made for {len(self.scale)}.")
        place = on_both(lambda t: (t.long().cumsum(1) - 1).clamp(min=0), mask)
        return vectors * self.scale[place][..., None] + self.shift[place][..., None]


class GlobalAttention(nn.Module):
    """One vector per item: its fragments, weighted by their agreement with their mean.

    `normalise` adds batch normalisation before each tanh. The authors normalise each *position* of a region over the
    batch. Positions have no meaning and their number varies, so here each feature is normalised over the real
    fragments. `places` is for checkpoints of the authors: the fragments of each place have an affine map instead.
    """

    def __init__(self, dim: int, dropout: float, normalise: bool, places: int = 0) -> None:
        super().__init__()
        self.dropout = dropout
        # A bias would have no effect before the normalisation of features.
        self.local = nn.Linear(dim, dim, bias=not normalise or places > 0)
        self.whole = nn.Linear(dim, dim, bias=not normalise)
        self.local_norm: MaskedBatchNorm | AffineByPlace | None = None
        if normalise:
            self.local_norm = AffineByPlace(places) if places else MaskedBatchNorm(dim)
        self.whole_norm = MaskedBatchNorm(dim) if normalise else None
        self.weigh = nn.Linear(dim, 1, bias=False)  # a bias would have no effect in the softmax
        xavier(self)

    def draw_noise(
        self, mask: Bool[Tensor, "item fragment"], states: Int[Tensor, " item"] | None, copies: int = 1
    ) -> Noise | None:
        """Return random factors for the dropout of a training step, or None if nothing is dropped.

        `states` are those of the items (see `regard.draws`), and `copies` is the number of vectors per fragment.
        """
        if not self.training or self.dropout == 0:
            return None
        dim = self.local.out_features

        def factors(mask: Tensor, width: int, stream: int) -> Tensor:
            kept = uniform(states, mask, width, stream) >= self.dropout
            return kept.to(self.local.weight.dtype) / (1 - self.dropout)

        local = factors(mask, copies * dim, FRAGMENTS).masked_fill(~mask[..., None], 0)
        return Noise(local.unflatten(2, (copies, dim)), factors(mask.any(1, keepdim=True), dim, WHOLE)[:, 0])

    def forward(
        self,
        vectors: Float[Tensor, "*item fragment dim"],
        mask: Bool[Tensor, "*item fragment"],
        noise: Noise | None = None,
    ) -> Float[Tensor, "*item dim"]:
        """Return a vector of unit length per item. Each item needs at least one real fragment.

        `noise` is what `draw_noise` returned for these fragments.
        """
        mean = vectors.masked_fill(~mask[..., None], 0).sum(-2) / mask.sum(-1, keepdim=True)
        local, whole = self.local(vectors), self.whole(mean)[..., None, :]
        if self.local_norm is not None and self.whole_norm is not None:
            local, whole = self.local_norm(local, mask), self.whole_norm(whole, mask.any(-1, keepdim=True))
        local, whole = local.tanh(), whole.tanh()
        if noise is not None:
            local = local * noise.local.transpose(-2, -3).flatten(-3, -2).to(local.dtype)
            whole = whole * noise.whole[..., None, :].to(whole.dtype)
        # w'(l * g) = l'(w * g): the product of each fragment and the mean is never built.
        weighted = whole * self.weigh.weight
        agreement = (local @ weighted.to(local.dtype).mT)[..., 0]
        weights = agreement.masked_fill(~mask, float("-inf")).softmax(-1)
        return unit((weights[..., None, :] @ vectors)[..., 0, :])


class SimilarityReasoning(nn.Module):
    """SGR: in each of `steps` rounds the nodes attend to each other: N <- relu(W_r softmax((W_q N)(W_k N)^T) N).

    Each round has its own weights.
    """

    def __init__(self, dim: int, steps: int = 3) -> None:
        """Raises InputError if `steps` is less than 1."""
        super().__init__()
        if steps < 1:
            raise InputError(f"Reasoning in {steps} steps: expected at least 1.")
        self.rounds = nn.ModuleList(ReasoningStep(dim) for _ in range(steps))

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, "*pair dim"]:
        """Return the first real node after the last round: the global one, or the first word if there is none."""
        for step in self.rounds[:-1]:
            nodes = step(nodes, nodes, mask)
        first = mask.int().argmax(-1)[..., None, None].expand(*nodes.shape[:-2], 1, nodes.shape[-1])
        return self.rounds[-1](nodes.gather(-2, first), nodes, mask)[..., 0, :]


class ReasoningStep(nn.Module):
    """One round, in which each of the query nodes attends to all nodes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # a bias would have no effect in the softmax
        self.update = nn.Linear(dim, dim)
        xavier(self)

    def forward(
        self,
        queries: Float[Tensor, "*pair query dim"],
        nodes: Float[Tensor, "*pair node dim"],
        mask: Bool[Tensor, "*pair node"],
    ) -> Float[Tensor, "*pair query dim"]:
        # (W_q q)'(W_k n) = (W_k' W_q q)'n: one map of the query nodes q replaces the two maps of q and of all nodes n.
        mapped = nn.functional.linear(queries, self.key.weight.T @ self.query.weight, self.query.bias @ self.key.weight)
        edges = (mapped @ nodes.mT).masked_fill(~mask[..., None, :], float("-inf")).softmax(-1)
        return self.update(edges.to(nodes.dtype) @ nodes).relu_()


class SimilarityFiltration(nn.Module):
    """SAF: the mean of the nodes, each weighted by a gate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, 1, bias=False)  # a bias would have no effect before the normalisation
        self.norm = MaskedBatchNorm(1)
        xavier(self)

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, "*pair dim"]:
        """Return a vector of unit length."""
        gates = self.norm(self.gate(nodes), mask).sigmoid().masked_fill(~mask[..., None], 0)
        return unit((gates / gates.sum(-2, keepdim=True)).mT.to(nodes.dtype).matmul(nodes)[..., 0, :])


class MeanNode(nn.Module):
    """The mean of the real nodes, scaled to unit length: neither reasoning nor filtration."""

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, "*pair dim"]:
        return unit(nodes.masked_fill(~mask[..., None], 0).sum(-2))


class Heads(nn.ModuleList):
    """One or more heads over the same nodes, whose scores are averaged."""

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, " *pair"]:
        return reduce(torch.add, self.parts(nodes, mask).values())

    def parts(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> dict[str, Float[Tensor, " *pair"]]:
        """Return the addends of the score: that of each head, by its name, divided by their number."""
        return {str(head.name): head(nodes, mask) / len(self) for head in self}

    def scores_without(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> dict[str, Float[Tensor, " *pair"]]:
        """Return the score without the global node, which is node 0, and the score without the local nodes."""
        is_global = torch.arange(mask.shape[-1], device=mask.device) == 0
        return {"global": self(nodes, mask & ~is_global), "local": self(nodes, mask & is_global)}

    @property
    def norm(self) -> MaskedBatchNorm | None:
        """The batch normalisation of the head that has one; None if there is none."""
        return next((module for module in self.modules() if isinstance(module, MaskedBatchNorm)), None)


class Head(nn.Module):
    """From similarity vectors to a score from 0 to 1 (eq. 10), by reasoning (eq. 6-7), filtration (eq. 8-9) or mean."""

    def __init__(self, dim: int, steps: int, kind: str) -> None:
        super().__init__()
        kinds: dict[str, Callable[[], nn.Module]] = {
            "sgr": lambda: SimilarityReasoning(dim, steps),
            "saf": lambda: SimilarityFiltration(dim),
            "mean": MeanNode,
        }
        self.name = {"sgr": "reasoning", "saf": "filtration", "mean": "mean"}[kind]
        self.gather = kinds[kind]()
        self.weigh = nn.Linear(dim, 1)
        xavier(self.weigh)

    def forward(
        self, nodes: Float[Tensor, "*pair node dim"], mask: Bool[Tensor, "*pair node"]
    ) -> Float[Tensor, " *pair"]:
        gathered = self.gather(nodes, mask)
        # Not a matrix product: autocast would round it, and scores near 1 differ by less than that rounding.
        return ((gathered * self.weigh.weight[0]).sum(-1) + self.weigh.bias).sigmoid()
