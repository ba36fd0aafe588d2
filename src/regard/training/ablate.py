"""Ablations: a recipe's model with one mechanism taken away, or changed, at a time; trained alike and compared.

The rows of a model are `ablations/<model>.toml`: for each row the settings that go over the recipe's.
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from regard.charts import draw_dots
from regard.evaluation.compare import Difference, Interval, difference, intervals
from regard.evaluation.evaluate import scores_of
from regard.files import InputError, Stopped, nearest, replacing
from regard.metrics import Ranks, Recalls, galleries, summary
from regard.training.checkpoint import WEIGHTS, load, open_for
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.run_folder import earlier

WHOLE = "whole"  # the row that the others are compared with
TABLES = ("words", "data", "train")


@dataclass(frozen=True)
class Row:
    """What one row's run reached on a split."""

    name: str
    settings: tuple[str, ...]
    recalls: Recalls
    rsum: Interval
    against: Difference | None  # the whole; None of itself, or where the whole has not been trained
    million_parameters: float


def rows_of(model: str) -> dict[str, list[str]]:
    """The rows of a model and the settings of each, as `--set` takes them."""
    text = (resources.files("regard") / "ablations" / f"{model}.toml").read_text("utf-8")
    rows: dict[str, list[str]] = tomllib.loads(text)["rows"]
    return {name: [_with_table(model, setting) for setting in settings] for name, settings in rows.items()}


def _with_table(model: str, setting: str) -> str:
    """A setting without a table is one of the model's own."""
    return setting if setting.partition(".")[0] in TABLES else f"{model}.{setting}"


def chosen(model: str, names: Sequence[str] = (), part: str = "1/1") -> dict[str, list[str]]:
    """The rows named, or all; of them every n-th for a `part` of "2/n". Raises InputError for what there is not."""
    rows = rows_of(model)
    for name in names:
        if name not in rows:
            raise InputError(f"{model} has no ablation row {name!r}. {nearest(name, rows)}")
    number, _, of = part.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise InputError(f"--part {part!r} is not of the form 2/4: the second of four machines.")
    wanted = [name for name in rows if not names or name in names]
    return {name: rows[name] for name in wanted[int(number) - 1 :: int(of)]}


def train_rows(
    recipe: str, rows: dict[str, list[str]], data: Path, out: Path, settings: list[str], device: str, console: Console
) -> None:
    """Train each row into `out`/<row>, one after another, going on with what is there already."""
    for name, own in rows.items():
        run, wanted = out / name, Recipe.read(recipe, [*settings, *own])
        state = earlier(run, wanted, resume=True)
        if state and state["position"]["epoch"] >= wanted.train.epochs:
            console.print(f"{name}: trained before", markup=False)
            continue
        console.print(f"{name}: {' '.join(own) or 'the recipe as it is'}", markup=False)
        try:
            train(wanted, data, run, resume=True, device=device, console=console)
        except Stopped:
            raise Stopped(f"Stopped in row {name}. The same command goes on.") from None


def measure_rows(rows: dict[str, list[str]], data: Path, out: Path, split: str, device: str = "cpu") -> list[Row]:
    """What the rows reached that have been trained, by this machine or another."""
    trained = {name: settings for name, settings in rows.items() if (out / name / WEIGHTS).is_file()}
    parts = {name: ranks_of([out / name], data, split, device) for name in trained}
    found = []
    for name, settings in trained.items():
        against = difference(parts[name], parts[WHOLE]) if WHOLE in parts and name != WHOLE else None
        size = sum(parameter.numel() for parameter in load(out / name).parameters()) / 1e6
        recalls, rsum = summary(parts[name]), intervals(parts[name]).rsum
        found.append(Row(name, tuple(settings), recalls, rsum, against, size))
    return found


def ranks_of(runs: Iterable[Path], data: Path, split: str, device: str = "cpu") -> tuple[Ranks, ...]:
    """The ranks of a run, or of the mean of several runs' scores.

    Scores are kept in the run's folder, as {split}_scores.npy, and made again where the weights are newer.
    """
    total, opened = None, None
    for count, run in enumerate(runs, 1):
        opened, kept = open_for(run, data, split), run / f"{split}_scores.npy"
        if not kept.is_file() or kept.stat().st_mtime < (run / WEIGHTS).stat().st_mtime:
            scores = scores_of(load(run, device), opened).numpy()
            with replacing(kept) as temporary, open(temporary, "wb") as file:
                np.save(file, scores)
        scores = np.load(kept)
        total = scores if total is None else total + (scores - total) / count
    if total is None or opened is None:
        raise InputError("Name at least one run folder.")
    return galleries(total, opened.image_of_text)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, aligned so that it reads as it is."""
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


def write(rows: Sequence[Row], out: Path) -> None:
    """Leave the table in `out` as ablation.md, ablation.json and a picture."""
    with replacing(out / "ablation.md") as temporary:
        temporary.write_text(table(rows) + "\n", "utf-8")
    with replacing(out / "ablation.json") as temporary:
        temporary.write_text(json.dumps(to_dicts(rows), indent=2) + "\n", "utf-8")
    dots = [(row.name, row.recalls.rsum, row.rsum.low, row.rsum.high) for row in rows]
    draw_dots(dots, out / "ablation.png", WHOLE)


def to_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**asdict(row), "recalls": row.recalls.to_dict()} for row in rows]
