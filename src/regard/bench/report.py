"""The results of a benchmark as a table and as a picture."""

import os
from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from regard.bench.measurement import BenchRow
from regard.charts import INK, PALE, PLAIN
from regard.files import replacing

OURS, LOOP, FLOOR = "#123f5c", "#d0573c", "#7fb4d6"


def table(rows: Sequence[BenchRow]) -> str:
    """Return the rows as an aligned Markdown table, and below it the machine and its limits."""
    lines = [
        [
            "model",
            "pairs",
            "s / M pairs",
            "x floor (min-max)",
            "products %",
            "loop: s / M",
            "speed-up",
            "MiB",
            "images / s",
            "texts / s",
        ]
    ]
    batches = sorted({batch for row in rows for batch in row.steps_per_second})
    lines[0] += [f"steps / s at {batch} (MiB)" for batch in batches]
    for row in rows:
        cells = [_name(row), f"{row.images:,} x {row.texts:,}", f"{row.seconds_per_million_pairs:.3g}"]
        cells += [f"{row.floor_ratio:.2f} ({row.floor_ratio_min:.2f}-{row.floor_ratio_max:.2f})"]
        cells += [f"{row.products_percent:.0f}", f"{row.loop_seconds_per_million_pairs:.3g}", f"{row.loop_speedup:.1f}"]
        cells += [f"{row.peak_mib:,.0f}", f"{row.images_per_second:,.0f}", f"{row.texts_per_second:,.0f}"]
        cells += [f"{row.steps_per_second[batch]:.2g} ({row.step_mib[batch]:,.0f})" for batch in batches]
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in aligned), "", _machine(rows[0])])


def draw_bench(rows: Sequence[BenchRow], path: str | os.PathLike[str]) -> None:
    """Draw the seconds per million pairs of Regard, the floor and the loop over captions to a PNG file."""
    figure = Figure(figsize=(8, 1.6 + 0.5 * len(rows)), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=PALE, lw=0.8)
    axes.set_axisbelow(True)
    places = np.arange(len(rows))
    ours = np.array([row.seconds_per_million_pairs for row in rows])
    loop = np.array([row.loop_seconds_per_million_pairs for row in rows])
    floor = ours / np.array([row.floor_ratio for row in rows])
    axes.hlines(places, floor, loop, color=PALE, lw=3, zorder=1)
    for values, colour, label in ((floor, FLOOR, "floor"), (ours, OURS, "Regard"), (loop, LOOP, "loop over captions")):
        axes.plot(values, places, "o", color=colour, ms=8, label=label, zorder=2)
    for place, row in zip(places, rows, strict=True):
        note = f"{row.floor_ratio:.1f} x floor, {row.loop_speedup:.0f} x faster than the loop"
        end = row.loop_seconds_per_million_pairs
        axes.annotate(note, (end, place), (9, 0), textcoords="offset points", va="center", size=8, color=INK)
    axes.set_yticks(places, [_name(row) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(floor.min() / 2, loop.max() * 1000)  # room for the notes
    axes.set_xticks([tick for tick in 10.0 ** np.arange(-3, 6) if floor.min() / 2 < tick < 10 * loop.max()])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("seconds per million pairs", fontsize=9, color=PLAIN)
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    figure.supxlabel("\n".join(wrap(_machine(rows[0]), 110)), fontsize=7, color=PLAIN)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _name(row: BenchRow) -> str:
    parts = [row.model, *[row.direction] * (row.direction != "both"), *[row.precision] * (row.precision != "float32")]
    return " ".join(parts)


def _machine(row: BenchRow) -> str:
    machine = row.machine
    if machine is None:
        return ""
    return (
        f"{machine.hardware}, torch {machine.torch}, commit {machine.commit}. Copies: {machine.copy_gbytes:.1f} GB/s. "
        f"Products: {machine.product_gflops:,.0f} GFLOP/s float32, {machine.product_bfloat16_gflops:,.0f} bfloat16."
    )
