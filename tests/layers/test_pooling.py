import math

import numpy as np
import pytest
import torch

from regard.batch import Fragments
from regard.layers.packed import Packed
from regard.layers.pooling import GeneralizedPooling, mean_max_pool, mean_pool, unit

pytestmark = pytest.mark.usefixtures("float64")

MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])


def fragments(padding=0.0):
    vectors = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    return Fragments(vectors.masked_fill(~MASK[..., None], padding), MASK)


def test_unit_scales_to_length_one_and_leaves_zero():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]], requires_grad=True)
    scaled = unit(vectors)
    torch.testing.assert_close(scaled[0], torch.tensor([0.6, 0.8]))
    assert not scaled[1].any()
    scaled[1].sum().backward()
    assert not vectors.grad.any()  # a zero vector has no direction


@pytest.mark.parametrize("padding", [0.0, 100.0])
def test_means_and_maxima_are_over_real_fragments(padding):
    some = fragments(padding)
    means, both = mean_pool(some), mean_max_pool(some.vectors[MASK][None], Packed(MASK))
    for item in range(3):
        real = some.vectors[item, MASK[item]].numpy()
        np.testing.assert_allclose(means[item], real.mean(0), atol=1e-10)
        sum_of_both = real.mean(0) + real.max(0)
        np.testing.assert_allclose(both[0, item], sum_of_both / np.linalg.norm(sum_of_both), atol=1e-10)
    assert not mean_pool(Fragments(some.vectors, torch.zeros_like(MASK))).any()


def test_learnt_weights_of_ranks_sum_to_one_and_end_with_the_fragments():
    torch.manual_seed(0)
    pool = GeneralizedPooling()
    weights = pool.weights(torch.tensor([1, 2, 4, 7]), 7)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    for row, length in zip(weights, (1, 2, 4, 7), strict=True):
        assert (row[:length] > 0).all()
        assert not row[length:].any()
    torch.testing.assert_close(pool.weights(torch.tensor([2]), 9)[0, :2], weights[1, :2])  # for any width


def test_learnt_pooling_averages_the_sorted_values_of_real_fragments():
    torch.manual_seed(0)
    pool = GeneralizedPooling()
    for padding in (0.0, 100.0):
        pooled = pool(fragments(padding))
        for item, length in enumerate((4, 2, 1)):
            ranked = np.sort(fragments().vectors[item, :length].numpy(), 0)[::-1]
            expected = pool.weights(torch.tensor([length]), 4)[0, :length].detach().numpy() @ ranked
            np.testing.assert_allclose(pooled[item].detach(), expected, atol=1e-10)


def test_learnt_pooling_of_nothing_is_zero_and_trains():
    torch.manual_seed(0)
    pool, vectors = GeneralizedPooling(), torch.randn(2, 3, 5, requires_grad=True)
    pooled = pool(Fragments(vectors, torch.tensor([[False] * 3, [True, False, True]])))
    assert not pooled[0].any()
    pooled.square().sum().backward()
    assert vectors.grad.isfinite().all()
    assert not vectors.grad[0].any()
    assert not vectors.grad[1, 1].any()
    assert all(math.isfinite(parameter.grad.sum()) for parameter in pool.parameters())
