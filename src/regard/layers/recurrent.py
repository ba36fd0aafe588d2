"""Recurrent layers over the real fragments of items."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regard.batch import has_holes, host, to_device


def run_gru(
    gru: nn.GRU,
    vectors: Float[Tensor, "item fragment dim"],
    mask: Bool[Tensor, "item fragment"],
    state: Float[Tensor, "layer item hidden"] | None = None,
) -> tuple[Float[Tensor, "item fragment outputs"], Float[Tensor, "layer item hidden"]]:
    """Return the outputs of a GRU over each item's real fragments in their order, and its states after the last one.

    Padding is skipped wherever it is, and its outputs are zero. An item without real fragments is read as one vector of
    padding, whose output is not zero. The positions are computed on the CPU, because torch's packed sequences need
    their lengths there.
    """
    on_host = host(mask)
    counts = on_host.sum(1).clamp(min=1)
    places = None
    if has_holes(mask):
        places = to_device((~on_host).int().argsort(dim=1, stable=True), vectors.device)
        vectors = vectors.gather(1, places[..., None].expand_as(vectors))
    order = counts.argsort(descending=True, stable=True)
    here = to_device(order, vectors.device)
    packed = pack_padded_sequence(vectors[here], counts[order], batch_first=True)
    outputs, last = gru(packed, None if state is None else state[:, here])
    padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=mask.shape[1])
    back = to_device(order.argsort(), vectors.device)
    padded, last = padded[back], last[:, back]
    if places is not None:
        padded = torch.zeros_like(padded).scatter(1, places[..., None].expand_as(padded), padded)
    return padded, last
