"""Pooling: from fragments to one vector per item."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.batch import Fragments, host, to_device
from regard.kernels import fused
from regard.layers.packed import Packed
from regard.layers.recurrent import run_gru


def unit(vectors: Float[Tensor, "*item dim"]) -> Float[Tensor, "*item dim"]:
    """Return the vectors scaled to unit length along the last axis. A zero vector stays zero and gets no gradient."""
    if kernels := fused(vectors):
        return kernels.unit(vectors)
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, math.inf)


def fill(values: Tensor, mask: Bool[Tensor, "..."], padding: float) -> Tensor:
    """Return the values with `padding` where the mask, broadcast to their shape, is False.

    Nothing is copied if the mask is all True. Derive the mask by `on_both`, so that this is known without waiting for a
    GPU.
    """
    return values if host(mask).all() else values.masked_fill(~mask, padding)


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
        counts, ranks = host(mask).sum(1), torch.arange(mask.shape[1])
        real = to_device(ranks < counts[:, None], mask.device)
        ranked = ranked.masked_fill(~real[..., None], 0)
        lengths, of_item = counts.clamp(min=1).unique(return_inverse=True)
        weights = self.weights(lengths, mask.shape[1])
        return torch.einsum("if,ifd->id", weights[to_device(of_item, mask.device)].to(ranked.dtype), ranked)

    def weights(self, lengths: Int[Tensor, " length"], width: int) -> Float[Tensor, "length rank"]:
        """Return the weight of each rank for each number of fragments in `lengths`, on the CPU; zero beyond it."""
        weight = self.weigh.weight
        mask = to_device(torch.arange(width) < lengths[:, None], weight.device)
        positions = _positional_encoding(width, self.position_dim, weight.device).to(weight.dtype)
        states, _ = run_gru(self.gru, positions.expand(len(lengths), -1, -1), mask)
        forward, backward = states.chunk(2, dim=-1)
        logits = self.weigh((forward + backward) / 2)[..., 0] / self.temperature
        return logits.masked_fill(~mask, float("-inf")).softmax(1)


def _positional_encoding(length: int, dim: int, device: torch.device) -> Tensor:
    positions = torch.arange(length, device=device)[:, None]
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * -(math.log(10000.0) / dim))
    return torch.stack([torch.sin(positions * rates), torch.cos(positions * rates)], -1).flatten(1)
