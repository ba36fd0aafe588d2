"""The precision of a training run: chosen when it starts, recorded in its metrics, and kept when it is resumed."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from regard import __version__
from regard.files import parse_json
from regard.processor import cpu_name
from regard.runtime import Precision, choose_precision, fast_products, library
from regard.training.config import TrainConfig
from regard.training.run_folder import METRICS

NAMES: dict[str, Precision | Literal["auto"]] = {  # of the values of train.precision
    "auto": "auto",
    "32-true": "float32",
    "64-true": "float64",
    "bf16-mixed": "bfloat16",
    "tf32": "tf32",
}
START = "start"  # the first event in metrics.jsonl


def precision_of_run(config: TrainConfig, device: str, out: Path) -> tuple[Precision, str]:
    """Return the precision that the run in `out` trains in on `device`, and a sentence that says why.

    Half a run in one precision and half in another would be neither, so a run keeps what it was started with, even on
    other hardware. Raises InputError for tf32 without CUDA.
    """
    chosen, reason = choose_precision(NAMES[config.precision], device)
    if config.precision != "auto":
        return chosen, f"Precision: {chosen} (train.precision = {config.precision!r})"
    recorded = recorded_precision(out)
    if recorded is not None and recorded != chosen:
        return recorded, f"Precision: {recorded} (this run was started with it; a new run would use {chosen} here)"
    return chosen, reason


def recorded_start(out: Path) -> dict[str, Any]:
    """Return the first event of the metrics of the run in `out`; empty if there is none, or it is damaged."""
    try:
        with open(out / METRICS, encoding="utf-8") as file:
            first = parse_json(file.readline())
    except (OSError, ValueError):
        return {}
    return first if isinstance(first, dict) and first.get("event") == START else {}


def recorded_precision(out: Path) -> Precision | None:
    """Return the precision that the run in `out` was started with, or None if its metrics do not contain it."""
    found = recorded_start(out).get("precision")
    return found if found in NAMES.values() else None


def start_event(precision: Precision, device: str) -> dict[str, Any]:
    """Return the first event of a run's metrics: what it computes with, for whoever reads its numbers later."""
    return {
        "event": START,
        "step": 0,
        "precision": precision,
        "float32_products": library(),
        "hardware": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "version": __version__,
    }


def products_of(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Return a `with` block for training: TF32 is allowed in the backward pass too (see `forward_in` for autocast)."""
    return fast_products(precision, device) if precision == "tf32" else nullcontext()
