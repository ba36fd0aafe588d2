"""A picture of an alignment: the image with the regions that answer, a heat map, the sentence in the regions' colours.

Each word answers to its best region. The ten regions that answer most get a colour each, which their box, their row of
the heat map and their words share; a word is the paler the less its region answers it.
"""

import os
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from regard.explain.alignment import Alignment
from regard.explain.canvas import (
    COLOURS,
    GAP,
    INK,
    MARGIN,
    PANEL,
    PAPER,
    PLAIN,
    MarkedRegion,
    break_lines,
    draw_regions,
    draw_text,
    make_canvas,
    open_photograph,
    save_canvas,
    text_size,
    tint,
)

HEAT = LinearSegmentedColormap.from_list("heat", ["#faf8f3", "#f6cf94", "#d0573c", "#4a1c40"])
# A list of words reads better as a sentence.
SMALL_WORDS = {*"a an the and or of in on at to by with for from is are as it its his her their".split()}  # noqa: SIM905
LINE_HEIGHT = 0.42  # of the sentence


@dataclass(frozen=True)
class MatchedRegion:
    """A region that is the best of some words."""

    region: int
    words: list[int]
    colour: str


def draw_alignment(
    alignment: Alignment,
    path: str | os.PathLike[str],
    photograph: Image.Image | str | os.PathLike[str] | None = None,
    aspect: float = 4 / 3,
) -> None:
    """Write the picture of an alignment to `path` as PNG, whole or not at all.

    Without a photograph the boxes lie on a plain canvas, `aspect` times as wide as high; without boxes either, the
    heat map stands alone. Raises InputError where the photograph cannot be read.
    """
    photograph = open_photograph(photograph)
    if photograph is not None:
        aspect = photograph.width / photograph.height
    answers = matched_regions(alignment)

    image = (0.0, 0.0)  # width, height of each part
    if photograph is not None or alignment.boxes is not None:
        image = (min(PANEL, PANEL * aspect), min(PANEL, PANEL / aspect))
    heat = HeatMap(alignment, answers)
    width = 2 * MARGIN + image[0] + (GAP if image[0] else 0) + heat.width
    lines = break_lines([text_size(word, 15.0)[0] + 0.3 for word in alignment.words], width - 2 * MARGIN)
    body = max(image[1], heat.height)
    relations = [
        f"{_arrow(each.text_relation)}      {_arrow(each.image_relation)}      {each.score:.2f}"
        for each in alignment.relations
    ]
    height = MARGIN + body + GAP + LINE_HEIGHT * len(lines) + 0.3 * (len(relations) + bool(relations)) + 0.3 + MARGIN

    axes = make_canvas(width, height)
    if image[0]:
        marked = [
            MarkedRegion(each.region, each.colour, region_tag(alignment, each))
            for each in answers
            if each.colour != PLAIN
        ]
        top = MARGIN + (body - image[1]) / 2
        place = (MARGIN, top, MARGIN + image[0], top + image[1])
        draw_regions(axes, alignment.boxes, marked, photograph, place)
    heat.draw(axes, width - MARGIN - heat.width, MARGIN + (body - heat.height) / 2)
    _draw_words(axes, alignment, answers, lines, MARGIN + body + GAP)
    for number, text in enumerate(relations):
        y = MARGIN + body + GAP + LINE_HEIGHT * len(lines) + 0.3 * (number + 1)
        draw_text(axes, MARGIN + 0.1, y, text, 10.5, INK)
    told = "each word in the colour of the region that answers it best"
    draw_text(axes, MARGIN, height - MARGIN, f"score {alignment.score:.3f}   {told}", 9.0, PLAIN, va="bottom")
    save_canvas(axes, path)


def matched_regions(alignment: Alignment) -> list[MatchedRegion]:
    """The regions that are some word's best, that of most weight first; beyond the palette they are grey."""
    best = alignment.best_regions()
    words_of = {region: np.flatnonzero(best == region).tolist() for region in np.unique(best[best >= 0]).tolist()}
    order = sorted(words_of, key=lambda region: -alignment.weights[region, words_of[region]].sum())
    colours = [*COLOURS, *[PLAIN] * len(order)]
    return [MatchedRegion(region, words_of[region], colour) for region, colour in zip(order, colours, strict=False)]


def region_tag(alignment: Alignment, answer: MatchedRegion) -> str:
    """The region's number and the three words that it answers most; small words where there are no others."""
    weights, words = alignment.weights[answer.region], alignment.words
    telling = [word for word in answer.words if words[word] not in SMALL_WORDS] or answer.words
    most = sorted(telling, key=lambda word: -weights[word])[:3]
    return f"{answer.region}  " + " ".join(words[word] for word in sorted(most)) + " …" * (len(telling) > 3)


class HeatMap:
    """Regions by words: those that answer first, in the order of their words, so that strong cells run downwards."""

    def __init__(self, alignment: Alignment, answers: list[MatchedRegion]) -> None:
        self.alignment = alignment
        self.colour_of_region = {answer.region: answer.colour for answer in answers}
        self.colour_of_word = {word: answer.colour for answer in answers for word in answer.words}
        answering = sorted(answers, key=lambda answer: answer.words[0])
        regions, words = alignment.weights.shape
        self.rows = [answer.region for answer in answering]
        self.rows += [region for region in range(regions) if region not in self.rows]
        self.names = [f"{alignment.labels[region]}  {region}"[-22:] for region in self.rows]

        self.cell_width = min(max(PANEL / max(words, 1), 0.24), 0.45)
        self.cell_height = min(max((PANEL - 0.8) / max(regions, 1), 0.165), 0.36)
        self.size = 7.5 if self.cell_height < 0.2 else 9.0
        self.names_width = max(text_size(name, self.size)[0] for name in self.names) + 0.1
        self.words_height = max((text_size(word, 9.5)[0] for word in alignment.words), default=0) + 0.1
        self.width = self.names_width + words * self.cell_width + 0.75  # with the scale on the right
        self.height = self.words_height + regions * self.cell_height

    def draw(self, axes: Axes, left: float, top: float) -> None:
        weights = self.alignment.weights[self.rows]
        left, top = left + self.names_width, top + self.words_height
        right, bottom = left + weights.shape[1] * self.cell_width, top + weights.shape[0] * self.cell_height
        highest = max(float(weights.max(initial=0)), 1e-9)
        axes.imshow(
            weights, cmap=HEAT, vmin=0, vmax=highest, extent=(left, right, bottom, top), aspect="auto", zorder=1
        )
        axes.hlines(np.arange(1, len(self.rows)) * self.cell_height + top, left, right, "white", lw=0.7, zorder=2)
        columns = np.arange(weights.shape[1]) * self.cell_width + left
        axes.vlines(columns[1:], top, bottom, "white", lw=0.7, zorder=2)
        for row, (region, name) in enumerate(zip(self.rows, self.names, strict=True)):
            y, colour = top + (row + 0.5) * self.cell_height, self.colour_of_region.get(region)
            draw_text(
                axes, left - 0.07, y, name, self.size, colour or PLAIN, weight="bold" if colour else None, ha="right"
            )
        for word, (name, x) in enumerate(zip(self.alignment.words, columns, strict=True)):
            colour = self.colour_of_word.get(word, PLAIN)
            x += self.cell_width / 2
            draw_text(axes, x, top - 0.07, name, 9.5, colour, weight="bold", ha="center", va="bottom", rotation=90)

        scale = (right + 0.15, right + 0.27, bottom, max(top, bottom - 1.6))
        axes.imshow(np.linspace(1, 0, 64)[:, None], cmap=HEAT, extent=scale, aspect="auto", zorder=1)
        draw_text(axes, scale[1] + 0.05, scale[3] + 0.06, f"{highest:.2f}", 8.0, PLAIN)
        draw_text(axes, scale[1] + 0.05, scale[2] - 0.06, "0", 8.0, PLAIN)


def _draw_words(
    axes: Axes, alignment: Alignment, answers: list[MatchedRegion], lines: list[list[tuple[int, float]]], top: float
) -> None:
    """The words on chips of their region's colour, as strong as the weight."""
    colour_of = {word: answer.colour for answer in answers for word in answer.words}
    highest = alignment.weights.max(initial=1e-9)
    for number, line in enumerate(lines):
        y = top + (number + 0.5) * LINE_HEIGHT
        for word, x in line:
            strength = float(alignment.weights[:, word].max().clip(0) / highest)
            colour = tint(colour_of.get(word, PAPER), 0.25 + 0.75 * strength if word in colour_of else 1.0)
            width = text_size(alignment.words[word], 15.0)[0]
            chip = FancyBboxPatch((MARGIN + x + 0.1, y - 0.12), width + 0.04, 0.24, "round,pad=0.06", fc=colour, lw=0)
            axes.add_patch(chip)
            dark = np.dot(to_rgb(colour), (0.3, 0.59, 0.11)) < 0.6
            draw_text(axes, MARGIN + x + 0.12, y, alignment.words[word], 15.0, "white" if dark else INK)


def _arrow(relation: tuple[str, str, str]) -> str:
    subject, predicate, other = relation
    return f"{subject or '·'} –{predicate or ' '}→ {other or '·'}"
