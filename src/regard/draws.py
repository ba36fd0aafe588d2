"""Random numbers of a training step that belong to its items.

A number is a hash of the seed, the step, the item, and the place and feature of a fragment. So it depends neither on
padding, nor on the other items of a batch, nor on the process that computes the item, as those of torch's generator do.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

# Streams of one item: what is drawn in one of them says nothing about the others.
WORD_VECTORS, FRAGMENTS, WHOLE, DROPPED = range(4)

_GOLDEN, _FIRST, _SECOND = (number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def item_states(seed: int, step: int, items: Int[Tensor, " item"]) -> Int[Tensor, " item"]:
    """Return the state of the random numbers of each item, given by its number, in a training step."""
    return _mix(_mix(_mix(items * _GOLDEN) + seed) + step)


def uniform(
    states: Int[Tensor, " item"] | None, mask: Bool[Tensor, "item fragment"], dim: int, stream: int
) -> Float[Tensor, "item fragment dim"]:
    """Return random numbers in [0, 1), for each feature of each fragment; equal at all padding between two fragments.

    Without `states` they are drawn by torch's generator.
    """
    if states is None:
        states = torch.randint(2**62, mask.shape[:1], device=mask.device)
    places = mask.cumsum(1)[..., None] * dim + torch.arange(dim, device=mask.device)
    bits = _mix(_mix(states + stream)[:, None, None] + places * _GOLDEN)
    return _shifted(bits, 40).to(torch.float32) * 2.0**-24


class ItemDropout(nn.Dropout):
    """Dropout of the features of fragments, by the random numbers of their items."""

    def forward(  # type: ignore[override]  # it needs the items
        self,
        vectors: Float[Tensor, "item fragment dim"],
        mask: Bool[Tensor, "item fragment"],
        states: Int[Tensor, " item"] | None = None,
    ) -> Float[Tensor, "item fragment dim"]:
        if not self.training or self.p == 0:
            return vectors
        kept = uniform(states, mask, vectors.shape[-1], WORD_VECTORS) >= self.p
        return vectors * kept.to(vectors.dtype) / (1 - self.p)


def _mix(numbers: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits that looks random."""
    numbers = (numbers ^ _shifted(numbers, 30)) * _FIRST
    numbers = (numbers ^ _shifted(numbers, 27)) * _SECOND
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """The 64 bits shifted to the right, with zeros on the left."""
    return (numbers >> bits) & (2 ** (64 - bits) - 1)
