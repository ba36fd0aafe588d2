"""Reasoning over dense graphs of regions: residual graph convolution, and convolution over polar coordinates."""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from regard.boxes import polar
from regard.files import InputError
from regard.layers.normalisation import MaskedBatchNorm


def normalised(edges: Float[Tensor, "image region other"]) -> Float[Tensor, "image region other"]:
    """Return D^-1 E: the edges of each region, scaled to sum to one. A region without edges keeps none."""
    degree = edges.sum(-1, keepdim=True)
    return edges / torch.where(degree == 0, 1.0, degree)


def between_real(
    edges: Shaped[Tensor, "image region region"], mask: Bool[Tensor, "image region"]
) -> Shaped[Tensor, "image region region"]:
    """Return the edges (or their labels) with zero where an end is padding."""
    return edges.masked_fill(~(mask[:, :, None] & mask[:, None, :]), 0)


class GraphConvolution(nn.Module):
    """One layer: V + BN(W_r(A(V W_g) + labels)) (VSRN, Li et al. 2019), or relu(A V W) + V with `classic`.

    This is eq. 4 of docs/models/cmsei.md. `num_labels` is the number of label classes of the edges; each label adds a
    learnt vector to the message along its edge.
    """

    def __init__(self, dim: int, num_labels: int = 0, classic: bool = False) -> None:
        super().__init__()
        self.message = nn.Linear(dim, dim, bias=False)
        self.label = nn.Embedding(num_labels, dim, padding_idx=0) if num_labels else None
        self.update = None if classic else nn.Linear(dim, dim)
        self.norm = None if classic else MaskedBatchNorm(dim, start=0.0)

    def forward(
        self,
        vectors: Float[Tensor, "image region dim"],
        mask: Bool[Tensor, "image region"],
        edges: Float[Tensor, "image region region"],
        labels: Int[Tensor, "image region region"] | None = None,
    ) -> Float[Tensor, "image region dim"]:
        messages = edges @ self.message(vectors)
        if self.label is not None and labels is not None:
            # Edges are summed by label first, so that no tensor [image, region, region, dim] is built.
            amounts = edges.new_zeros(*edges.shape[:2], self.label.num_embeddings).scatter_add(2, labels, edges)
            messages = messages + amounts[..., 1:] @ self.label.weight[1:]  # label 0 is none
        if self.update is None or self.norm is None:
            return vectors + messages.relu()
        return vectors + self.norm(self.update(messages), mask)


class PolarConvolution(nn.Module):
    """GSMN's spatial layer (Liu et al., CVPR 2020): Gaussian kernels over the polar coordinates of pairs of regions.

    Each of `num_kernels` kernels weighs the neighbours of a region by distance and angle. The weighted sums are mapped
    to `dim / num_kernels` numbers each, and joined. The output is normalised as in GraphConvolution, so that the layer
    starts as the identity. Raises InputError if `num_kernels` does not divide `dim`.
    """

    def __init__(self, dim: int, num_kernels: int = 8) -> None:
        super().__init__()
        if dim % num_kernels:
            raise InputError(f"dim {dim} is not a multiple of num_kernels {num_kernels}: change either.")
        self.distance = nn.Parameter(torch.rand(num_kernels))
        self.angle = nn.Parameter((torch.rand(num_kernels) * 2 - 1) * math.pi)
        self.distance_width = nn.Parameter(torch.rand(num_kernels) + 0.1)
        self.angle_width = nn.Parameter(torch.rand(num_kernels) + 0.1)
        self.message = nn.Parameter(torch.empty(num_kernels, dim, dim // num_kernels))
        for kernel in self.message:
            nn.init.xavier_uniform_(kernel)
        self.norm = MaskedBatchNorm(dim, start=0.0)

    def forward(
        self,
        vectors: Float[Tensor, "image region dim"],
        mask: Bool[Tensor, "image region"],
        boxes: Float[Tensor, "image region 4"],
    ) -> Float[Tensor, "image region dim"]:
        weights = self.weights(boxes, mask)
        messages = torch.einsum("ikrs,isd,kde->irke", weights, vectors, self.message).flatten(2)
        return vectors + self.norm(messages, mask)

    def weights(
        self, boxes: Float[Tensor, "image region 4"], mask: Bool[Tensor, "image region"]
    ) -> Float[Tensor, "image kernel region region"]:
        """Return the kernels' weights of each region's neighbours, which sum to one over the neighbours."""
        rho, theta = (part[:, None] for part in polar(boxes))
        distance, angle = self.distance[:, None, None], self.angle[:, None, None]
        turn = (theta - angle).abs()
        turn = torch.minimum(turn, (2 * math.pi - turn).abs())
        near = ((rho - distance) / self.distance_width[:, None, None]).square()
        # The softmax subtracts the largest exponent, which cancels, so that no row underflows to 0 / 0.
        logits = -(near + (turn / self.angle_width[:, None, None]).square()) / 2
        weights = logits.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(-1)
        return weights.masked_fill(~mask[:, None, :, None], 0)
