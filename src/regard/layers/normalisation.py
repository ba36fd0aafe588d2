"""Batch normalisation that ignores padding."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the real fragments of a batch; the output is zero on padding.

    `start` is the initial value of gamma. With 0, a residual branch starts as the identity.
    """

    def __init__(self, dim: int, start: float = 1.0) -> None:
        super().__init__(dim)
        nn.init.constant_(self.weight, start)

    def forward(  # type: ignore[override]  # it needs the mask
        self, vectors: Float[Tensor, "*item fragment dim"], mask: Bool[Tensor, "*item fragment"]
    ) -> Float[Tensor, "*item fragment dim"]:
        real = super().forward(vectors[mask])
        return torch.zeros_like(vectors, dtype=real.dtype).masked_scatter(mask[..., None], real)
