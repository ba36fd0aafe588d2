import pytest
import torch

from regard.files import InputError
from regard.layers.similarity import GlobalAttention, MaskedDropout, SimilarityFiltration, SimilarityReasoning

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


def test_dropout_draws_for_real_fragments_only():
    vectors = torch.ones(2, 3, 400, 16)
    mask = torch.arange(400) < torch.tensor([[400, 200, 1], [300, 300, 400]])[..., None]
    dropout = MaskedDropout(0.4)
    torch.manual_seed(0)
    dropped = dropout(vectors, mask)
    real = dropped[mask]
    assert 0.37 < (real == 0).float().mean() < 0.43
    torch.testing.assert_close(real[real != 0], torch.tensor(1 / 0.6).expand((real != 0).sum()))
    torch.manual_seed(0)
    wider = dropout(vectors.repeat(1, 1, 2, 1), torch.cat([mask, torch.zeros_like(mask)], -1))
    torch.testing.assert_close(wider[:, :, :400], dropped)
    assert torch.equal(dropout.eval()(vectors, mask), vectors)


def test_no_step_of_reasoning_is_refused():
    with pytest.raises(InputError, match="Reasoning in 0 steps: expected at least 1"):
        SimilarityReasoning(8, steps=0)
