import pytest
import torch

from regard.layers.normalisation import MaskedBatchNorm

pytestmark = pytest.mark.usefixtures("float64")


def test_it_equals_batch_normalisation_of_the_real_rows_alone():
    """Outputs, gradients and running statistics, in training and after; padding comes out as zero."""
    torch.manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    masked, plain = MaskedBatchNorm(5), torch.nn.BatchNorm1d(5)
    for step in range(3):
        vectors = (torch.randn(3, 4, 5) * 2 + step).masked_fill(~mask[..., None], 1e6).requires_grad_()
        packed = vectors.detach()[mask].requires_grad_()
        found, expected = masked(vectors, mask), plain(packed)
        torch.testing.assert_close(found[mask], expected)
        assert not found[~mask].any()
        found.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(vectors.grad[mask], packed.grad)
        assert not vectors.grad[~mask].any()
    torch.testing.assert_close(masked.running_mean, plain.running_mean)
    torch.testing.assert_close(masked.running_var, plain.running_var)
    vectors = torch.randn(3, 4, 5)
    torch.testing.assert_close(masked.eval()(vectors, mask)[mask], plain.eval()(vectors[mask]))


def test_a_start_of_zero_makes_a_residual_branch_begin_as_nothing():
    mask = torch.ones(2, 3).bool()
    assert not MaskedBatchNorm(5, start=0.0)(torch.randn(2, 3, 5), mask).any()
