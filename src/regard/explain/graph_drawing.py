"""Graphs on a page: named nodes with chips, named arrows; two ways to place the nodes, one way to draw it all.

Both ways are deterministic, and no node of theirs lies over another. Arrows are routed last: each takes the bend, and
its name the spot, that runs into least of what is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from regard.explain.canvas import INK, break_lines, draw_text, text_size, tint

SIZE, SMALL = 10.0, 8.5  # points: of nodes, of chips and the names of arrows
PILL, CHIP = 0.28, 0.21  # heights
PAD, CHIP_PAD = 0.11, 0.06  # inches left and right of a text
CHIPS_IN_LINE = 3
STEP = 0.1  # inches between the places that a node tries
EDGE = 0.12  # inches between a node and the frame of its graph
LONGEST = 26  # characters of a name
SLATE = "#44546a"
BENDS = tuple(sign * bend for bend in (0.0, 0.16, 0.3, 0.45, 0.6, 0.8, 1.1) for sign in (1, -1))
SPOTS = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.2, 0.8)


@dataclass(frozen=True)
class Node:
    """A thing: its name in a pill of its colour, what it is like on chips below."""

    name: str
    chips: tuple[str, ...] = ()
    colour: str = SLATE

    @property
    def lines(self) -> list[tuple[str, ...]]:
        return [self.chips[at : at + CHIPS_IN_LINE] for at in range(0, len(self.chips), CHIPS_IN_LINE)]

    @property
    def size(self) -> tuple[float, float]:
        widths = [text_size(self.name, SIZE, "bold")[0] + 2 * PAD]
        widths += [sum(chip_width(chip) for chip in line) for line in self.lines]
        return max(widths), PILL + CHIP * len(self.lines)


@dataclass(frozen=True)
class Arrow:
    """What one node is or does to another, both by number."""

    source: int
    target: int
    name: str

    @property
    def width(self) -> float:
        return text_size(self.name, SMALL)[0] + 0.1


@dataclass(frozen=True)
class Route:
    """An arrow's way, and where its name stands."""

    points: Float[np.ndarray, "point 2"]
    label: Float[np.ndarray, "4"]

    def moved(self, by: Float[np.ndarray, "2"]) -> "Route":
        return Route(self.points + by, self.label + np.tile(by, 2))


@dataclass(frozen=True)
class GraphDrawing:
    """Nodes and arrows at their places in a frame of `size`: inches from its left top."""

    nodes: Sequence[Node]
    arrows: Sequence[Arrow]
    rects: Float[np.ndarray, "node 4"]  # left, top, right, bottom, chips included
    routes: Sequence[Route]
    size: tuple[float, float]

    @classmethod
    def of(
        cls,
        nodes: Sequence[Node],
        arrows: Sequence[Arrow],
        corners: Float[np.ndarray, "node 2"],
        size: tuple[float, float],
    ) -> "GraphDrawing":
        """With nodes at those left tops; the frame grows where an arrow has its way, or its name, outside."""
        rects = np.concatenate([corners, corners + node_sizes(nodes)], 1)
        routes = route_arrows(arrows, rects, size)
        drawn = [part for route in routes for part in (route.points, route.label.reshape(2, 2))]
        reached = np.concatenate([np.array([[0.0, 0.0], size]), *drawn])
        low, high = reached.min(0), reached.max(0)
        width, height = (high - low).tolist()
        return cls(nodes, arrows, rects - np.tile(low, 2), [route.moved(-low) for route in routes], (width, height))


def node_sizes(nodes: Sequence[Node]) -> Float[np.ndarray, "node 2"]:
    return np.array([node.size for node in nodes], np.float64).reshape(-1, 2)


def merge_arrows(arrows: Sequence[Arrow]) -> list[Arrow]:
    """One arrow a pair, which says all that its arrows say; none from a node to itself."""
    names: dict[tuple[int, int], dict[str, None]] = {}
    for arrow in arrows:
        if arrow.source != arrow.target:
            names.setdefault((arrow.source, arrow.target), {})[arrow.name] = None
    return [Arrow(source, target, shorten(", ".join(said))) for (source, target), said in names.items()]


class DisjointSets:
    """Which nodes hang together."""

    def __init__(self, count: int) -> None:
        self.above = list(range(count))

    def of(self, node: int) -> int:
        """The first node of its group."""
        while self.above[node] != node:
            node = self.above[node]
        return node

    def join(self, one: int, other: int) -> bool:
        """Whether they were apart."""
        first, second = sorted((self.of(one), self.of(other)))
        self.above[second] = first
        return first != second


# Places ---------------------------------------------------------------------------------------------------------------


def lay_out_columns(nodes: Sequence[Node], arrows: Sequence[Arrow], width: float) -> GraphDrawing:
    """Subjects left, their objects one column further right; groups beside each other as far as `width` allows.

    A group alone may be wider.
    """
    arrows, groups = merge_arrows(arrows), DisjointSets(len(nodes))
    for arrow in arrows:
        groups.join(arrow.source, arrow.target)
    of_group: dict[int, list[int]] = {}
    for node in range(len(nodes)):
        of_group.setdefault(groups.of(node), []).append(node)

    members, sizes, corners, extents = list(of_group.values()), node_sizes(nodes), np.zeros((len(nodes), 2)), []
    gap, air, top, right = 0.3, 0.18, 0.0, 0.0
    for group in members:
        corners[group], extent = _place_group(group, arrows, sizes)
        extents.append(extent)
    for line in filter(None, break_lines([across + gap for across, _ in extents], width + gap)):
        for number, x in line:
            corners[members[number]] += [x, top]
            right = max(right, x + extents[number][0])
        top += max(extents[number][1] for number, _ in line) + air
    return GraphDrawing.of(nodes, arrows, corners, (right, max(top - air, 0.0)))


def _place_group(
    group: list[int], arrows: Sequence[Arrow], sizes: Float[np.ndarray, "node 2"]
) -> tuple[Float[np.ndarray, "member 2"], tuple[float, float]]:
    """Left tops of a group's nodes, and how much room they take: depth first, a first object in its subject's row."""
    targets: dict[int, list[int]] = {node: [] for node in group}
    for arrow in arrows:
        if arrow.source in targets:
            targets[arrow.source].append(arrow.target)
    told = {target for own in targets.values() for target in own}
    column: dict[int, int] = {}
    row: dict[int, int] = {}
    rows = 0
    for root in sorted(group, key=lambda node: node in told):
        waiting = [(root, 0, True)]
        while waiting:
            node, depth, new_row = waiting.pop()
            if node in column:
                continue
            rows += new_row
            column[node], row[node] = depth, rows - 1
            fresh = [target for target in targets[node] if target not in column]
            waiting += [(target, depth + 1, place > 0) for place, target in enumerate(fresh)][::-1]

    columns = max(column.values()) + 1
    widths, between, heights = [0.0] * columns, [0.0] * columns, [0.0] * rows
    for node in group:
        widths[column[node]] = max(widths[column[node]], sizes[node, 0])
        heights[row[node]] = max(heights[row[node]], sizes[node, 1] + 0.2)
    for arrow in arrows:
        if arrow.source in column and abs(column[arrow.target] - column[arrow.source]) == 1:
            first = min(column[arrow.source], column[arrow.target])
            between[first] = max(between[first], arrow.width + 0.5)
    lefts = np.cumsum([0.0, *(wide + gap for wide, gap in zip(widths, between, strict=True))])
    tops = np.cumsum([0.0, *heights])
    corners = np.array([[lefts[column[node]], tops[row[node]]] for node in group])
    return corners, (float(lefts[columns - 1] + widths[-1]), float(tops[-1] - 0.2))


def lay_out_near(
    nodes: Sequence[Node], arrows: Sequence[Arrow], centres: Float[np.ndarray, "node 2"], size: tuple[float, float]
) -> GraphDrawing:
    """Nodes near their `centres` (fractions of the frame), apart from each other; related ones with room for a name.

    The frame becomes higher where they have no room.
    """
    arrows = merge_arrows(arrows)
    sizes, air = node_sizes(nodes), np.tile(np.array([0.25, 0.25]), (len(nodes), len(nodes), 1))
    for arrow in arrows:
        air[[arrow.source, arrow.target], [arrow.target, arrow.source]] = arrow.width + 0.3, 0.45
    width, height = max(size[0], float(sizes[:, 0].max(initial=0)) + 2 * EDGE), size[1]
    while (found := _place_nodes(centres * [width, height], sizes, air, (width, height))) is None:
        height *= 1.15
    return GraphDrawing.of(nodes, arrows, found - sizes / 2, (width, height))


def _place_nodes(
    wanted: Float[np.ndarray, "node 2"],
    sizes: Float[np.ndarray, "node 2"],
    air: Float[np.ndarray, "node node 2"],
    frame: tuple[float, float],
) -> Float[np.ndarray, "node 2"] | None:
    """Each node as near as can be to where it is wanted, with its air to all before it; None where there is no room."""
    centres = np.zeros_like(wanted)
    for node, size in enumerate(sizes):
        low, high = size / 2 + EDGE, frame - size / 2 - EDGE
        own = wanted[node].clip(low, high)
        across, down = (np.arange(first, last, STEP) for first, last in zip(low, high, strict=True))
        places = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
        places = np.concatenate([own[None], places[np.linalg.norm(places - own, axis=1).argsort(kind="stable")]])
        need = (size + sizes[:node]) / 2 + air[node, :node]
        free = (np.abs(places[:, None] - centres[None, :node]) > need - 1e-9).any(-1).all(-1)
        if not free.any():
            return None
        centres[node] = places[free.argmax()]
    return centres


# Arrows ---------------------------------------------------------------------------------------------------------------


def route_arrows(arrows: Sequence[Arrow], rects: Float[np.ndarray, "node 4"], size: tuple[float, float]) -> list[Route]:
    """A way for each arrow, the shortest first: in the frame, round other nodes, its name over nothing, if it can."""
    frame = np.array([[0.0, 0.0, *size]])
    middles = np.stack([(rects[:, 0] + rects[:, 2]) / 2, rects[:, 1] + PILL / 2], 1)
    pairs = {(arrow.source, arrow.target) for arrow in arrows}
    length = [np.linalg.norm(middles[arrow.source] - middles[arrow.target]) for arrow in arrows]
    routes: dict[int, Route] = {}
    for number in np.argsort(length, kind="stable").tolist():
        arrow = arrows[number]
        others = np.delete(rects, [arrow.source, arrow.target], 0)
        labels = np.array([route.label for route in routes.values()]).reshape(-1, 4)
        ways = np.array([point for route in routes.values() for point in route.points]).reshape(-1, 2)
        best, least = None, np.inf
        # Arrows there and back bend to different sides.
        for bend in [bend for bend in BENDS if bend > 0] if (arrow.target, arrow.source) in pairs else BENDS:
            points = _curve(
                middles[arrow.source], middles[arrow.target], bend, rects[arrow.source], rects[arrow.target]
            )
            crossed = 4 * _count_hit(points, _expand(others, 0.04)) + 3 * _count_hit(points, labels)
            crossed += 2 * int(not _points_inside(points, frame).all())
            spots = _label_rects(points[np.rint(np.array(SPOTS) * (len(points) - 1)).astype(int)], arrow.width)
            cost = crossed + abs(bend) + np.abs(np.array(SPOTS) - 0.5) + 0.1 * _points_inside(ways, spots).any(1)
            cost += 6 * _overlaps(spots, np.concatenate([rects, labels]))
            if cost.min() < least:
                best, least = Route(points, spots[cost.argmin()]), cost.min()
        assert best is not None
        routes[number] = best
    return [routes[number] for number in range(len(arrows))]


def _curve(
    start: Float[np.ndarray, "2"],
    end: Float[np.ndarray, "2"],
    bend: float,
    source: Float[np.ndarray, "4"],
    target: Float[np.ndarray, "4"],
) -> Float[np.ndarray, "point 2"]:
    """A curve from node to node, without what lies in either."""
    along = np.linspace(0, 1, 81)[:, None]
    control = (start + end) / 2 + bend * np.array([start[1] - end[1], end[0] - start[0]])
    points = (1 - along) ** 2 * start + 2 * along * (1 - along) * control + along**2 * end
    outside = ~_points_inside(points, _expand(np.stack([source, target]), 0.04)).any(0)
    return points[outside] if outside.sum() > 1 else points[[39, 41]]


def _label_rects(points: Float[np.ndarray, "rect 2"], width: float) -> Float[np.ndarray, "rect 4"]:
    half = np.array([width / 2, 0.09])
    return np.concatenate([points - half, points + half], 1)


def _expand(rects: Float[np.ndarray, "rect 4"], by: float) -> Float[np.ndarray, "rect 4"]:
    return rects + np.array([-by, -by, by, by])


def _points_inside(
    points: Float[np.ndarray, "point 2"], rects: Float[np.ndarray, "rect 4"]
) -> Bool[np.ndarray, "rect point"]:
    return np.all((points > rects[:, None, :2]) & (points < rects[:, None, 2:]), axis=2)


def _count_hit(points: Float[np.ndarray, "point 2"], rects: Float[np.ndarray, "rect 4"]) -> int:
    """How many rectangles some of the points lie in."""
    return int(_points_inside(points, rects).any(1).sum())


def _overlaps(rects: Float[np.ndarray, "rect 4"], others: Float[np.ndarray, "other 4"]) -> Int[np.ndarray, " rect"]:
    """How many of the others each lies over."""
    low, high = np.maximum(rects[:, None, :2], others[:, :2]), np.minimum(rects[:, None, 2:], others[:, 2:])
    return (low < high).all(2).sum(1)


# Drawing --------------------------------------------------------------------------------------------------------------


def draw_graph(axes: Axes, graph: GraphDrawing, left: float, top: float) -> None:
    """The graph with its left top there."""
    at = np.array([left, top])
    for arrow, route in zip(graph.arrows, graph.routes, strict=True):
        colour = graph.nodes[arrow.source].colour
        way = Path(route.points + at)
        axes.add_patch(FancyArrowPatch(path=way, arrowstyle="-|>", mutation_scale=9, lw=1.3, color=colour, zorder=3))
        x1, y1, x2, y2 = (route.label + np.tile(at, 2)).tolist()
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fc="white", lw=0, zorder=4))
        draw_text(axes, (x1 + x2) / 2, (y1 + y2) / 2, arrow.name, SMALL, INK, ha="center", zorder=5)
    for node, corner in zip(graph.nodes, graph.rects[:, :2] + at, strict=True):
        _draw_node(axes, node, *corner.tolist())


def _draw_node(axes: Axes, node: Node, left: float, top: float) -> None:
    middle = left + node.size[0] / 2
    width = text_size(node.name, SIZE, "bold")[0] + 2 * PAD
    style = f"round,pad=0,rounding_size={PILL / 2}"
    axes.add_patch(FancyBboxPatch((middle - width / 2, top), width, PILL, style, fc=node.colour, lw=0, zorder=6))
    draw_text(axes, middle, top + PILL / 2, node.name, SIZE, "white", weight="bold", ha="center", zorder=7)
    style = "round,pad=0,rounding_size=0.07"
    for number, line in enumerate(node.lines):
        x, y = middle - sum(map(chip_width, line)) / 2, top + PILL + number * CHIP + 0.025
        for chip in line:
            width = chip_width(chip)
            pale, size = tint(node.colour, 0.2), (width - 0.04, CHIP - 0.03)
            axes.add_patch(FancyBboxPatch((x + 0.02, y), *size, style, fc=pale, lw=0, zorder=6))
            draw_text(axes, x + width / 2, y + (CHIP - 0.03) / 2, chip, SMALL, INK, ha="center", zorder=7)
            x += width


def chip_width(chip: str) -> float:
    return text_size(chip, SMALL)[0] + 2 * CHIP_PAD + 0.04


def shorten(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 2] + " …"
