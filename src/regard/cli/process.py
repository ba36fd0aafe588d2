"""Settings of the process that a command runs in. Library code changes none of them: they belong to the program."""

import ctypes
import os
import sys
from contextlib import suppress

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # any of them is the user's choice


def tune_process() -> None:
    """Tune threads and memory for torch. What the user has set stays.

    To be called before torch is imported: the library of its threads, OpenMP, reads the environment when it is loaded.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    # oneDNN caches kernels for the last 1,024 shapes, twice; for batches of many widths in bfloat16 that is gigabytes.
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "32")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which `bench` uses, prints when it starts
    if sys.platform == "linux":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks.

    By default, glibc maps activations above its threshold anew in every step, which takes a quarter of the step's time.
    """
    with suppress(OSError, AttributeError):  # another C library
        glibc = ctypes.CDLL("libc.so.6")
        glibc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        glibc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
