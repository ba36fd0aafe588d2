"""Batch normalisation that ignores padding, and whose statistics do not depend on how a batch is cut into blocks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.ranks import gather_tensors, world
from regard.runtime import wide


class Moments(NamedTuple):
    """The number of real fragments, and the mean and the sum of squared deviations of each feature over them."""

    num_real: Float[Tensor, ""]
    mean: Float[Tensor, " dim"]
    deviation: Float[Tensor, " dim"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "*item fragment dim"], mask: Bool[Tensor, "*item fragment"]) -> "Moments":
        """Return the moments of the real fragments, in float32 at least."""
        padding, others = ~mask[..., None], tuple(range(vectors.ndim - 1))
        vectors = vectors.to(wide(vectors))
        count = mask.sum().to(vectors.dtype)
        mean = vectors.masked_fill(padding, 0).sum(others) / count.clamp(min=1)
        return cls(count, mean, (vectors - mean).masked_fill(padding, 0).square().sum(others))

    @classmethod
    def combined(cls, parts: Sequence["Moments"]) -> "Moments":
        """Return the moments of all parts together (Chan, Golub, LeVeque 1979)."""
        counts, means, deviations = (torch.stack(values) for values in zip(*parts, strict=True))
        count = counts.sum()
        weights = counts[:, None]
        mean = (weights * means).sum(0) / count.clamp(min=1)
        return cls(count, mean, (deviations + weights * (means - mean).square()).sum(0))

    def over_ranks(self) -> "Moments":
        """Return the moments of the parts of all processes of a job together."""
        if world() == 1:
            return self
        (rows,) = gather_tensors([torch.cat([self.num_real[None], self.mean, self.deviation])[None]])
        return Moments.combined([Moments(row[0], *row[1:].chunk(2)) for row in rows])


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the real fragments of a batch; the output is zero on padding.

    In training mode, a batch that is scored in blocks is normalised by the moments of the whole batch: `moments_in`
    computes those of each block, and `with_moments` applies those of all. The moments are those of all processes of a
    job. `start` is the initial value of gamma. With 0, a residual branch starts as the identity.
    """

    def __init__(self, dim: int, start: float = 1.0) -> None:
        super().__init__(dim)
        nn.init.constant_(self.weight, start)
        self._given: Moments | None = None  # within `with_moments`
        self._observed: list[Moments] | None = None  # within `moments_in`

    def forward(  # type: ignore[override]  # it needs the mask
        self, vectors: Float[Tensor, "*item fragment dim"], mask: Bool[Tensor, "*item fragment"]
    ) -> Float[Tensor, "*item fragment dim"]:
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = self.running_mean, self.running_var
        if self.training:
            moments = self._given or Moments.of(vectors, mask)
            if self._observed is not None:
                self._observed.append(moments)
            elif self._given is None:
                moments = moments.over_ranks()
                self.record(moments)
            mean, variance = moments.mean, moments.deviation / moments.num_real.clamp(min=1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        output = torch.addcmul(self.bias - mean * scale, vectors, scale).to(vectors.dtype)
        return output.masked_fill(~mask[..., None], 0)

    @torch.no_grad()
    def record(self, moments: Moments) -> None:
        """Update the running statistics with the moments of a batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(moments.mean.to(self.running_mean), self.momentum)
        variance = moments.deviation / (moments.num_real - 1).clamp(min=1)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1

    def moments_in(self, function: Callable[..., object], *inputs: Any) -> Moments:
        """Return the moments of what this module normalises in `function(*inputs)`, without recording them."""
        self._observed = []
        try:
            function(*inputs)
            (moments,) = self._observed
            return moments
        finally:
            self._observed = None

    def with_moments(self, moments: Moments, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return `function(*inputs)`, in which this module normalises by `moments`."""
        self._given = moments
        try:
            return function(*inputs)
        finally:
            self._given = None
