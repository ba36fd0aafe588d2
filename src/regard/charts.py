"""Draw numbers: the training curves of a run, a table of models with bars, a chart of rSums with intervals."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from regard.files import InputError, parse_json, replacing

INK, PLAIN, PALE = "#22252a", "#8d8d8d", "#ecebe7"  # of text, of secondary text and lines, of grids and empty bars
I2T, T2I = ("#123f5c", "#2176ae", "#7fb4d6"), ("#6b2a1c", "#d0573c", "#eba793")  # R@1, R@5, R@10
LEVELS = ("r1", "r5", "r10")
DPI = 120


def draw_curves(metrics: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Draw the training loss and the validation recalls of a run's `metrics.jsonl` to a PNG.

    If a resumed run repeated a step, only the last time is drawn. Incomplete lines, left by a run that was killed, are
    skipped. Raises InputError if there are neither steps nor validations.
    """
    events = read_events(Path(metrics))
    steps, validations = last_by_step(events, "step"), last_by_step(events, "validation")
    if not steps and not validations:
        raise InputError(f"{metrics} contains no step and no validation: there is nothing to draw yet.")
    figure = Figure(figsize=(12, 4.6), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_loss(left, steps)
    _draw_validations(right, validations)
    for axes in (left, right):
        axes.set_xlim(0, 1.02 * max(event["epoch"] for event in (*steps, *validations)) or 1)
    _save(figure, path)


def draw_results(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw a table of models to a PNG: each number has a bar, and the best of each column is bold.

    A row has a `name`, the keys of `Recalls.to_dict` (`i2t`, `t2i`, `rsum`) and, if measured, `twins`: the result of
    `twin_accuracy`, which maps what was exchanged to the percentage of sentences that score their own picture
    above its twin (chance is 50). Raises InputError without rows.
    """
    if not rows:
        raise InputError("Expected one row of results for each model, got none: there is nothing to draw.")
    groups = [(title, [(f"R@{level[1:]}", [row[direction][level] for row in rows], 100.0) for level in LEVELS])
              for direction, title in (("i2t", "image to text"), ("t2i", "text to image"))]  # fmt: skip
    groups.append(("all six", [("rSum", [row["rsum"] for row in rows], 600.0)]))
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.get("twins", ())))
    if kinds:
        twins = [(kind, [row.get("twins", {}).get(kind) for row in rows], 100.0) for kind in kinds]
        groups.append(("twins (chance 50)", twins))

    cell, gap, line, margin = 1.15, 0.35, 0.42, 0.3  # inches
    names = 0.4 + 0.105 * max(len(row["name"]) for row in rows)
    width = 2 * margin + names + sum(max(len(columns) * cell, 1.3) + gap for _, columns in groups) - gap
    height = 2 * margin + 0.75 + line * len(rows)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # in inches from the top left
    axes.set_axis_off()
    top = margin + 0.75
    for number, row in enumerate(rows):
        _draw_text(axes, margin, top + (number + 0.5) * line, row["name"], 11.5, INK)
    x = margin + names
    for title, columns in groups:
        _draw_text(axes, x, margin + 0.1, title, 10.5, INK, weight="bold")
        axes.hlines(margin + 0.28, x, x + len(columns) * cell - 0.12, PLAIN, lw=0.8)
        for name, values, maximum in columns:
            _draw_text(axes, x, margin + 0.52, name, 10.0, PLAIN)
            colour = {"image to text": I2T[2], "text to image": T2I[2], "all six": "#b9c48f"}.get(title, "#c9b3e0")
            _draw_column(axes, (x, top), (cell - 0.12, line), values, maximum, colour)
            if title.startswith("twins"):
                half = x + (cell - 0.12) / 2
                axes.vlines(half, top, top + line * len(rows), PLAIN, lw=0.9, linestyles=(0, (3, 2)), zorder=2)
            x += cell
        x += max(0, 1.3 - len(columns) * cell) + gap
    _save(figure, path)


def draw_dots(rows: Sequence[tuple[str, float, float, float]], path: str | os.PathLike[str], against: str = "") -> None:
    """Draw rows of (name, rSum, low, high) to a PNG: for each a dot with its interval.

    A dashed vertical line marks the rSum of the row named `against`. Raises InputError without rows.
    """
    names = [name for name, *_ in rows]
    axes, figure = _dot_axes(names, "rSum, with the 95 % interval over images")
    for place, (name, value, low, high) in enumerate(rows):
        if name == against:
            axes.axvline(value, color=PLAIN, lw=0.9, linestyle=(0, (3, 2)), zorder=1)
        axes.hlines(place, low, high, color=I2T[2], lw=3, zorder=2)
        axes.plot(value, place, "o", color=I2T[0], ms=6, zorder=3)
        axes.annotate(f"{value:.1f}", (high, place), (6, 0), textcoords="offset points", va="center", size=9, color=INK)
    _save(figure, path)


def draw_changes(
    rows: Sequence[tuple[str, tuple[float, float, float] | None, str]], path: str | os.PathLike[str], title: str
) -> None:
    """Draw rows of (name, (change, low, high), note) to a PNG: for each a dot with its interval, beside a line at zero.

    A row without numbers has its note in their place. Raises InputError without rows.
    """
    axes, figure = _dot_axes([name for name, _, _ in rows], title)
    axes.axvline(0, color=PLAIN, lw=0.9, linestyle=(0, (3, 2)), zorder=1)
    for place, (_, span, note) in enumerate(rows):
        if span is not None:
            value, low, high = span
            axes.hlines(place, low, high, color=T2I[2], lw=3, zorder=2)
            axes.plot(value, place, "o", color=T2I[0], ms=6, zorder=3)
        text, colour = (f"{span[0]:+.1f}", INK) if span else (note, PLAIN)
        where = axes.get_yaxis_transform()
        axes.text(1.02, place, text, transform=where, va="center", size=9, color=colour, parse_math=False)
    _save(figure, path)


def _dot_axes(names: Sequence[str], title: str) -> tuple[Axes, Figure]:
    """Axes with a row for each name, from the top."""
    if not names:
        raise InputError("Expected at least one row, got none: there is nothing to draw.")
    figure = Figure(figsize=(7.5, 1.1 + 0.32 * len(names)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PLAIN)
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.tick_params(axis="x", labelsize=9, colors=PLAIN)
    axes.grid(axis="y", color=PALE, lw=0.8)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel(title, fontsize=9, color=PLAIN, parse_math=False)
    return axes, figure


def _draw_loss(axes: Axes, steps: list[dict[str, Any]]) -> None:
    axes.set_title("training loss", loc="left", fontsize=11)
    _style(axes)
    axes.set_ylim(bottom=0)
    finite = [event for event in steps if math.isfinite(event["loss"])]
    if not finite:
        return
    epochs, losses = (np.array([event[name] for event in finite], float) for name in ("epoch", "loss"))
    axes.plot(epochs, losses, color=I2T[2], lw=0.8, alpha=0.7, label="each logged step")
    smoothed = _smoothed(losses)
    axes.plot(_smoothed(epochs), smoothed, color=I2T[0], lw=2, label="median over 1/60 of the run")
    axes.set_ylim(0, 1.3 * smoothed.max() or 1)  # a few outliers must not flatten the rest
    if 0 < 8 * smoothed.min() < smoothed.max():  # for example after the change from all negatives to the hardest
        axes.set_yscale("log")
        axes.set_ylim(smoothed.min() / 1.5, 1.5 * smoothed.max())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=9)


def _draw_validations(axes: Axes, validations: list[dict[str, Any]]) -> None:
    axes.set_title("validation recall", loc="left", fontsize=11)
    _style(axes)
    axes.set_ylim(0, 100)
    axes.set_ylabel("percent", fontsize=9, color=PLAIN)
    sums = axes.secondary_yaxis(
        "right", functions=(lambda recall: np.multiply(recall, 6), lambda total: np.divide(total, 6))
    )
    sums.set_ylabel("rSum", fontsize=9, color=PLAIN)
    sums.tick_params(labelsize=9, colors=PLAIN)
    sums.spines["right"].set_visible(False)
    if not validations:
        axes.text(0.5, 0.5, "none yet", transform=axes.transAxes, ha="center", color=PLAIN)
        return
    epochs = [event["epoch"] for event in validations]
    for direction, title, colours in (("i2t", "image to text", I2T), ("t2i", "text to image", T2I)):
        for level, colour in reversed(list(zip(LEVELS, colours, strict=True))):
            values = [event[direction][level] for event in validations]
            axes.plot(epochs, values, "o-", color=colour, lw=1.6, ms=3, label=f"{title}  R@{level[1:]}")
    means = [event["rsum"] / 6 for event in validations]
    axes.plot(epochs, means, "o--", color=INK, lw=2, ms=4, label="mean of the six = rSum / 6")
    best = max(validations, key=lambda event: event["rsum"])
    place = (best["epoch"], best["rsum"] / 6)
    axes.plot(*place, "o", ms=11, mfc="none", mec=INK, mew=1.5)
    axes.set_title(f"best rSum {best['rsum']:.1f} at epoch {best['epoch']:g}", loc="right", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.12, 1.0))


def _draw_column(
    axes: Axes,
    place: tuple[float, float],
    cell: tuple[float, float],
    values: Sequence[float | None],
    maximum: float,
    colour: str,
) -> None:
    (left, top), (width, height) = place, cell
    best = max((value for value in values if value is not None), default=None)
    for number, value in enumerate(values):
        y = top + number * height
        axes.add_patch(Rectangle((left, y + 0.05), width, height - 0.1, facecolor=PALE, lw=0))
        if value is None:
            _draw_text(axes, left + 0.08, y + height / 2, "–", 11.0, PLAIN)
            continue
        axes.add_patch(Rectangle((left, y + 0.05), width * value / maximum, height - 0.1, facecolor=colour, lw=0))
        weight = "bold" if value == best and len(values) > 1 else "normal"
        _draw_text(axes, left + 0.08, y + height / 2, f"{value:.1f}", 11.0, INK, weight=weight)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the steps and validations of a `metrics.jsonl`, without damaged lines; InputError if it is absent."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    events = []
    for line in lines:
        try:
            events.append(parse_json(line))
        except ValueError:  # incomplete, perhaps with the next line at its end
            continue
    return [event for event in events if isinstance(event, dict) and _is_whole(event)]


def _is_whole(event: dict[str, Any]) -> bool:
    """Whether an event has the numbers that are drawn. A loss may be infinite or NaN, as that of a failed step."""
    needed = [event.get("step"), event.get("epoch")]
    if event.get("event") == "validation":
        ways = [event.get(way) for way in ("i2t", "t2i")]
        needed += [
            event.get("rsum"),
            *(way.get(level) if isinstance(way, dict) else None for way in ways for level in LEVELS),
        ]
    has_loss = event.get("event") != "step" or isinstance(event.get("loss"), (int, float))
    return has_loss and all(isinstance(each, (int, float)) and math.isfinite(each) for each in needed)


def last_by_step(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the last event of a kind for each step, in the order of the steps."""
    latest = {event["step"]: event for event in events if event.get("event") == kind}
    return [latest[step] for step in sorted(latest)]


def _smoothed(values: Float[np.ndarray, " step"]) -> Float[np.ndarray, " part"]:
    """Return the median of each sixtieth of the values. Unlike a mean, it ignores a few outliers."""
    return np.array([np.median(part) for part in np.array_split(values, min(60, len(values)))])


def _style(axes: Axes) -> None:
    axes.set_xlabel("epoch", fontsize=9, color=PLAIN)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PLAIN)
    axes.tick_params(labelsize=9, colors=PLAIN)
    axes.grid(axis="y", color=PALE, lw=0.8)


def _draw_text(axes: Axes, x: float, y: float, text: str, size: float, colour: str, weight: str = "normal") -> None:
    axes.text(x, y, text, fontsize=size, color=colour, weight=weight, va="center_baseline", parse_math=False, zorder=3)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
