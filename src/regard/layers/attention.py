"""Cross attention between the fragments of two items, for all pairs of items at once; and self-attention.

The *queries* attend to the *context*. With words as queries and regions as context this is SCAN's text-to-image
direction; the reverse is image-to-text. Tensors over pairs have the axes [context item, context fragment, query
fragment, query item]: one matrix product makes them, and each reduction over fragments, of either side, runs along an
outer axis.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.batch import Fragments, on_both
from regard.files import InputError
from regard.kernels import fused
from regard.layers.packed import Packed
from regard.layers.pooling import fill
from regard.runtime import wide


@dataclass(frozen=True)
class GramFragments(Fragments):
    """Fragments with the inner products of each two fragments of an item, which give norms of attended vectors."""

    gram: Float[Tensor, "item fragment fragment"]

    fragment_axes: ClassVar[dict[str, tuple[int, ...]]] = {**Fragments.fragment_axes, "gram": (1, 2)}

    @classmethod
    def of(cls, fragments: Fragments) -> "GramFragments":
        """Return `fragments` with their inner products."""
        return cls(fragments.vectors, fragments.mask, fragments.vectors @ fragments.vectors.mT)


Normalisation = Literal["clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "none"]


def of_context(mask: Bool[Tensor, "context fragment"]) -> Bool[Tensor, "context fragment 1 1"]:
    """Return the mask of the context with the axes of tensors over pairs."""
    return mask[:, :, None, None]


def of_queries(mask: Bool[Tensor, "query fragment"]) -> Bool[Tensor, "fragment query"]:
    """Return the mask of the queries with the axes of tensors over pairs."""
    return mask.T


def similarities(
    context: Fragments, queries: Fragments
) -> Float[Tensor, "context context_fragment query_fragment query"]:
    """Return the inner product of each context fragment with each query fragment; zero where either is padding."""
    vectors = queries.vectors.transpose(0, 1)
    product = (context.vectors.flatten(0, 1) @ vectors.flatten(0, 1).mT).view(*context.mask.shape, *vectors.shape[:2])
    return fill(fill(product, on_both(of_context, context.mask), 0.0), on_both(of_queries, queries.mask), 0.0)


def attention(
    similarity: Float[Tensor, "context context_fragment query_fragment query"],
    context: Fragments,
    temperature: float,
    normalisation: Normalisation = "clipped_l2norm",
    queries: Bool[Tensor, "query query_fragment"] | None = None,
) -> Float[Tensor, "context context_fragment query_fragment query"]:
    """Return the weight of each context fragment for each query fragment: a softmax over the context without padding.

    Source: SCAN (Lee et al. 2018; eq. 1-2 in docs/models/scan.md). The similarity is clipped below zero (leaky, 0.1, in
    the released code) and scaled to unit length over the *queries* of the pair. Then it is multiplied by `temperature`
    (SCAN's lambda; larger is sharper) before the softmax. The released code also has l1norm, which divides by the sum
    of absolute values instead of the length, and softmax, one over the queries, for which their mask is needed.
    """
    clipped, scaled = normalisation.startswith("clipped"), normalisation.endswith("l2norm")
    others = normalisation in ("clipped_l1norm", "l1norm", "softmax")
    if not others and (kernels := fused(similarity)):
        return kernels.attention(similarity, context.mask.contiguous(), temperature, clipped, scaled)
    if clipped:
        similarity = F.leaky_relu(similarity, 0.1)
    if scaled:
        squares = (similarity * similarity).sum(2, keepdim=True)
        logits = similarity * (temperature * torch.rsqrt(squares + 1e-16))
    elif normalisation.endswith("l1norm"):
        logits = similarity * (temperature / (similarity.abs().sum(2, keepdim=True) + 1e-8))
    elif normalisation == "softmax":
        assert queries is not None
        logits = temperature * fill(similarity, on_both(of_queries, queries), float("-inf")).softmax(2)
    else:
        logits = temperature * similarity
    return fill(logits, on_both(of_context, context.mask), float("-inf")).softmax(1)


def attended(
    weights: Float[Tensor, "context context_fragment query_fragment query"],
    context: Float[Tensor, "context context_fragment dim"],
    queries: Packed,
) -> Float[Tensor, "context real dim"]:
    """Return the attended vector of each real query fragment, packed: the weighted sum of the context."""
    return queries.pack(weights.transpose(2, 3).flatten(2).mT) @ context


def attended_cosine(
    similarity: Float[Tensor, "context context_fragment query_fragment query"],
    weights: Float[Tensor, "context context_fragment query_fragment query"],
    gram: Float[Tensor, "context context_fragment context_fragment"],
) -> Float[Tensor, "context query_fragment query"]:
    """Return the cosine of each query fragment and its attended context vector, without computing that vector.

    With a = weights and G the Gram matrix of the context's fragments, the inner product is a.(V q) and the norm of the
    attended vector is sqrt(a'Ga). The query fragments q must have unit length or be zero. A zero vector, on either
    side, has cosine 0.
    """
    gathered = (gram @ weights.flatten(2)).view_as(weights)
    # A square near rounding noise comes from regions that cancel: the attended vector then has no direction.
    floor = 1e-6 * gram.diagonal(dim1=1, dim2=2).amax(1) + 1e-12
    if kernels := fused(similarity, weights, gathered, floor):
        return kernels.cosine(similarity, weights, gathered, floor)
    floor = floor[:, None, None]
    products = (weights * similarity).sum(1, dtype=wide(similarity))
    squares = (weights * gathered).sum(1, dtype=wide(similarity))
    scale = torch.rsqrt(squares.clamp(min=floor)) * (squares > floor)
    return products * scale


class SelfAttention(nn.Module):
    """Multi-head self-attention between the fragments of an item (Vaswani et al., NeurIPS 2017), without residual."""

    def __init__(self, dim: int, num_heads: int, output_map: bool = True) -> None:
        """Raises InputError if `num_heads` does not divide `dim`. Without `output_map`, heads are joined only."""
        super().__init__()
        if dim % num_heads:
            raise InputError(f"dim {dim} is not a multiple of num_heads {num_heads}: change either.")
        self.num_heads = num_heads
        self.read = nn.Linear(dim, 3 * dim)  # queries, keys, values
        self.write = nn.Linear(dim, dim) if output_map else nn.Identity()

    def attend(
        self,
        vectors: Float[Tensor, "item fragment dim"],
        allowed: Bool[Tensor, "item #fragment other"],  # noqa: F821 - # is an axis that may be 1
    ) -> Float[Tensor, "item fragment dim"]:
        """Return what each fragment attends to among the fragments that `allowed` marks. Each needs at least one."""
        queries, keys, values = self.read(vectors).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        outputs = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed[:, None])
        joined: Tensor = self.write(outputs.transpose(1, 2).flatten(2))
        return joined
