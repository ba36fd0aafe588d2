"""Regions and words that refine each other, for every pair: stages 2 and 3 of CMSEI, shared by Hire.

Equation numbers are those of docs/models/cmsei.md.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.batch import Pooled
from regard.kernels import fused
from regard.layers.attention import attended, attention, similarities
from regard.layers.packed import Packed
from regard.layers.pooling import mean_max_pool, unit
from regard.layers.summary import zero
from regard.runtime import inner

Gate = Literal["norm", "sigmoid", "memory"]


@dataclass(frozen=True, kw_only=True)
class InteractionOptions:
    """Options of the interaction between the regions and words of a pair, and of the score."""

    # Interactive attention between objects and words
    object_word: Literal["both", "regions", "words", "none"] = "both"  # the side that attends to the other
    region_temperature: float = 4.0
    word_temperature: float = 9.0
    # Interaction across levels
    object_sentence: bool = True  # the global vector of the text guides the regions
    word_image: bool = True  # the global vector of the image guides the words
    gate: Gate = "norm"  # see GuidanceCell
    # The score
    alignment: Literal["both", "regions", "words"] = "both"  # the branches that are scored
    local_weight: float = 1.0  # of the branches
    global_weight: float = 0.0  # beta, the weight of the cosine of the two global vectors
    learn_weights: bool = False  # train both weights, from these values


class Interaction(nn.Module):
    """The score of every pair. Each branch refines the fragments of one side by the other side.

    The refined fragments are pooled and compared with the global vector of the other side.
    """

    def __init__(self, dim: int, options: InteractionOptions) -> None:
        super().__init__()
        self.options = options
        self.regions = self.sentences = None
        if options.alignment in ("both", "regions"):
            attends = options.object_word in ("both", "regions")
            self.regions = Branch(dim, attends, options.region_temperature, options.object_sentence, options.gate)
        if options.alignment in ("both", "words"):
            attends = options.object_word in ("both", "words")
            self.sentences = Branch(dim, attends, options.word_temperature, options.word_image, options.gate)
        weights = torch.tensor([options.local_weight, options.global_weight])
        self.weights = nn.Parameter(weights) if options.learn_weights else None

    def forward(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
        return reduce(torch.add, self.parts(images, texts).values())

    def parts(self, images: Pooled, texts: Pooled) -> dict[str, Float[Tensor, "image text"]]:
        """Return the addends of the score: each branch, by the side that it refines, and the global vectors."""
        parts = {}
        if self.regions is not None:
            parts["regions"] = self.regions(context=texts, queries=images).T  # eq. 9
        if self.sentences is not None:
            parts["words"] = self.sentences(context=images, queries=texts)  # eq. 10
        local: float | Tensor = self.options.local_weight
        whole: float | Tensor = self.options.global_weight
        if self.weights is not None:
            local, whole = self.weights
        parts = {name: local * (part / len(parts)) for name, part in parts.items()}  # eq. 11
        if self.weights is not None or self.options.global_weight:
            parts["global"] = whole * inner(images.pooled, texts.pooled)
        return parts

    def start_as_identity(self) -> None:
        """Let fragments start as they are, without refinement; and the score as the cosine of global vectors, if its
        weights are learnt."""
        for branch in (self.regions, self.sentences):
            if branch is not None and branch.attend is not None:
                zero(branch.attend.second)
        if self.weights is not None:
            with torch.no_grad():
                self.weights.copy_(torch.tensor([0.0, 1.0]))

    def align(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text region word"]:
        """Return the attention of words over regions if that branch exists, otherwise of regions over words."""
        if self.sentences is not None:
            weights = self.sentences.weights(images, texts).masked_fill(~texts.mask.T, 0)
            return weights.permute(0, 3, 1, 2)
        assert self.regions is not None
        return self.regions.weights(texts, images).masked_fill(~images.mask.T, 0).permute(3, 0, 2, 1)


class Branch(nn.Module):
    """One direction of the interaction: a score for each pair of a context item and a query item.

    The query fragments attend to the context fragments and are guided by the global vector of the context. They are
    then pooled and compared with that global vector.
    """

    def __init__(self, dim: int, attends: bool, temperature: float, guided: bool, gate: Gate) -> None:
        super().__init__()
        self.temperature = temperature
        self.attend = RefinementCell(dim) if attends else None
        self.guide = GuidanceCell(dim, gate) if guided else None

    def forward(self, context: Pooled, queries: Pooled) -> Float[Tensor, "context query"]:
        items = Packed(queries.mask)
        fragments = items.pack(queries.vectors.flatten(0, 1))[None]
        if self.attend is not None:
            fragments = self.attend(fragments, context.vectors, self.weights(context, queries), items)
        if self.guide is not None:
            pooled = self.guide(fragments.expand(len(context), -1, -1), context.pooled, items)
        else:
            pooled = mean_max_pool(fragments, items).expand(len(context), -1, -1)
        return inner(pooled, context.pooled[:, None])[..., 0]

    def weights(
        self, context: Pooled, queries: Pooled
    ) -> Float[Tensor, "context context_fragment query_fragment query"]:
        return attention(similarities(context, queries), context, self.temperature)  # eq. 6


class RefinementCell(nn.Module):
    """DIME's cross-modal refinement: the attended context scales and shifts each query fragment (eq. 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(dim, 2 * dim)  # scale and shift
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)

    def forward(
        self,
        queries: Float[Tensor, "1 real dim"],
        context: Float[Tensor, "context context_fragment dim"],
        weights: Float[Tensor, "context context_fragment query_fragment query"],
        items: Packed,
    ) -> Float[Tensor, "context real dim"]:
        # The weights of a query sum to one, so the context can be mapped instead of the attended vector.
        modulation = attended(weights, self.modulation(context), items)
        queries = queries.to(modulation.dtype)  # under autocast, per-pair tensors stay in bfloat16
        if kernels := fused(modulation, queries):
            modulated = kernels.modulated(modulation, queries[0])
        else:
            scale, shift = modulation.chunk(2, dim=-1)
            modulated = torch.addcmul(shift, queries, scale.tanh())
        return queries + self.second(self.first(modulated).relu_())


class GuidanceCell(nn.Module):
    """DIME's global-local guidance: the other side's global vector weights the features of each fragment (eq. 8).

    norm: (1 + x) v, where x = (W v) * g is scaled to unit length over the fragments; sigmoid: v * sigma(W [v; g]);
    memory: IMRAM's gated memory, s v + (1 - s) tanh(W' [v; g]) with s = sigma(W [v; g]).
    """

    def __init__(self, dim: int, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        width = 2 * dim if gate == "memory" else dim
        self.local = nn.Linear(dim, width)
        self.whole = None if gate == "norm" else nn.Linear(dim, width, bias=False)

    def forward(
        self,
        fragments: Float[Tensor, "context real dim"],
        whole: Float[Tensor, "context dim"],
        items: Packed,
    ) -> Float[Tensor, "context item dim"]:
        """Return `mean_max_pool` of the weighted fragments."""
        local = self.local(fragments)
        if self.gate == "norm" and (kernels := fused(fragments, local, whole)):
            return unit(kernels.guided_pool(fragments, local, whole, items.bounds))
        return mean_max_pool(self._guided(fragments, local, whole, items), items)

    def _guided(self, fragments: Tensor, local: Tensor, whole: Tensor, items: Packed) -> Tensor:
        fragments, whole = fragments.to(local.dtype), whole.to(local.dtype)
        if self.whole is None:
            x = local * whole[:, None]
            return torch.addcmul(fragments, fragments, items.scaled(x, torch.rsqrt(items.sum(x * x) + 1e-16)))
        joint = local + self.whole(whole)[:, None]
        if self.gate == "sigmoid":
            return fragments * joint.sigmoid()
        keep, new = joint.chunk(2, dim=-1)
        return torch.lerp(new.tanh(), fragments, keep.sigmoid())
