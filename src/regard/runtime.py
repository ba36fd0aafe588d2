"""This process: its device, its signals, and the precision of its matrix products."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp import is_autocast_available

from regard.files import InputError
from regard.process import SharedChange
from regard.processor import bfloat16_units, mkl_is_slow

# tf32: float32 with products in TF32, on CUDA only. float64 is for training only, to compare runs exactly.
Precision = Literal["float32", "float64", "bfloat16", "tf32"]

ONEDNN: Any = torch.backends.mkldnn
CUDA: Any = torch.backends.cuda
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


def default_precision(device: str) -> Precision:
    """Return the precision of models on a device if none is chosen: bfloat16 on CUDA, otherwise float32."""
    return "bfloat16" if torch.device(device).type == "cuda" else "float32"


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


def choose_precision(precision: Precision | Literal["auto"], device: str) -> tuple[Precision, str]:
    """Return the precision for `device`, such as "cpu" or "cuda:1", and a sentence that says why; `auto` is replaced.

    `auto` is bfloat16 on hardware that has units for it, and float32 elsewhere, where bfloat16 is emulated and slow.
    Raises InputError for tf32 without CUDA.
    """
    kind = torch.device(device).type
    name = "this GPU" if kind == "cuda" else "this processor"
    if precision == "auto":
        units = bfloat16_units(kind)
        if units:
            return "bfloat16", f"Precision: bfloat16 ({name} has {units})"
        return "float32", f"Precision: float32 ({name} has no bfloat16 instructions)"
    if precision == "tf32":
        _check_tf32(kind)
    return precision, f"Precision: {precision} (as requested)"


def fast_products(precision: Precision = "float32", device: str = "cpu") -> AbstractContextManager[Any]:
    """Return a `with` block in which matrix products use `precision`, and the better library for float32 on a CPU.

    With bfloat16, factors are rounded to bfloat16 and sums are float32. With tf32, CUDA rounds the factors of float32
    products to 10 bits; raises InputError on a CPU. With float32 on a CPU, oneDNN replaces torch's default (MKL) where
    MKL uses half of the processor. torch selects oneDNN for float32 products when bfloat16 is allowed for them; oneDNN
    then uses bfloat16 only on processors with units for it (AMX), and float32 on others.

    The settings of the products belong to the process, so other threads compute with them too in the meantime.
    """
    if precision == "bfloat16":
        return torch.autocast(device, torch.bfloat16)
    if precision == "tf32":
        _check_tf32(device)
        return _TF32
    return _BY_ONEDNN if device == "cpu" and _onednn_pays() else nullcontext()


def forward_in(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Return a `with` block for a forward pass of training: autocast for bfloat16, which the backward pass follows."""
    return torch.autocast(device, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def library() -> str:
    """Return the name of the library that `fast_products` uses for float32 on this machine."""
    return "oneDNN" if _onednn_pays() else "torch's default"


def _check_tf32(device: str) -> None:
    if device != "cuda":
        raise InputError(f"The precision tf32 requires a CUDA device, not {device}: use float32 or auto.")


def _products_in(backend: Any, value: str) -> SharedChange[str]:
    """The change of the precision that torch allows a backend for products of float32 matrices."""
    return SharedChange(
        lambda: backend.matmul.fp32_precision, lambda it: setattr(backend.matmul, "fp32_precision", it), value
    )


_BY_ONEDNN, _TF32 = _products_in(ONEDNN, "bf16"), _products_in(CUDA, "tf32")


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed torch's generators of the CPU and of `device`. torch.manual_seed would seed those of all GPUs."""
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        place = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[place].manual_seed(seed)


def wide(tensor: Tensor) -> torch.dtype:
    """Return the dtype for the last sums of a score: float32 at least.

    bfloat16 has only 128 values from 0.5 to 1, so that the scores of a thousand candidates would tie.
    """
    return torch.promote_types(tensor.dtype, torch.float32)


def inner(first: Float[Tensor, "*item one dim"], second: Float[Tensor, "*item other dim"]) -> Tensor:
    """Return the inner products of all pairs of rows, in the dtype of `wide` even under autocast."""
    kind = first.device.type
    with torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext():
        return first.to(wide(first)) @ second.to(wide(first)).mT


@cache
def _onednn_pays() -> bool:
    """Whether float32 products by oneDNN are faster here, and exact. Nothing is timed: last bits would then vary."""
    if not (ONEDNN.is_available() and mkl_is_slow()):
        return False
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(576, 512, generator=random), torch.randn(512, 832, generator=random)
    exact = first.double() @ second.double()
    with _BY_ONEDNN:
        error = (first @ second - exact).abs().max() / exact.abs().max()
    return bool(error < EXACT)
