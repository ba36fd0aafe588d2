"""Pooling: from fragments to one vector per item."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.batch import Fragments
from regard.layers.packed import Packed


def unit(vectors: Float[Tensor, "*item dim"]) -> Float[Tensor, "*item dim"]:
    """Return the vectors scaled to unit length along the last axis. A zero vector stays zero and gets no gradient."""
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, math.inf)


def fill(values: Tensor, mask: Bool[Tensor, "..."], padding: float) -> Tensor:
    """Return the values with `padding` where the mask, broadcast to their shape, is False.

    On a CPU, nothing is copied if the mask is all True. On a GPU, checking that would wait for the GPU.
    """
    return values if not mask.is_cuda and mask.all() else values.masked_fill(~mask, padding)


def mean_pool(fragments: Fragments) -> Float[Tensor, "item dim"]:
    """Return the mean over the real fragments."""
    real = fragments.vectors.masked_fill(~fragments.mask[..., None], 0)
    return real.sum(1) / fragments.mask.sum(1, keepdim=True).clamp(min=1)


def mean_max_pool(vectors: Float[Tensor, "context real dim"], items: Packed) -> Float[Tensor, "context item dim"]:
    """Return the mean plus the maximum over the real fragments, scaled to unit length (DIME)."""
    return unit(items.sum(vectors) / items.lengths[:, None] + items.max(vectors))


class GeneralizedPooling(nn.Module):
    """GPO, the pooling operator of VSE-infinity (Chen et al., CVPR 2021); eq. 2-3 in docs/models/vse_infinity.md.

    Each feature is sorted over the fragments in descending order, and the sorted values are averaged with learnt
    weights. The weight of a rank depends on the number of fragments: a bidirectional GRU reads positional encodings of
    the ranks.
    """

    def __init__(self, position_dim: int = 32, hidden_dim: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        self.position_dim, self.temperature = position_dim, temperature
        self.gru = nn.GRU(position_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.weigh = nn.Linear(hidden_dim, 1, bias=False)

    def forward(self, fragments: Fragments) -> Float[Tensor, "item dim"]:
        """Return one vector per item. The vector of an item without fragments is zero."""
        mask = fragments.mask
        ranked = fragments.vectors.masked_fill(~mask[..., None], float("-inf")).sort(dim=1, descending=True).values
        counts = mask.sum(1)
        real = torch.arange(mask.shape[1], device=mask.device) < counts[:, None]
        ranked = ranked.masked_fill(~real[..., None], 0)
        lengths, of_item = counts.clamp(min=1).unique(return_inverse=True)
        return torch.einsum("if,ifd->id", self.weights(lengths, mask.shape[1])[of_item].to(ranked.dtype), ranked)

    def weights(self, lengths: Tensor, width: int) -> Float[Tensor, "length rank"]:
        """Return the weight of each rank for each number of fragments in `lengths`; zero beyond that number."""
        positions = _positional_encoding(width, self.position_dim, lengths.device).to(self.weigh.weight.dtype)
        positions = positions.expand(len(lengths), -1, -1)
        packed = nn.utils.rnn.pack_padded_sequence(positions, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=width)
        forward, backward = states.chunk(2, dim=-1)
        logits = self.weigh((forward + backward) / 2)[..., 0] / self.temperature
        beyond = torch.arange(width, device=lengths.device) >= lengths[:, None]
        return logits.masked_fill(beyond, float("-inf")).softmax(1)


def _positional_encoding(length: int, dim: int, device: torch.device) -> Tensor:
    positions = torch.arange(length, device=device)[:, None]
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * -(math.log(10000.0) / dim))
    return torch.stack([torch.sin(positions * rates), torch.cos(positions * rates)], -1).flatten(1)
