"""Compare sums, maxima and scaling of packed fragments with plain loops, for equal and unequal lengths."""

import pytest
import torch

from regard.layers.packed import Packed

MASKS = {
    "ragged": [[True, True, True], [True, False, False]],
    "holes": [[True, False, True], [False, True, True]],  # equal lengths, with padding
    "whole": [[True, True, True], [True, True, True]],
}


@pytest.mark.parametrize("kind", MASKS)
def test_each_item_has_only_its_own_fragments(kind):
    mask = torch.tensor(MASKS[kind])
    items, padded = Packed(mask), torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    real = items.pack(padded.flatten(1, 2))
    assert real.shape == (4, int(mask.sum()), 5)
    torch.testing.assert_close(items.unpack(real), padded * mask[..., None], rtol=0, atol=0)
    factors = torch.arange(40.0).view(4, 2, 5)
    scaled = items.unpack(items.scaled(real, factors))
    for item in range(2):
        own = padded[:, item, mask[item]]
        torch.testing.assert_close(items.sum(real)[:, item], own.sum(1))
        torch.testing.assert_close(items.max(real)[:, item], own.amax(1))
        torch.testing.assert_close(scaled[:, item, mask[item]], own * factors[:, item, None])
