import pytest
import torch

from regard.layers.normalisation import MaskedBatchNorm

pytestmark = pytest.mark.usefixtures("float64")


def test_it_equals_batch_normalisation_of_the_real_rows():
    """Compare outputs, gradients and running statistics, in training and eval mode. Padding is zero in the output."""
    torch.manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    masked, plain = MaskedBatchNorm(5), torch.nn.BatchNorm1d(5)
    for step in range(3):
        vectors = (torch.randn(3, 4, 5) * 2 + step).masked_fill(~mask[..., None], 1e6).requires_grad_()
        packed = vectors.detach()[mask].requires_grad_()
        actual, expected = masked(vectors, mask), plain(packed)
        torch.testing.assert_close(actual[mask], expected)
        assert not actual[~mask].any()
        actual.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(vectors.grad[mask], packed.grad)
        assert not vectors.grad[~mask].any()
    torch.testing.assert_close(masked.running_mean, plain.running_mean)
    torch.testing.assert_close(masked.running_var, plain.running_var)
    vectors = torch.randn(3, 4, 5)
    torch.testing.assert_close(masked.eval()(vectors, mask)[mask], plain.eval()(vectors[mask]))


def test_with_start_zero_the_output_is_zero():
    mask = torch.ones(2, 3).bool()
    assert not MaskedBatchNorm(5, start=0.0)(torch.randn(2, 3, 5), mask).any()
