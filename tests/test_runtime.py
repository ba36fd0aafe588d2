import torch

from regard import runtime
from regard.runtime import fast_products, library


def test_products_are_exact_and_the_setting_is_put_back():
    before = runtime.ONEDNN.matmul.fp32_precision
    first, second = torch.randn(64, 1024), torch.randn(1024, 96)
    with fast_products():
        found = first @ second
    wanted = first.double() @ second.double()
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert runtime.ONEDNN.matmul.fp32_precision == before
    assert library() in ("oneDNN", "torch's default")


def test_a_product_that_is_not_exact_is_not_taken(monkeypatch):
    """As on a processor with bfloat16 units: here no product is exact enough."""
    monkeypatch.setattr(runtime, "EXACT", -1.0)
    runtime._onednn_pays.cache_clear()
    before = runtime.ONEDNN.matmul.fp32_precision
    try:
        assert library() == "torch's default"
        with fast_products():
            assert runtime.ONEDNN.matmul.fp32_precision == before
    finally:
        runtime._onednn_pays.cache_clear()
