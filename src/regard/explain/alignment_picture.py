"""Draw an alignment: the image with its best-matching regions, a heat map, and the sentence in the regions' colours.

Each word is matched to the region with the largest weight. The ten regions with the most total weight over their words
get a colour each, shared by their box, their row of the heat map and their words. A smaller weight makes a word paler.
"""

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from regard.explain.alignment import Alignment, arrow_name
from regard.explain.canvas import (
    GAP,
    MARGIN,
    PANEL,
    break_lines,
    draw_regions,
    draw_text,
    make_canvas,
    save_canvas,
    text_size,
    tint,
)
from regard.explain.palette import INK, PAPER, PLAIN, MarkedRegion, MatchedRegion, matched_regions, region_tag
from regard.photographs import aspect_of, load_photograph

HEAT = LinearSegmentedColormap.from_list("heat", ["#faf8f3", "#f6cf94", "#d0573c", "#4a1c40"])
WORD_FONT = 15.0  # points
LINE_HEIGHT, RELATION_HEIGHT = 0.42, 0.3  # inches: a line of the sentence, of the relations


def draw_alignment(
    alignment: Alignment,
    path: str | os.PathLike[str],
    photograph: Image.Image | str | os.PathLike[str] | None = None,
    aspect: float = 4 / 3,
) -> None:
    """Write the picture of an alignment to `path`, as PNG. A failed call leaves no file.

    Without a photograph, the boxes are drawn on a plain panel whose width is `aspect` times its height. With neither
    photograph nor boxes, only the heat map and the sentence are drawn. Raises InputError if the photograph cannot be
    read.
    """
    photograph = load_photograph(photograph)
    aspect = aspect_of(photograph, aspect)
    matched = matched_regions(alignment)

    image_width, image_height = 0.0, 0.0
    if photograph is not None or alignment.boxes is not None:
        image_width, image_height = min(PANEL, PANEL * aspect), min(PANEL, PANEL / aspect)
    heat = HeatMap(alignment, matched)
    width = 2 * MARGIN + image_width + (GAP if image_width else 0) + heat.width
    lines = break_lines([text_size(word, WORD_FONT)[0] + 0.3 for word in alignment.words], width - 2 * MARGIN)
    relations = [
        f"{arrow_name(each.text_relation)}      {arrow_name(each.image_relation)}      {each.score:.2f}"
        for each in alignment.relations
    ]
    body = max(image_height, heat.height)
    below = MARGIN + body + GAP + LINE_HEIGHT * len(lines)  # the bottom of the sentence
    height = below + RELATION_HEIGHT * (len(relations) + bool(relations)) + 0.3 + MARGIN

    axes = make_canvas(width, height)
    if image_width:
        coloured = [each for each in matched if each.colour != PLAIN]
        marked = [MarkedRegion(each.region, each.colour, region_tag(alignment, each)) for each in coloured]
        top = MARGIN + (body - image_height) / 2
        frame = (MARGIN, top, MARGIN + image_width, top + image_height)
        draw_regions(axes, alignment.boxes, marked, photograph, frame)
    heat.draw(axes, width - MARGIN - heat.width, MARGIN + (body - heat.height) / 2)
    _draw_words(axes, alignment, matched, lines, MARGIN + body + GAP)
    for number, text in enumerate(relations):
        draw_text(axes, MARGIN + 0.1, below + RELATION_HEIGHT * (number + 1), text, 10.5, INK)
    note = "each word has the colour of its best-matching region"
    draw_text(axes, MARGIN, height - MARGIN, f"score {alignment.score:.3f}   {note}", 9.0, PLAIN, va="bottom")
    save_canvas(axes, path)


class HeatMap:
    """The weights of regions by words. Matched regions come first, in the order of their words: a falling diagonal."""

    def __init__(self, alignment: Alignment, matched: list[MatchedRegion]) -> None:
        self.alignment = alignment
        self.colour_of_region = {each.region: each.colour for each in matched}
        self.colour_of_word = {word: each.colour for each in matched for word in each.words}
        regions, words = alignment.weights.shape
        self.rows = [each.region for each in sorted(matched, key=lambda each: each.words[0])]
        self.rows += [region for region in range(regions) if region not in self.rows]
        self.names = [f"{alignment.labels[region]}  {region}"[-22:] for region in self.rows]

        self.cell_width = min(max(PANEL / max(words, 1), 0.24), 0.45)
        self.cell_height = min(max((PANEL - 0.8) / max(regions, 1), 0.165), 0.36)
        self.size = 7.5 if self.cell_height < 0.2 else 9.0
        self.names_width = max(text_size(name, self.size)[0] for name in self.names) + 0.1
        self.words_height = max((text_size(word, 9.5)[0] for word in alignment.words), default=0) + 0.1
        self.width = self.names_width + words * self.cell_width + 0.75  # with the colour scale on the right
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
            weight = "bold" if colour else None
            draw_text(axes, left - 0.07, y, name, self.size, colour or PLAIN, weight=weight, ha="right")
        for word, (name, x) in enumerate(zip(self.alignment.words, columns, strict=True)):
            colour = self.colour_of_word.get(word, PLAIN)
            x += self.cell_width / 2
            draw_text(axes, x, top - 0.07, name, 9.5, colour, weight="bold", ha="center", va="bottom", rotation=90)

        scale = (right + 0.15, right + 0.27, bottom, max(top, bottom - 1.6))
        axes.imshow(np.linspace(1, 0, 64)[:, None], cmap=HEAT, extent=scale, aspect="auto", zorder=1)
        draw_text(axes, scale[1] + 0.05, scale[3] + 0.06, f"{highest:.2f}", 8.0, PLAIN)
        draw_text(axes, scale[1] + 0.05, scale[2] - 0.06, "0", 8.0, PLAIN)


def _draw_words(
    axes: Axes, alignment: Alignment, matched: list[MatchedRegion], lines: list[list[tuple[int, float]]], top: float
) -> None:
    """Draw the words on chips in the colours of their regions. The weight gives the strength of the colour."""
    colour_of = {word: each.colour for each in matched for word in each.words}
    for number, line in enumerate(lines):
        y = top + (number + 0.5) * LINE_HEIGHT
        for word, x in line:
            colour = word_colour(alignment, word, colour_of.get(word))
            draw_word(axes, MARGIN + x + 0.12, y, alignment.words[word], colour)


def word_colour(alignment: Alignment, word: int, colour: str | None) -> tuple[float, float, float]:
    """Return the colour of a word's chip: that of its region, paler for a smaller weight; without a region, gray."""
    if colour is None:
        return tint(PAPER, 1.0)
    strength = alignment.weights[:, word].max().clip(0) / alignment.weights.max(initial=1e-9)
    return tint(colour, 0.25 + 0.75 * float(strength))


def draw_word(axes: Axes, left: float, middle: float, word: str, colour: tuple[float, float, float]) -> None:
    """Draw a word on a chip of this colour."""
    width = text_size(word, WORD_FONT)[0]
    chip = FancyBboxPatch((left - 0.02, middle - 0.12), width + 0.04, 0.24, "round,pad=0.06", fc=colour, lw=0)
    axes.add_patch(chip)
    is_dark = np.dot(to_rgb(colour), (0.3, 0.59, 0.11)) < 0.6
    draw_text(axes, left, middle, word, WORD_FONT, "white" if is_dark else INK)
