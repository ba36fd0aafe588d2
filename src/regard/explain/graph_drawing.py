"""Draw a graph: nodes as pills with chips below them, arrows with names. `graph_layout` computes the positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from regard.explain.canvas import draw_text, text_size, tint
from regard.explain.palette import INK

NODE_FONT, SMALL_FONT = 10.0, 8.5  # points; the small font is for chips and the names of arrows
# Inches, as every length here.
PILL_HEIGHT, CHIP_HEIGHT = 0.28, 0.21
PILL_PADDING, CHIP_PADDING = 0.11, 0.06  # left and right of the text
CHIPS_PER_LINE = 3
MAX_NAME = 26  # characters
SLATE = "#44546a"  # the colour of a node that shows no region


@dataclass(frozen=True)
class Node:
    """A thing: its name in a coloured pill, its attributes on chips below."""

    name: str
    chips: tuple[str, ...] = ()
    colour: str = SLATE

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The chips of each line."""
        return [self.chips[at : at + CHIPS_PER_LINE] for at in range(0, len(self.chips), CHIPS_PER_LINE)]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, chips included."""
        widths = [text_size(self.name, NODE_FONT, "bold")[0] + 2 * PILL_PADDING]
        widths += [sum(chip_width(chip) for chip in line) for line in self.lines]
        return max(widths), PILL_HEIGHT + CHIP_HEIGHT * len(self.lines)


@dataclass(frozen=True)
class Arrow:
    """A named relation from one node to another. Nodes are given by their position in the list of nodes."""

    source: int
    target: int
    name: str

    @property
    def width(self) -> float:
        """The width of the name, with padding."""
        return text_size(self.name, SMALL_FONT)[0] + 0.1


@dataclass(frozen=True)
class Route:
    """The curve of an arrow, and the rectangle of its name: left, top, right, bottom."""

    points: Float[np.ndarray, "point 2"]
    label: Float[np.ndarray, "4"]

    def shifted(self, by: Float[np.ndarray, "2"]) -> "Route":
        return Route(self.points + by, self.label + np.tile(by, 2))


@dataclass(frozen=True)
class GraphDrawing:
    """Nodes and arrows with their positions, in inches from the top left of a frame of `size`."""

    nodes: Sequence[Node]
    arrows: Sequence[Arrow]
    rects: Float[np.ndarray, "node 4"]  # left, top, right, bottom, chips included
    routes: Sequence[Route]  # of each arrow
    size: tuple[float, float]


def draw_graph(axes: Axes, graph: GraphDrawing, left: float, top: float) -> None:
    """Draw a graph. (left, top) is the top left of its frame, which is not drawn."""
    at = np.array([left, top])
    for arrow, route in zip(graph.arrows, graph.routes, strict=True):
        colour = graph.nodes[arrow.source].colour
        curve = Path(route.points + at)
        axes.add_patch(FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=9, lw=1.3, color=colour, zorder=3))
        x1, y1, x2, y2 = (route.label + np.tile(at, 2)).tolist()
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fc="white", lw=0, zorder=4))
        draw_text(axes, (x1 + x2) / 2, (y1 + y2) / 2, arrow.name, SMALL_FONT, INK, ha="center", zorder=5)
    for node, corner in zip(graph.nodes, graph.rects[:, :2] + at, strict=True):
        _draw_node(axes, node, *corner.tolist())


def _draw_node(axes: Axes, node: Node, left: float, top: float) -> None:
    middle = left + node.size[0] / 2
    width = text_size(node.name, NODE_FONT, "bold")[0] + 2 * PILL_PADDING
    style = f"round,pad=0,rounding_size={PILL_HEIGHT / 2}"
    axes.add_patch(FancyBboxPatch((middle - width / 2, top), width, PILL_HEIGHT, style, fc=node.colour, lw=0, zorder=6))
    draw_text(axes, middle, top + PILL_HEIGHT / 2, node.name, NODE_FONT, "white", weight="bold", ha="center", zorder=7)
    style = "round,pad=0,rounding_size=0.07"
    for number, line in enumerate(node.lines):
        x, y = middle - sum(map(chip_width, line)) / 2, top + PILL_HEIGHT + number * CHIP_HEIGHT + 0.025
        for chip in line:
            width = chip_width(chip)
            pale, size = tint(node.colour, 0.2), (width - 0.04, CHIP_HEIGHT - 0.03)
            axes.add_patch(FancyBboxPatch((x + 0.02, y), *size, style, fc=pale, lw=0, zorder=6))
            draw_text(axes, x + width / 2, y + (CHIP_HEIGHT - 0.03) / 2, chip, SMALL_FONT, INK, ha="center", zorder=7)
            x += width


def chip_width(chip: str) -> float:
    """Return the width of a chip, with padding and the space around it."""
    return text_size(chip, SMALL_FONT)[0] + 2 * CHIP_PADDING + 0.04


def shorten(name: str) -> str:
    """Cut a name to MAX_NAME characters, with an ellipsis at its end if it was longer."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 2] + " …"
