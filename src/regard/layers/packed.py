"""The real fragments of several items, one after another, so that no per-pair work is done for padding."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Packed:
    """Positions of the real fragments of items when the padding is left out. Each item has at least one."""

    def __init__(self, mask: Bool[Tensor, "item fragment"]) -> None:
        self.mask, self.lengths = mask, mask.sum(1)
        # All methods use values that are read here once: on a GPU, each read of the mask waits for the GPU.
        counts = self.lengths.tolist()
        self._split_sizes = counts if len(set(counts)) > 1 else None
        self._positions = None if sum(counts) == mask.numel() else mask.flatten().nonzero()[:, 0]

    def pack(self, padded: Float[Tensor, "*context padded dim"]) -> Float[Tensor, "*context real dim"]:
        """Return the real fragments, item by item."""
        return padded if self._positions is None else padded.index_select(-2, self._positions)

    def unpack(self, real: Float[Tensor, "context real dim"]) -> Float[Tensor, "context item fragment dim"]:
        """Return each fragment at its original position; padding is zero."""
        if self._positions is not None:
            real = real.new_zeros(len(real), self.mask.numel(), real.shape[-1]).index_copy(1, self._positions, real)
        return real.unflatten(1, self.mask.shape)

    def sum(self, real: Float[Tensor, "context real dim"]) -> Float[Tensor, "context item dim"]:
        """Return the sum over the fragments of each item."""
        if self._split_sizes is None:
            return real.unflatten(1, (len(self.mask), -1)).sum(2)
        return torch.stack([part.sum(1) for part in real.split(self._split_sizes, 1)], 1)

    def max(self, real: Float[Tensor, "context real dim"]) -> Float[Tensor, "context item dim"]:
        """Return the maximum over the fragments of each item."""
        if self._split_sizes is None:
            return real.unflatten(1, (len(self.mask), -1)).amax(2)
        return torch.stack([part.amax(1) for part in real.split(self._split_sizes, 1)], 1)

    def scaled(
        self, real: Float[Tensor, "context real dim"], factors: Float[Tensor, "context item dim"]
    ) -> Float[Tensor, "context real dim"]:
        """Return each fragment multiplied by the factor of its item."""
        if self._split_sizes is None:
            return (real.unflatten(1, (len(self.mask), -1)) * factors[:, :, None]).flatten(1, 2)
        return real * factors.repeat_interleave(self.lengths, 1, output_size=real.shape[1])
