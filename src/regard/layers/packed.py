"""The real fragments of several items, one after another, so that no per-pair work is done for padding."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from regard.batch import host, to_device


class Packed:
    """Positions of the real fragments of items when the padding is left out. Each item has at least one.

    Each method is a fixed number of operations, whatever the number of items. Positions are computed on the CPU.
    """

    def __init__(self, mask: Bool[Tensor, "item fragment"]) -> None:
        on_host = host(mask)
        counts = on_host.sum(1)
        self.mask, self.lengths = mask, to_device(counts, mask.device)
        self.num_real = int(counts.sum())
        self.bounds = F.pad(counts.cumsum(0), (1, 0))  # of the items in the packed fragments, on the CPU
        self._is_even = bool((counts == counts[:1]).all())
        self._positions = self._item = None
        if self.num_real < on_host.numel():
            self._positions = to_device(on_host.flatten().nonzero()[:, 0], mask.device)
        if not self._is_even:
            self._item = to_device(torch.arange(len(counts)).repeat_interleave(counts), mask.device)

    def pack(self, padded: Float[Tensor, "*context padded dim"]) -> Float[Tensor, "*context real dim"]:
        """Return the real fragments, item by item."""
        return padded if self._positions is None else padded.index_select(-2, self._positions)

    def unpack(self, real: Float[Tensor, "*context real dim"]) -> Float[Tensor, "*context item fragment dim"]:
        """Return each fragment at its original position; padding is zero."""
        if self._positions is not None:
            padded = real.new_zeros(*real.shape[:-2], self.mask.numel(), real.shape[-1])
            real = padded.index_copy(-2, self._positions, real)
        return real.unflatten(-2, self.mask.shape)

    def sum(self, real: Float[Tensor, "context real dim"]) -> Float[Tensor, "context item dim"]:
        """Return the sum over the fragments of each item."""
        if self._item is None:
            return real.unflatten(1, (len(self.mask), -1)).sum(2)
        return real.new_zeros(len(real), len(self.mask), real.shape[2]).index_add(1, self._item, real)

    def max(self, real: Float[Tensor, "context real dim"]) -> Float[Tensor, "context item dim"]:
        """Return the maximum over the fragments of each item."""
        if self._item is None:
            return real.unflatten(1, (len(self.mask), -1)).amax(2)
        return _SegmentMax.apply(real, self.lengths, self._item)

    def scaled(
        self, real: Float[Tensor, "context real dim"], factors: Float[Tensor, "context item dim"]
    ) -> Float[Tensor, "context real dim"]:
        """Return each fragment multiplied by the factor of its item."""
        if self._item is None:
            return (real.unflatten(1, (len(self.mask), -1)) * factors[:, :, None]).flatten(1, 2)
        return real * factors.index_select(1, self._item)


class _SegmentMax(torch.autograd.Function):
    """The maximum of each segment. Equal maxima share the gradient, as in `amax`; torch's own backward is slower."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, lengths: Tensor, item: Tensor) -> Tensor:
        lengths = lengths.expand(len(real), -1).contiguous()
        best = torch.segment_reduce(real, "max", lengths=lengths, axis=1, unsafe=True)  # unsafe: checks read the GPU
        ctx.save_for_backward(real, best, item)
        return best

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        real, best, item = ctx.saved_tensors
        is_best = (real == best.index_select(1, item)).to(gradient.dtype)
        share = gradient / torch.zeros_like(best).index_add_(1, item, is_best)
        return is_best.mul_(share.index_select(1, item)), None, None
