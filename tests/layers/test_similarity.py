import pytest
import torch

from regard.files import InputError
from regard.layers.pooling import unit
from regard.layers.similarity import GlobalAttention, Noise, SimilarityFiltration, SimilarityReasoning

pytestmark = pytest.mark.usefixtures("float64")

MASK = torch.arange(5) < torch.tensor([[5, 2, 1], [3, 4, 5]])[..., None]


@pytest.mark.parametrize(
    "build",
    [
        lambda: SimilarityReasoning(8),
        lambda: SimilarityFiltration(8),
        lambda: GlobalAttention(8, dropout=0.4, normalise=False),
        lambda: GlobalAttention(8, dropout=0.4, normalise=True),
    ],
    ids=["reasoning", "filtration", "attention", "normalised attention"],
)
def test_a_grid_of_items_equals_its_items_one_by_one_without_padding(build):
    """Layers accept any leading axes: TVRN pools each text once per image."""
    torch.manual_seed(0)
    layer, vectors = build(), torch.randn(2, 3, 5, 8)
    layer.train()(vectors, MASK)  # running statistics that are not the initial ones
    grid = layer.eval()(vectors, MASK)
    torch.testing.assert_close(layer(vectors.masked_fill(~MASK[..., None], 1e6), MASK), grid)
    for i in range(2):
        for t in range(3):
            real = vectors[i, t][MASK[i, t]]
            alone = layer(real, torch.ones(len(real), dtype=torch.bool))
            torch.testing.assert_close(alone, grid[i, t])


def test_reasoning_with_one_map_has_the_gradients_of_two_maps():
    torch.manual_seed(0)
    layer = SimilarityReasoning(8, steps=2).double()
    torch.nn.init.normal_(layer.rounds[0].query.bias)
    vectors, weights = torch.randn(2, 3, 5, 8, dtype=torch.double), torch.randn(8, dtype=torch.double)

    nodes = vectors
    for step in layer.rounds:
        edges = (step.query(nodes) @ step.key(nodes).mT).masked_fill(~MASK[..., None, :], float("-inf")).softmax(-1)
        nodes = step.update(edges @ nodes).relu()
    parameters = list(layer.parameters())
    expected = torch.autograd.grad((nodes[..., 0, :] @ weights).sum(), parameters)
    actual = torch.autograd.grad((layer(vectors, MASK) @ weights).sum(), parameters)
    assert all(gradient.any() for gradient in expected)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("copies", [1, 2])
def test_noise_is_drawn_for_real_fragments_only(copies):
    mask = torch.arange(400) < torch.tensor([[400], [200], [1], [300]])
    pool = GlobalAttention(16, dropout=0.4, normalise=False)
    states = torch.arange(4)
    noise = pool.draw_noise(mask, states, copies)
    real = noise.local[mask]
    assert real.shape == (901, copies, 16)
    assert not noise.local[~mask].any()
    assert noise.whole.shape == (4, 16)
    assert 0.37 < (real == 0).double().mean() < 0.43
    torch.testing.assert_close(real[real != 0], torch.tensor(1 / 0.6).expand((real != 0).sum()))
    wider = pool.draw_noise(torch.cat([mask, torch.zeros_like(mask)], 1), states, copies)
    torch.testing.assert_close(wider.local[:, :400], noise.local)
    torch.testing.assert_close(wider.whole, noise.whole)
    assert pool.eval().draw_noise(mask, states) is None


def test_noise_drops_features_of_the_global_attention():
    """With every factor 1, noise changes nothing; a factor 0 for all features leaves the mean of the fragments."""
    torch.manual_seed(0)
    pool, vectors, mask = GlobalAttention(8, 0.4, normalise=False), torch.randn(3, 5, 8), MASK[0]
    ones, zeros = (Noise(torch.full((3, 5, 1, 8), value), torch.ones(3, 8)) for value in (1.0, 0.0))
    torch.testing.assert_close(pool(vectors, mask, ones), pool(vectors, mask))
    means = torch.stack([unit(own[real].mean(0)) for own, real in zip(vectors, mask, strict=True)])
    torch.testing.assert_close(pool(vectors, mask, zeros), means)


def test_no_step_of_reasoning_is_refused():
    with pytest.raises(InputError, match="Reasoning in 0 steps: expected at least 1"):
        SimilarityReasoning(8, steps=0)
