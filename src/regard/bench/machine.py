"""What this machine can do: its name, and the fastest product and copy that torch reaches on it."""

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from regard import __version__
from regard.runtime import fast_products, library


def best_seconds(work: Callable[[], object], device: str, budget: float, least: int = 3) -> float:
    """The shortest of repeated runs: at least `least`, then as many as `budget` seconds hold. A first one warms up."""
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
    if device == "cuda":
        torch.cuda.synchronize()


def product_gflops(device: str, dtype: torch.dtype, budget: float = 0.5) -> float:
    """Of products of the shape that a block of scores has, 10^9 operations a second: a multiply-add is two."""
    rows, columns, depth = (2304, 1664, 1024) if device == "cpu" else (8192, 8192, 1024)
    first, second = (torch.randn(size, depth, device=device, dtype=dtype) for size in (rows, columns))
    with fast_products():
        return 2e-9 * rows * columns * depth / best_seconds(lambda: first @ second.T, device, budget)


def copy_gbytes(device: str, budget: float = 0.3) -> float:
    """Of a copy of 256 MiB, 10^9 bytes read and written a second."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    return 2e-9 * source.nbytes / best_seconds(lambda: target.copy_(source), device, budget)


def hardware(device: str) -> str:
    """As in "AMD EPYC 9B45, 2 threads, products by oneDNN"."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, products by {library()}"


def commit() -> str:
    """The commit of the working copy that runs, or the version where it is none."""
    top = Path(__file__).parents[3]
    if not (top / ".git").exists():
        return __version__
    describe = ["git", "-C", str(top), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__


class PeakMemory:
    """The most memory in use between the two ends of a `with`, beyond what was in use at its beginning, in MiB."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.mib = float("nan")

    def __enter__(self) -> "PeakMemory":
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError, AttributeError):  # Linux alone: forget what was freed, and the highest mark
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
