"""This process: its device and its part under torchrun, memory, signals, and the matrix products it uses."""

import ctypes
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from regard.files import InputError, nearest

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["float32", "bfloat16"]

ONEDNN: Any = torch.backends.mkldnn
EXACT = 1e-5  # the relative error of a product that is one of float32; bfloat16's is a thousand times larger


def device_named(name: str) -> str:
    """`cpu` or `cuda`: what `auto` means here. Raises InputError for another name, and for a CUDA that is not there."""
    known, cuda = ("auto", "cpu", "cuda"), torch.cuda.is_available()
    if name not in known:
        raise InputError(
            f"--device {name!r} is no device (CUDA_VISIBLE_DEVICES picks among GPUs). {nearest(name, known)}"
        )
    if name == "cuda" and not cuda:
        raise InputError("--device cuda: torch sees no CUDA device here; take --device cpu.")
    return "cuda" if cuda and name != "cpu" else "cpu"


def launch(device: str, precision: str) -> "Fabric":
    """One process, or this process's part under torchrun."""
    from lightning_fabric import Fabric  # takes a second to import, and only training needs it

    kind = device_named(device)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce the precision
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
    """End this process's part under torchrun: threads that outlive the interpreter would abort it, now and then."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def tune_memory() -> None:
    """Have glibc keep large freed blocks, and oneDNN few of its kernels.

    Activations above glibc's threshold are else mapped anew in every step, a fourth of its time. And oneDNN keeps what
    it made for each of the last 1,024 shapes, twice: with batches of every width in bfloat16, gigabytes.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "32")
    with suppress(OSError, AttributeError):
        glibc = ctypes.CDLL("libc.so.6")
        glibc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        glibc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


@contextmanager
def stoppable() -> Iterator[Any]:
    """Gives a function that says whether Ctrl-C or SIGTERM has come; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are someone else's
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
