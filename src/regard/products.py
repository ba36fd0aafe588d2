"""Products: in float32 by the faster of the libraries that torch brings on a CPU, in bfloat16 where that is asked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Precision = Literal["float32", "bfloat16"]

ONEDNN: Any = torch.backends.mkldnn
EXACT = 1e-5  # the relative error of a product that is one of float32; bfloat16's is a thousand times larger


@contextmanager
def fast_products(precision: Precision = "float32", device: str = "cpu") -> Iterator[None]:
    """Within it, products are of numbers rounded to bfloat16 and summed in float32, where that is asked.

    Else float32 products on a CPU are oneDNN's, where that is faster than torch's default (MKL), and exact.
    oneDNN takes float32 products where it may compute in bfloat16, and does so only on processors that have units for
    that (AMX); on others it computes in float32, on AMD's twice as fast as MKL. Which it is is tried once.
    """
    if precision == "bfloat16":
        with torch.autocast(device, torch.bfloat16):
            yield
        return
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


def wide(tensor: Tensor) -> torch.dtype:
    """The dtype that a score's last sums need, float32 at least: of bfloat16 there are 128 numbers from 0.5 to 1.

    In mixed precision the scores of a thousand candidates would tie.
    """
    return torch.promote_types(tensor.dtype, torch.float32)


def inner(first: Float[Tensor, "*item one dim"], second: Float[Tensor, "*item other dim"]) -> Tensor:
    """The inner products of every two rows, in mixed precision too as `wide` says."""
    with torch.autocast(first.device.type, enabled=False):
        return first.to(wide(first)) @ second.to(wide(first)).mT


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
