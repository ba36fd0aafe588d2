"""Panels of a picture, measured in inches, and their arrangement in rows and columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from regard.explain.alignment import Alignment, largest
from regard.explain.alignment_picture import WORD_FONT, draw_word, word_colour
from regard.explain.canvas import GAP, PANEL, break_lines, draw_regions, draw_text, text_size
from regard.explain.explanation_view import BarChart, ExplanationView, shortened, signed
from regard.explain.palette import INK, PAPER, PLAIN

FONT, SMALL_FONT, TITLE_FONT = 9.0, 8.0, 12.0  # points
ROW = 0.22  # inches, as every length: the height of a bar or a small line
BAR_WIDTH, VALUE_WIDTH = 1.8, 0.7


@runtime_checkable
class Panel(Protocol):
    """A part of a picture."""

    @property
    def width(self) -> float: ...

    @property
    def height(self) -> float: ...

    def draw(self, axes: Axes, left: float, top: float) -> None:
        """Draw the panel with its top left corner at (left, top)."""


@dataclass(frozen=True)
class PanelRow:
    """Panels beside each other, aligned at the top."""

    panels: Sequence[Panel]
    gap: float = GAP

    @property
    def width(self) -> float:
        return sum(panel.width for panel in self.panels) + self.gap * (len(self.panels) - 1)

    @property
    def height(self) -> float:
        return max((panel.height for panel in self.panels), default=0.0)

    def draw(self, axes: Axes, left: float, top: float) -> None:
        for panel in self.panels:
            panel.draw(axes, left, top)
            left += panel.width + self.gap


@dataclass(frozen=True)
class PanelColumn:
    """Panels below each other, aligned at the left."""

    panels: Sequence[Panel]
    gap: float = GAP

    @property
    def width(self) -> float:
        return max((panel.width for panel in self.panels), default=0.0)

    @property
    def height(self) -> float:
        return sum(panel.height for panel in self.panels) + self.gap * max(len(self.panels) - 1, 0)

    def draw(self, axes: Axes, left: float, top: float) -> None:
        for panel in self.panels:
            panel.draw(axes, left, top)
            top += panel.height + self.gap


@dataclass(frozen=True)
class Line:
    """One line of text."""

    text: str
    size: float = FONT
    colour: str = PLAIN
    weight: str = "normal"

    @property
    def width(self) -> float:
        return text_size(self.text, self.size, self.weight)[0]

    @property
    def height(self) -> float:
        return self.size / 72 * 1.3

    def draw(self, axes: Axes, left: float, top: float) -> None:
        draw_text(axes, left, top + self.height / 2, self.text, self.size, self.colour, weight=self.weight)


@dataclass(frozen=True)
class MarkedPhotograph:
    """The photograph, or a plain panel, with the boxes of a view and its relations as arrows."""

    view: ExplanationView
    photograph: Image.Image | None
    aspect: float  # width / height

    @property
    def width(self) -> float:
        return min(PANEL, PANEL * self.aspect)

    @property
    def height(self) -> float:
        return min(PANEL, PANEL / self.aspect)

    def draw(self, axes: Axes, left: float, top: float) -> None:
        boxes = self.view.explanation.alignment.boxes
        frame = (left, top, left + self.width, top + self.height)
        draw_regions(axes, boxes, self.view.boxes, self.photograph, frame)
        if boxes is None:
            return
        centres = (boxes[:, :2] + boxes[:, 2:]).clip(0, 2) / 2 * [self.width, self.height] + [left, top]
        for arrow in self.view.arrows:
            ends = centres[arrow.subject], centres[arrow.object]
            patch = FancyArrowPatch(
                *ends,
                arrowstyle="-|>",
                connectionstyle="arc3,rad=0.15",
                mutation_scale=14,
                shrinkA=0,
                shrinkB=0,
                color=arrow.colour,
                lw=2.2,
                zorder=3.5,
            )
            patch.set_path_effects([withStroke(linewidth=4.6, foreground="white")])
            axes.add_patch(patch)


@dataclass(frozen=True)
class Sentence:
    """The words on chips in the colours of their regions. Below each: its cost, and where it takes context from."""

    alignment: Alignment
    costs: Sequence[float]
    colour_of_word: Mapping[int, str]
    colours: Mapping[int, str]  # of regions
    limit: float  # width at which lines break

    @cached_property
    def notes(self) -> list[list[tuple[str, str]]]:
        """The texts below each word, with their colours."""
        costliest = int(np.argmax(self.costs))
        notes = [[(signed(cost), INK if at == costliest else PLAIN)] for at, cost in enumerate(self.costs)]
        if self.alignment.context is not None:
            for own, region in zip(notes, largest(self.alignment.context).tolist(), strict=True):
                own.append((f"← {region}" if region >= 0 else "", self.colours.get(region, PLAIN)))
        return notes

    @cached_property
    def lines(self) -> list[list[tuple[int, float]]]:
        """The words of each line, with their positions."""
        widths = [
            max(text_size(word, WORD_FONT)[0], text_size(notes[0][0], SMALL_FONT, "bold")[0]) + 0.3
            for word, notes in zip(self.alignment.words, self.notes, strict=True)
        ]
        return break_lines(widths, self.limit)

    @property
    def line_height(self) -> float:
        return 0.42 + 0.16 * len(self.notes[0])

    @property
    def legend(self) -> list[str]:
        word = self.alignment.words[int(np.argmax(self.costs))]
        legend = [f"below each word: what the score loses without it, most without “{word}”"]
        if self.alignment.context is not None:
            legend.append("←: the region that it takes most context from")
        return legend

    @property
    def width(self) -> float:
        return max(self.limit, *(text_size(line, FONT)[0] for line in self.legend))

    @property
    def height(self) -> float:
        return self.line_height * len(self.lines) + ROW * len(self.legend)

    def draw(self, axes: Axes, left: float, top: float) -> None:
        for line in self.lines:
            for word, x in line:
                colour = word_colour(self.alignment, word, self.colour_of_word.get(word))
                draw_word(axes, left + x + 0.08, top + 0.2, self.alignment.words[word], colour)
                for row, (text, shade) in enumerate(self.notes[word]):
                    weight = "bold" if shade != PLAIN else "normal"
                    y = top + 0.47 + 0.16 * row
                    draw_text(axes, left + x + 0.06, y, text, SMALL_FONT, shade, weight=weight)
            top += self.line_height
        for row, text in enumerate(self.legend):
            draw_text(axes, left, top + (row + 0.5) * ROW, text, FONT, PLAIN)


@dataclass(frozen=True)
class Bars:
    """A bar chart with the names of the bars on the left and their values on the right."""

    chart: BarChart

    @property
    def names_width(self) -> float:
        return max((text_size(bar.name, FONT)[0] for bar in self.chart.bars), default=0.0) + 0.12

    @property
    def width(self) -> float:
        texts = text_size(self.chart.title, FONT, "bold")[0], text_size(self.chart.note, SMALL_FONT)[0]
        return max(self.names_width + BAR_WIDTH + VALUE_WIDTH, *texts)

    @property
    def height(self) -> float:
        return ROW * (len(self.chart.bars) + 1 + bool(self.chart.note)) + 0.06

    def draw(self, axes: Axes, left: float, top: float) -> None:
        draw_text(axes, left, top + ROW / 2, self.chart.title, FONT, INK, weight="bold")
        if self.chart.note:
            draw_text(axes, left, top + 1.5 * ROW, self.chart.note, SMALL_FONT, PLAIN)
        top += ROW * (1 + bool(self.chart.note)) + 0.06
        low, high = self.chart.limits
        scale = BAR_WIDTH / max(high - low, 1e-9)
        left += self.names_width
        zero, bottom = left - low * scale, top + ROW * len(self.chart.bars)
        if self.chart.noise:
            corner = (zero - self.chart.noise * scale, top)
            axes.add_patch(Rectangle(corner, 2 * self.chart.noise * scale, bottom - top, fc=PAPER, lw=0, zorder=1))
        for row, bar in enumerate(self.chart.bars):
            y, colour = top + (row + 0.5) * ROW, PLAIN if bar.is_faint else bar.colour
            start = zero + min(bar.value, 0.0) * scale
            size = abs(bar.value) * scale
            axes.add_patch(Rectangle((start, y - 0.06), size, 0.12, fc=colour, lw=0, zorder=2))
            draw_text(axes, left - 0.1, y, bar.name, FONT, PLAIN if bar.is_faint else INK, ha="right")
            draw_text(axes, left + BAR_WIDTH + 0.08, y, shortened(bar.value), FONT, INK)
        axes.vlines(zero, top, bottom, PLAIN, lw=0.8, zorder=3)
