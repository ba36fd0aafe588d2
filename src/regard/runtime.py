"""This process: its device, its part under torchrun, its signals, and its matrix products."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from regard.files import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["float32", "bfloat16"]

ONEDNN: Any = torch.backends.mkldnn
EXACT = 1e-5  # relative error below which a product counts as float32; that of bfloat16 is a thousand times larger


def device_named(name: str) -> str:
    """Return `cpu` or `cuda` for `auto`, `cpu` or `cuda`. Raises InputError for other names and for a missing GPU."""
    known, cuda = ("auto", "cpu", "cuda"), torch.cuda.is_available()
    if name not in known:
        raise InputError(
            f"--device {name!r} is not known: expected {', '.join(known[:-1])} or {known[-1]} "
            "(CUDA_VISIBLE_DEVICES selects one of several GPUs)."
        )
    if name == "cuda" and not cuda:
        raise InputError("--device cuda: torch finds no CUDA device on this machine; use --device cpu.")
    return "cuda" if cuda and name != "cpu" else "cpu"


def launch(device: str, precision: str) -> "Fabric":
    """Return the Fabric of a single process, or of this process under torchrun."""
    from lightning_fabric import Fabric  # takes a second to import, and only training needs it

    kind = device_named(device)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs the precision at level INFO
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = Fabric(
        accelerator=kind,
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun else 1,
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]) if under_torchrun else 1,
        strategy="ddp" if under_torchrun else "auto",
        precision=precision,  # type: ignore[arg-type]  # a Literal of ours is a Literal of theirs
    )
    fabric.launch()
    return fabric


def leave() -> None:
    """Leave the process group of torchrun. Its threads can abort the process if they outlive the interpreter."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def stoppable() -> Iterator[Any]:
    """Yield a function that returns whether Ctrl-C or SIGTERM was received. A second Ctrl-C interrupts at once."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, which alone may handle signals
        before = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def fast_products(precision: Precision = "float32", device: str = "cpu") -> Iterator[None]:
    """Within it, matrix products use `precision`, and the fastest library for float32 on a CPU.

    With bfloat16, factors are rounded to bfloat16 and sums are float32. With float32 on a CPU, oneDNN replaces torch's
    default (MKL) if it is faster and exact. torch selects oneDNN for float32 products when bfloat16 is allowed for
    them; oneDNN then uses bfloat16 only on processors with units for it (AMX), and float32 on others, on AMD's twice
    as fast as MKL. Speed and exactness are measured once per process.
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
    """Return the name of the library that `fast_products` uses for float32 on this machine."""
    return "oneDNN" if _onednn_pays() else "torch's default"


def wide(tensor: Tensor) -> torch.dtype:
    """Return the dtype for the last sums of a score: float32 at least.

    bfloat16 has only 128 values from 0.5 to 1, so that the scores of a thousand candidates would tie.
    """
    return torch.promote_types(tensor.dtype, torch.float32)


def inner(first: Float[Tensor, "*item one dim"], second: Float[Tensor, "*item other dim"]) -> Tensor:
    """Return the inner products of all pairs of rows, in the dtype of `wide` even under autocast."""
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
