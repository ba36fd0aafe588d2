"""Ablations: train a recipe's model with one mechanism removed or changed at a time, and compare the results.

The rows of a model are in `ablations/<model>.toml`: for each row, the settings that replace the recipe's.
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open

from regard.charts import draw_dots
from regard.checksums import check_tensors, save_tensors
from regard.data import Split
from regard.data.layout import stamp_of
from regard.evaluation.compare import Difference, Interval, difference, intervals
from regard.evaluation.evaluate import scores_of
from regard.files import InputError, Stopped, nearest, replacing
from regard.metrics import Ranks, Recalls, galleries, summary
from regard.training.checkpoint import load_state
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.trained_run import TrainedRun
from regard.training.weights import WEIGHTS

WHOLE = "whole"  # the row that the others are compared with
TABLES = ("words", "data", "train")  # of a recipe, beside the model's own


@dataclass(frozen=True)
class AblationRow:
    """The result of one row's run on a split."""

    name: str
    settings: tuple[str, ...]
    recalls: Recalls
    rsum: Interval
    against: Difference | None  # from the whole model; None for itself, or if the whole has not been trained
    million_parameters: float


def rows_of(model: str) -> dict[str, list[str]]:
    """Return the rows of a model, each with its settings in the form that `--set` takes."""
    text = (resources.files("regard") / "ablations" / f"{model}.toml").read_text("utf-8")
    rows: dict[str, list[str]] = tomllib.loads(text)["rows"]
    return {name: [_with_table(model, setting) for setting in settings] for name, settings in rows.items()}


def _with_table(model: str, setting: str) -> str:
    """The setting with its table: one without a known table is one of the model's own."""
    return setting if setting.partition(".")[0] in TABLES else f"{model}.{setting}"


def select_rows(model: str, names: Sequence[str] = (), part: str = "1/1") -> dict[str, list[str]]:
    """Return the named rows of a model, or all; for a `part` of "2/4", every fourth of them from the second.

    Raises InputError for an unknown row and for a malformed part.
    """
    rows = rows_of(model)
    for name in names:
        if name not in rows:
            raise InputError(f"{model} has no ablation row {name!r}. {nearest(name, rows)}")
    number, _, of = part.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InputError(f"--part {part!r} does not have the form 2/4 (the second of four machines).")
    wanted = [name for name in rows if not names or name in names]
    return {name: rows[name] for name in wanted[int(number) - 1 :: int(of)]}


def train_rows(
    recipe: str, rows: dict[str, list[str]], data: Path, out: Path, settings: list[str], device: str, console: Console
) -> None:
    """Train each row into `out`/<row>, one after another. Finished rows are skipped, unfinished ones continued."""
    for name, own in rows.items():
        run, wanted = out / name, Recipe.read(recipe, [*settings, *own])
        state = load_state(run, wanted, resume=True)
        if state and state["position"]["epoch"] >= wanted.train.epochs:
            console.print(f"{name}: already trained", markup=False)
            continue
        console.print(f"{name}: {' '.join(own) or 'the recipe without changes'}", markup=False)
        try:
            train(wanted, data, run, resume=True, device=device, console=console)
        except Stopped:
            raise Stopped(f"Stopped in row {name}. Run the same command to continue.") from None


def measure_rows(
    rows: dict[str, list[str]], data: Path, out: Path, split: str, device: str = "cpu"
) -> list[AblationRow]:
    """Measure the rows that have been trained, by this machine or by another."""
    trained = {name: settings for name, settings in rows.items() if (out / name / WEIGHTS).is_file()}
    parts = {name: ranks_of([out / name], data, split, device) for name in trained}
    measured = []
    for name, settings in trained.items():
        against = difference(parts[name], parts[WHOLE]) if WHOLE in parts and name != WHOLE else None
        size = sum(parameter.numel() for parameter in TrainedRun(out / name).model.parameters()) / 1e6
        recalls, rsum = summary(parts[name]), intervals(parts[name]).rsum
        measured.append(AblationRow(name, tuple(settings), recalls, rsum, against, size))
    return measured


def ranks_of(runs: Iterable[Path], data: Path, split: str, device: str = "cpu") -> tuple[Ranks, ...]:
    """Return the ranks of a run, or of the mean of several runs' scores.

    Scores are cached in each run's folder, in {split}_scores.safetensors, and computed again for other weights or data
    and if the file is damaged. Raises InputError if no run is named.
    """
    total, opened = None, None
    for count, run in enumerate(runs, 1):
        trained, cache = TrainedRun(run, device), run / f"{split}_scores.safetensors"
        opened = trained.open_split(split, data)
        key = f"{trained.fingerprint} {trained.recipe.data} {stamp_of(opened.folder, split)}"
        scores = _cached_scores(cache, key, opened)
        if scores is None:
            scores = scores_of(trained.model, opened).numpy()
            save_tensors(cache, {"scores": torch.from_numpy(scores)}, {"key": key})
        total = scores if total is None else total + (scores - total) / count
    if total is None or opened is None:
        raise InputError("Expected at least one run folder.")
    return galleries(total, opened.image_of_text)


def _cached_scores(cache: Path, key: str, split: Split) -> np.ndarray | None:
    """The scores that were saved with `key`, or None if there are none, if they are damaged or of another shape."""
    try:
        check_tensors(cache)
        with safe_open(cache, "np") as file:
            scores: np.ndarray = file.get_tensor("scores")
            fits = (file.metadata() or {}).get("key") == key and scores.shape == (split.num_images, split.num_texts)
            return scores if fits else None
    except (InputError, SafetensorError, OSError):
        return None


def table(rows: Sequence[AblationRow]) -> str:
    """Return the rows as a Markdown table with aligned columns."""
    head = ["row", "i2t R@1", "R@5", "R@10", "t2i R@1", "R@5", "R@10", "rSum", "95 % interval", "- whole", "p", "M"]
    lines = [head]
    for row in rows:
        ways = (row.recalls.i2t, row.recalls.t2i)
        cells = [f"{value:.1f}" for way in ways for value in (way.r1, way.r5, way.r10)]
        less = ("", "") if row.against is None else (f"{row.against.rsum:+.1f}", f"{row.against.p:.3f}")
        span = f"{row.rsum.low:.1f} to {row.rsum.high:.1f}"
        lines.append([row.name, *cells, f"{row.recalls.rsum:.1f}", span, *less, f"{row.million_parameters:.2f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in aligned)


def write_tables(rows: Sequence[AblationRow], out: Path) -> None:
    """Write the table to `out` as ablation.md, ablation.json and ablation.png."""
    with replacing(out / "ablation.md") as temporary:
        temporary.write_text(table(rows) + "\n", "utf-8")
    with replacing(out / "ablation.json") as temporary:
        temporary.write_text(json.dumps(to_dicts(rows), indent=2) + "\n", "utf-8")
    dots = [(row.name, row.recalls.rsum, row.rsum.low, row.rsum.high) for row in rows]
    draw_dots(dots, out / "ablation.png", WHOLE)


def to_dicts(rows: Sequence[AblationRow]) -> list[dict[str, Any]]:
    return [{**asdict(row), "recalls": row.recalls.to_dict()} for row in rows]
