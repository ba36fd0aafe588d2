"""This process: its device and its part under torchrun, its memory, and the signals that stop it."""

import ctypes
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from lightning_fabric import Fabric

from regard.checkpoint import device_named


def launch(device: str, precision: str) -> Fabric:
    """One process, or this process's part under torchrun."""
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
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
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
