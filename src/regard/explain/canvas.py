"""What all pictures share: a canvas measured in inches, text, and photographs with boxes and tags."""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from PIL import Image

from regard.explain.palette import PAPER, MarkedRegion
from regard.explain.tag_placement import Rect, place_tag
from regard.files import InputError, replacing

DPI = 120
PANEL, MARGIN, GAP = 6.0, 0.3, 0.3  # inches, as every length and position
MAX_PIXELS = 2**16 - 1  # the widest and the highest picture that matplotlib draws

BOXES = "□?"  # the first that the font has stands for a character that it lacks


def make_canvas(width: float, height: float) -> Axes:
    """Return white axes of that size, with the origin at the top left. Raises InputError if they would be too large."""
    if max(width, height) * DPI > MAX_PIXELS:
        raise InputError(
            f"The picture would have {width * DPI:.0f} x {height * DPI:.0f} pixels; expected at most {MAX_PIXELS} on "
            "each side. Put less in one picture."
        )
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def save_canvas(axes: Axes, path: str | os.PathLike[str]) -> None:
    """Write the canvas as PNG. A failed call leaves no file."""
    assert isinstance(axes.figure, Figure)
    with replacing(path) as temporary:
        axes.figure.savefig(temporary, format="png")


def draw_regions(
    axes: Axes,
    boxes: Float[np.ndarray, "region 4"] | None,
    marked: Sequence[MarkedRegion],
    photograph: Image.Image | None,
    frame: Rect,
) -> None:
    """Draw a photograph, or a plain panel, with the outlines of all boxes. Marked regions have a thick one and a tag.

    `boxes` are x1 y1 x2 y2 in fractions of the image.
    """
    left, top, right, bottom = frame
    width, height = right - left, bottom - top
    if photograph is None:
        axes.add_patch(Rectangle((left, top), width, height, facecolor=PAPER, edgecolor="none"))
    else:
        small = photograph.resize((round(width * 2 * DPI), round(height * 2 * DPI)), Image.Resampling.LANCZOS)
        axes.imshow(np.asarray(small), extent=(left, right, bottom, top), aspect="auto", zorder=0)
    if boxes is None:
        return

    inset = 0.02
    corners = boxes.clip(0, 1) * [width, height, width, height] + [left, top, left, top]
    corners += [inset, inset, -inset, -inset]
    outline = "#ffffff" if photograph is not None else "#c9c5bb"
    for box in corners:
        _draw_box(axes, box, outline, 0.7, alpha=0.55)
    for each in reversed(marked):  # the first is drawn last, on top
        _draw_box(axes, corners[each.region], "white", 4.2, alpha=0.8)
        _draw_box(axes, corners[each.region], each.colour, 2.4)

    taken: list[Rect] = []
    for each in marked:
        tag_width, tag_height = text_size(each.tag, 9.0, "bold")[0] + 0.14, 0.2
        x, y = place_tag(corners[each.region], (tag_width, tag_height), frame, taken)
        taken.append((x, y, x + tag_width, y + tag_height))
        ground = Rectangle((x, y), tag_width, tag_height, facecolor=each.colour, edgecolor="white", lw=0.6, zorder=4)
        axes.add_patch(ground)
        draw_text(axes, x + 0.07, y + tag_height / 2, each.tag, 9.0, "white", weight="bold", zorder=5)


def break_lines(widths: Sequence[float], width: float) -> list[list[tuple[int, float]]]:
    """Break a sequence of items with these widths into lines no wider than `width`.

    Return, for each line, the items' numbers and the position at which each begins.
    """
    lines: list[list[tuple[int, float]]] = [[]]
    x = 0.0
    for number, item_width in enumerate(widths):
        if x + item_width > width and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append((number, x))
        x += item_width
    return lines


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Return a colour mixed with white, as if it were drawn on white with that opacity."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return red, green, blue


@lru_cache(4096)
def text_size(text: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Return the width and height of a text in inches. `size` is in points."""
    font = FontProperties(size=size, weight=weight)
    width, height, _ = _renderer().get_text_width_height_descent(_drawable(text, weight), font, ismath=False)
    return width / DPI, height / DPI


def draw_text(axes: Axes, x: float, y: float, text: str, size: float, colour: str, **options: Any) -> None:
    """Draw a text literally: $ starts no formula. `size` is in points; `options` are those of matplotlib's `text`."""
    options = {"va": "center_baseline", "zorder": 3, **options}
    text = _drawable(text, options.get("weight") or "normal")
    axes.text(x, y, text, fontsize=size, color=colour, parse_math=False, **options)


@cache
def _renderer() -> RendererAgg:
    return FigureCanvasAgg(Figure(dpi=DPI)).get_renderer()


def _drawable(text: str, weight: str) -> str:
    """Replace characters that the fonts lack, such as emoji and some scripts, by an empty box.

    matplotlib would draw a box too, but with a warning, and warnings can be silenced for the whole process only.
    """
    fonts = [get_font(path) for path in _font_paths(weight)]

    def is_known(character: str) -> bool:
        return any(font.get_char_index(ord(character)) for font in fonts)

    box = next(filter(is_known, BOXES), "")
    return "".join(character if is_known(character) else box for character in text)


def _font_paths(weight: str) -> list[Any]:
    """The fonts that matplotlib tries for each character, in its order: one per family that is installed."""
    wanted, paths = FontProperties(weight=weight), []
    for family in wanted.get_family():
        with suppress(ValueError):  # not installed
            paths.append(findfont(FontProperties(family=family, weight=weight), fallback_to_default=False))
    return paths or [findfont(wanted)]


def _draw_box(axes: Axes, box: Float[np.ndarray, "4"], colour: str, line: float, alpha: float = 1.0) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, lw=line, alpha=alpha, zorder=3))
