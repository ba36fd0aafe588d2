"""Float32 products by the faster of the libraries that torch brings on a CPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

ONEDNN: Any = torch.backends.mkldnn
EXACT = 1e-5  # the relative error of a product that is one of float32; bfloat16's is a thousand times larger


@contextmanager
def fast_products() -> Iterator[None]:
    """Within it, float32 products on a CPU are oneDNN's, where that is faster than torch's default (MKL), and exact.

    oneDNN takes float32 products where it may compute in bfloat16, and does so only on processors that have units for
    that (AMX); on others it computes in float32, on AMD's twice as fast as MKL. Which it is is tried once.
    """
    settings = ONEDNN.matmul
    before = settings.fp32_precision
    if _onednn_pays():
        settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def library() -> str:
    """The one that `fast_products` takes here."""
    return "oneDNN" if _onednn_pays() else "torch's default"


@cache
def _onednn_pays() -> bool:
    if not ONEDNN.is_available():
        return False
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(576, 512, generator=random), torch.randn(512, 832, generator=random)
    settings = ONEDNN.matmul
    before, seconds, found = settings.fp32_precision, {}, {}
    try:
        for precision in ("ieee", "bf16"):
            settings.fp32_precision = precision
            found[precision], runs = first @ second, []
            for _ in range(5):
                began = time.perf_counter()
                first @ second
                runs.append(time.perf_counter() - began)
            seconds[precision] = min(runs)
    finally:
        settings.fp32_precision = before
    error = (found["bf16"] - found["ieee"]).abs().max() / found["ieee"].abs().max()
    return bool(error < EXACT) and seconds["bf16"] < 0.9 * seconds["ieee"]
