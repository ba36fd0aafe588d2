import torch

from regard.draws import DROPPED, WORD_VECTORS, ItemDropout, item_states, uniform

MASK = torch.tensor([[True, True, False, True], [True, False, False, False], [True, True, True, True]])


def states(count, step=0, seed=0):
    return item_states(seed, step, torch.arange(count))


def test_numbers_belong_to_the_item_and_its_real_fragments():
    """Neither the other items of the batch, nor padding, nor holes change them."""
    own = states(3)
    numbers = uniform(own, MASK, 5, WORD_VECTORS)
    for item in range(3):
        real = MASK[item : item + 1][:, MASK[item]]
        alone = uniform(own[item : item + 1], real, 5, WORD_VECTORS)
        assert torch.equal(alone[0], numbers[item][MASK[item]])


def test_numbers_are_uniform_and_uncorrelated():
    mask = torch.ones(200, 50, dtype=torch.bool)
    draws = [
        uniform(states(200, step, seed), mask, 20, stream).double()
        for step, seed, stream in ((0, 0, WORD_VECTORS), (1, 0, WORD_VECTORS), (0, 1, WORD_VECTORS), (0, 0, DROPPED))
    ]
    draws += [draws[0].roll(1, axis) for axis in range(3)]
    for numbers in draws:
        assert 0 <= numbers.min() < 1e-4
        assert 1 - 1e-4 < numbers.max() < 1
        counts = torch.histc(numbers, 20, 0, 1)
        assert (counts / counts.mean() - 1).abs().max() < 0.03
    correlations = torch.corrcoef(torch.stack([numbers.flatten() for numbers in draws]))
    assert (correlations - torch.eye(len(draws))).abs().max() < 0.01


def test_without_states_numbers_come_from_torchs_generator():
    torch.manual_seed(0)
    first = uniform(None, MASK, 5, WORD_VECTORS)
    other = uniform(None, MASK, 5, WORD_VECTORS)
    torch.manual_seed(0)
    assert torch.equal(uniform(None, MASK, 5, WORD_VECTORS), first)
    assert not torch.equal(first, other)


def test_dropout_keeps_the_mean_and_is_off_in_eval_mode():
    vectors, mask = torch.ones(100, 40, 16), torch.ones(100, 40, dtype=torch.bool)
    dropout = ItemDropout(0.25)
    dropped = dropout(vectors, mask, states(100))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(dropped.mean() - 1) < 0.01
    assert dropout.eval()(vectors, mask, states(100)) is vectors
