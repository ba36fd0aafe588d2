import pytest
import torch


@pytest.fixture
def float64():
    """What a layer is compared with differs by another order of summation: in float64 no processor decides."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
