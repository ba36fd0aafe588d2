"""The machine: its name, its fastest matrix product and copy in torch, and tools to measure time and memory."""

import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from regard import __version__
from regard.kernels import in_use
from regard.processor import cpu_name
from regard.runtime import Precision, fast_products, library

# Operators that multiply matrices, and the fused attention, which does little else.
PRODUCTS = {
    *("mm", "addmm", "bmm", "baddbmm", "addbmm", "_addmm_activation", "mkldnn_linear", "_linear_pointwise"),
    *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention", "_flash_attention_forward"),
    *("_scaled_dot_product_efficient_attention", "_efficient_attention_forward"),
    "_scaled_dot_product_cudnn_attention",
}
PRODUCT, OTHER = "product", "other"
# Rows, columns and depth of the product that measures a device: the shape of a block of scores.
SHAPES = {"cpu": (2304, 1664, 1024), "cuda": (8192, 8192, 1024)}


def best_seconds(work: Callable[[], object], device: str, budget: float, least: int = 3) -> float:
    """Return the seconds of the fastest of `least` runs, or of more within `budget` seconds, after one warm-up run."""
    work()
    runs: list[float] = []
    while len(runs) < least or sum(runs) < budget:
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        runs.append(time.perf_counter() - began)
    return min(runs)


def synchronize(device: str) -> None:
    """Wait until a GPU has finished its work; return at once on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


class Product:
    """A matrix product of the shape of a block of scores, to measure how fast this machine multiplies."""

    def __init__(self, device: str, precision: Precision) -> None:
        rows, columns, depth = SHAPES[device]
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.device, self.precision, self.gflop = device, precision, 2e-9 * rows * columns * depth
        self.first, self.second = (torch.randn(size, depth, device=device, dtype=dtype) for size in (rows, columns))

    def gflops(self, budget: float = 0.5, least: int = 3) -> float:
        """Return the GFLOP/s of the fastest run within `budget` seconds; a multiply-add counts as two."""
        with fast_products("tf32" if self.precision == "tf32" else "float32", self.device):
            return self.gflop / best_seconds(lambda: self.first @ self.second.T, self.device, budget, least)


def product_share(work: Callable[[], object], device: str) -> float:
    """Return the share of the time of `work` that is spent in matrix products, in percent, by torch's profiler."""
    activities = [ProfilerActivity.CUDA, ProfilerActivity.CPU] if device == "cuda" else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        work()
        synchronize(device)
    spent = {PRODUCT: 0.0, OTHER: 0.0}
    for event in profiler.key_averages():
        own = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        # On CUDA, the kernels are events too; their time is already in that of the operator that launched them.
        if event.key.startswith(("aten::", "mkldnn::", "regard::")):
            spent[PRODUCT if event.key.partition("::")[2] in PRODUCTS else OTHER] += own
    return 100 * spent[PRODUCT] / max(sum(spent.values()), 1e-9)


def copy_gbytes(device: str, budget: float = 0.3) -> float:
    """Return the GB/s of a copy of 256 MiB, bytes read plus bytes written."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    return 2e-9 * source.nbytes / best_seconds(lambda: target.copy_(source), device, budget)


def hardware(device: str) -> str:
    """Return the name of the hardware, such as "AMD EPYC 9B45, 2 threads, products by oneDNN, compiled kernels"."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    kernels = "compiled kernels" if in_use() else "no compiled kernels"
    return f"{cpu_name()}, {torch.get_num_threads()} threads, products by {library()}, {kernels}"


def commit() -> str:
    """Return the commit of the running working copy, or the version number of an installed package."""
    top = Path(__file__).parents[3]
    if not (top / ".git").exists():
        return __version__
    describe = ["git", "-C", str(top), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__


class PeakMemory:
    """Measure, in a `with` block, the peak memory beyond what was in use at its beginning, in MiB (nan if unknown)."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.mib = float("nan")

    def __enter__(self) -> "PeakMemory":
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError, AttributeError):  # Linux only: release freed memory, reset the peak
                ctypes.CDLL("libc.so.6").malloc_trim(0)
                Path("/proc/self/clear_refs").write_text("5", "utf-8")
        self.before = self._now("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.mib = self._now("VmHWM") - self.before

    def _now(self, field: str) -> float:
        if self.device == "cuda":
            used = torch.cuda.max_memory_allocated if field == "VmHWM" else torch.cuda.memory_allocated
            return used() / 2**20
        try:
            lines = Path(f"/proc/{os.getpid()}/status").read_text("utf-8").splitlines()
        except OSError:
            return float("nan")
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
