import pytest
import torch


@pytest.fixture
def float64():
    """Use float64, so that a different order of summation cannot decide a comparison on any processor."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
