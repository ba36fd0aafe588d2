import numpy as np
import pytest
import torch

import made
from regard.batch import Fragments
from regard.layers.attention import attended_cosine, attention, similarities
from regard.layers.pooling import unit

pytestmark = pytest.mark.usefixtures("float64")


def fragments(count, max_length, seed, dim=8):
    """Return items of 1 to `max_length` fragments of unit length; padding has large values, which must not count."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, max_length + 1, (count,), generator=random)
    lengths[0] = max_length
    mask = torch.arange(max_length) < lengths[:, None]
    vectors = torch.nn.functional.normalize(torch.randn(count, max_length, dim, generator=random), dim=-1)
    return Fragments(vectors.masked_fill(~mask[..., None], 7.0), mask)


def one_pair(context, queries, temperature, normalisation):
    """Return the weights and cosines of SCAN's attention for one context item and one query item, in float64."""
    similarity = context @ queries.T
    if normalisation in ("clipped_l2norm", "clipped"):
        similarity = np.where(similarity > 0, similarity, 0.1 * similarity)
    if normalisation in ("clipped_l2norm", "l2norm"):
        similarity = np.stack([row / np.sqrt((row**2).sum() + 1e-16) for row in similarity])
    weights = np.exp(temperature * similarity)
    weights /= weights.sum(0)
    attended = weights.T @ context
    lengths = np.linalg.norm(attended, axis=1) * np.linalg.norm(queries, axis=1)
    return weights, (attended * queries).sum(1) / lengths


@pytest.mark.parametrize("normalisation", ["clipped_l2norm", "l2norm", "clipped", "none"])
@pytest.mark.parametrize("temperature", [4.0, 9.0])
def test_attention_equals_a_loop_over_pairs(normalisation, temperature):
    context, queries = fragments(3, 6, seed=0), fragments(4, 5, seed=1)
    similarity = similarities(context, queries)
    weights = attention(similarity, context, temperature, normalisation)
    cosines = attended_cosine(similarity, weights, context.vectors @ context.vectors.mT)
    for c in range(3):
        for q in range(4):
            some_context = context.vectors[c, context.mask[c]].double().numpy()
            some_queries = queries.vectors[q, queries.mask[q]].double().numpy()
            expected, cosine = one_pair(some_context, some_queries, temperature, normalisation)
            actual = weights[c, :, queries.mask[q], q]
            np.testing.assert_allclose(actual[context.mask[c]], expected, atol=1e-10)
            assert not actual[~context.mask[c]].any()
            np.testing.assert_allclose(cosines[c, queries.mask[q], q], cosine, atol=1e-10)


def test_similarities_are_zero_on_padding():
    context, queries = fragments(3, 6, seed=0), fragments(4, 5, seed=1)
    similarity = similarities(context, queries)
    real = context.mask[:, :, None, None] & queries.mask.T
    assert not similarity[~real].any()
    assert similarity[real].all()


@pytest.mark.parametrize("temperature", [9.0, 100.0, 1e4])
def test_sharp_attention_is_finite_forward_and_backward(temperature):
    vectors = fragments(3, 6, seed=0).vectors.requires_grad_()
    context, queries = Fragments(vectors, fragments(3, 6, seed=0).mask), fragments(4, 5, seed=1)
    similarity = similarities(context, queries)
    weights = attention(similarity, context, temperature)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 5, 4))
    cosines = attended_cosine(similarity, weights, context.vectors @ context.vectors.mT)
    assert cosines.detach()[queries.mask.T.expand(3, -1, -1)].abs().max() <= 1 + 1e-10
    cosines.sum().backward()
    assert vectors.grad.isfinite().all()
    assert vectors.grad.abs().max() < 1e4


def test_regions_that_cancel_have_cosine_zero_and_no_noise():
    """Two opposite regions, and three that sum to zero: the rounding error that remains has no meaningful direction."""
    for seed in range(50):
        random = torch.Generator().manual_seed(seed)
        first, second = torch.nn.functional.normalize(torch.randn(2, 64, generator=random), dim=-1)
        for vectors in (torch.stack([first, -first]), torch.stack([first, second, -(first + second)])):
            vectors = vectors[None].clone().requires_grad_()
            context = Fragments(vectors, torch.ones(vectors.shape[:2]).bool())
            queries = Fragments(unit(torch.randn(1, 4, 64, generator=random)), torch.ones(1, 4).bool())
            weights = torch.full((1, vectors.shape[1], 4, 1), 1 / vectors.shape[1])
            cosines = attended_cosine(similarities(context, queries), weights, vectors @ vectors.mT)
            assert torch.equal(cosines, torch.zeros(1, 4, 1))
            cosines.sum().backward()
            assert vectors.grad.isfinite().all()


@pytest.mark.parametrize("name", ["scan", "cmsei", "vse_infinity"])
def test_a_region_without_any_feature_leaves_gradients_finite(name):
    """Data padded with zero rows has such regions. SCAN's projection has no bias at the start and maps them to zero."""
    model, images = made.model(name).train(), made.images()
    torch.nn.init.zeros_(model.project.bias)
    images.features[:, 0] = 0
    model(images, made.texts()).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() < 1e6, key
