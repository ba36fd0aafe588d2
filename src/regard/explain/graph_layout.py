"""Compute where the nodes, arrows and names of a graph are drawn: two ways to place the nodes, one to route the arrows.

`lay_out_columns` is for sentences: subjects left, objects right. `lay_out_near` is for regions: each node near a wanted
position. Both are deterministic, and no node overlaps another. Arrows are routed after the nodes are placed.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from regard.explain.canvas import break_lines
from regard.explain.disjoint_sets import DisjointSets
from regard.explain.graph_drawing import PILL_HEIGHT, Arrow, GraphDrawing, Node, Route, shorten

GRID_STEP = 0.1  # inches between the positions that are tried for a node
FRAME_PADDING = 0.12  # inches between a node and the frame of its graph
# Candidates for the bend of an arrow: the offset of the curve's control point, as a fraction of the nodes' distance.
BENDS = tuple(sign * bend for bend in (0.0, 0.16, 0.3, 0.45, 0.6, 0.8, 1.1) for sign in (1, -1))
# Candidates for the position of an arrow's name along the curve, as a fraction of its length.
NAME_POSITIONS = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.2, 0.8)


def merge_arrows(arrows: Sequence[Arrow]) -> list[Arrow]:
    """Return one arrow for each pair of nodes, with all names of its arrows. Drop arrows from a node to itself."""
    names: dict[tuple[int, int], dict[str, None]] = {}
    for arrow in arrows:
        if arrow.source != arrow.target:
            names.setdefault((arrow.source, arrow.target), {})[arrow.name] = None
    return [Arrow(source, target, shorten(", ".join(merged))) for (source, target), merged in names.items()]


def _node_sizes(nodes: Sequence[Node]) -> Float[np.ndarray, "node 2"]:
    return np.array([node.size for node in nodes], np.float64).reshape(-1, 2)


def _with_routes(
    nodes: Sequence[Node],
    arrows: Sequence[Arrow],
    corners: Float[np.ndarray, "node 2"],
    size: tuple[float, float],
) -> GraphDrawing:
    """Route the arrows between nodes with these top left corners. The frame grows to contain all arrows and names."""
    rects = np.concatenate([corners, corners + _node_sizes(nodes)], 1)
    routes = route_arrows(arrows, rects, size)
    drawn = [part for route in routes for part in (route.points, route.label.reshape(2, 2))]
    extremes = np.concatenate([np.array([[0.0, 0.0], size]), *drawn])
    low, high = extremes.min(0), extremes.max(0)
    width, height = (high - low).tolist()
    return GraphDrawing(
        nodes, arrows, rects - np.tile(low, 2), [route.shifted(-low) for route in routes], (width, height)
    )


# Nodes in columns -----------------------------------------------------------------------------------------------------


def lay_out_columns(nodes: Sequence[Node], arrows: Sequence[Arrow], width: float) -> GraphDrawing:
    """Place subjects left and their objects one column to the right.

    Groups of connected nodes are placed in lines of at most `width` inches. A group that is wider has its own line.
    """
    arrows, sets = merge_arrows(arrows), DisjointSets(len(nodes))
    for arrow in arrows:
        sets.join(arrow.source, arrow.target)
    members: dict[int, list[int]] = {}
    for node in range(len(nodes)):
        members.setdefault(sets.find(node), []).append(node)

    groups, sizes, corners, extents = list(members.values()), _node_sizes(nodes), np.zeros((len(nodes), 2)), []
    gap, line_gap, top, right = 0.3, 0.18, 0.0, 0.0
    for group in groups:
        corners[group], extent = _place_group(group, arrows, sizes)
        extents.append(extent)
    for line in filter(None, break_lines([group_width + gap for group_width, _ in extents], width + gap)):
        for number, x in line:
            corners[groups[number]] += [x, top]
            right = max(right, x + extents[number][0])
        top += max(extents[number][1] for number, _ in line) + line_gap
    return _with_routes(nodes, arrows, corners, (right, max(top - line_gap, 0.0)))


def _place_group(
    group: list[int], arrows: Sequence[Arrow], sizes: Float[np.ndarray, "node 2"]
) -> tuple[Float[np.ndarray, "member 2"], tuple[float, float]]:
    """Return the top left corners of a group's nodes, and the group's width and height.

    The nodes are visited depth first. The first object of a subject is in the subject's row, each other in a new row.
    """
    targets: dict[int, list[int]] = {node: [] for node in group}
    for arrow in arrows:
        if arrow.source in targets:
            targets[arrow.source].append(arrow.target)
    objects = {target for own in targets.values() for target in own}
    column: dict[int, int] = {}
    row: dict[int, int] = {}
    num_rows = 0
    for root in sorted(group, key=lambda node: node in objects):
        stack = [(root, 0, True)]
        while stack:
            node, depth, is_new_row = stack.pop()
            if node in column:
                continue
            num_rows += is_new_row
            column[node], row[node] = depth, num_rows - 1
            unplaced = [target for target in targets[node] if target not in column]
            stack += [(target, depth + 1, place > 0) for place, target in enumerate(unplaced)][::-1]

    num_columns = max(column.values()) + 1
    widths, gaps, heights = [0.0] * num_columns, [0.0] * num_columns, [0.0] * num_rows
    for node in group:
        widths[column[node]] = max(widths[column[node]], sizes[node, 0])
        heights[row[node]] = max(heights[row[node]], sizes[node, 1] + 0.2)
    for arrow in arrows:
        if arrow.source in column and abs(column[arrow.target] - column[arrow.source]) == 1:
            first = min(column[arrow.source], column[arrow.target])
            gaps[first] = max(gaps[first], arrow.width + 0.5)
    lefts = np.cumsum([0.0, *(width + gap for width, gap in zip(widths, gaps, strict=True))])
    tops = np.cumsum([0.0, *heights])
    corners = np.array([[lefts[column[node]], tops[row[node]]] for node in group])
    return corners, (float(lefts[num_columns - 1] + widths[-1]), float(tops[-1] - 0.2))


# Nodes near wanted positions ------------------------------------------------------------------------------------------


def lay_out_near(
    nodes: Sequence[Node], arrows: Sequence[Arrow], centres: Float[np.ndarray, "node 2"], size: tuple[float, float]
) -> GraphDrawing:
    """Place each node as near as possible to its centre in `centres`, given in fractions of the frame.

    Nodes that an arrow connects are far enough apart for the arrow's name. The frame, of `size` inches, becomes wider
    if a node is too wide for it, and higher until all nodes fit.
    """
    arrows = merge_arrows(arrows)
    sizes, gaps = _node_sizes(nodes), np.tile(np.array([0.25, 0.25]), (len(nodes), len(nodes), 1))
    for arrow in arrows:
        gaps[[arrow.source, arrow.target], [arrow.target, arrow.source]] = arrow.width + 0.3, 0.45
    width, height = max(size[0], float(sizes[:, 0].max(initial=0)) + 2 * FRAME_PADDING), size[1]
    while (placed := _place_nodes(centres * [width, height], sizes, gaps, (width, height))) is None:
        height *= 1.15
    return _with_routes(nodes, arrows, placed - sizes / 2, (width, height))


def _place_nodes(
    wanted: Float[np.ndarray, "node 2"],
    sizes: Float[np.ndarray, "node 2"],
    gaps: Float[np.ndarray, "node node 2"],
    frame: tuple[float, float],
) -> Float[np.ndarray, "node 2"] | None:
    """Return a centre for each node: the free grid position nearest to the wanted one. None if a node does not fit.

    Nodes are placed in order. Each keeps its gap to all nodes before it, horizontally or vertically.
    """
    centres = np.zeros_like(wanted)
    for node, size in enumerate(sizes):
        low, high = size / 2 + FRAME_PADDING, frame - size / 2 - FRAME_PADDING
        own = wanted[node].clip(low, high)
        across, down = (np.arange(first, last, GRID_STEP) for first, last in zip(low, high, strict=True))
        places = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
        places = np.concatenate([own[None], places[np.linalg.norm(places - own, axis=1).argsort(kind="stable")]])
        distance = (size + sizes[:node]) / 2 + gaps[node, :node]
        is_free = (np.abs(places[:, None] - centres[None, :node]) > distance - 1e-9).any(-1).all(-1)
        if not is_free.any():
            return None
        centres[node] = places[is_free.argmax()]
    return centres


# Arrows ---------------------------------------------------------------------------------------------------------------


def route_arrows(arrows: Sequence[Arrow], rects: Float[np.ndarray, "node 4"], size: tuple[float, float]) -> list[Route]:
    """Return a route for each arrow, with the bend and the position of its name that cost least.

    A curve costs for crossing nodes and names, for leaving the frame and for its bend. A name costs for covering nodes,
    names and arrows, and for its distance from the middle. Shorter arrows are routed first.
    """
    frame = np.array([[0.0, 0.0, *size]])
    middles = np.stack([(rects[:, 0] + rects[:, 2]) / 2, rects[:, 1] + PILL_HEIGHT / 2], 1)
    pairs = {(arrow.source, arrow.target) for arrow in arrows}
    length = [np.linalg.norm(middles[arrow.source] - middles[arrow.target]) for arrow in arrows]
    positions = np.array(NAME_POSITIONS)
    routes: dict[int, Route] = {}
    for number in np.argsort(length, kind="stable").tolist():
        arrow = arrows[number]
        others = np.delete(rects, [arrow.source, arrow.target], 0)
        labels = np.array([route.label for route in routes.values()]).reshape(-1, 4)
        curves = np.array([point for route in routes.values() for point in route.points]).reshape(-1, 2)
        best, least = None, np.inf
        # If there is an arrow back, both bend to positive values, which are different sides.
        for bend in [bend for bend in BENDS if bend > 0] if (arrow.target, arrow.source) in pairs else BENDS:
            ends = middles[arrow.source], middles[arrow.target]
            points = _curve(*ends, bend, rects[arrow.source], rects[arrow.target])
            curve_cost = 4 * _count_hit(points, _expand(others, 0.04)) + 3 * _count_hit(points, labels)
            curve_cost += 2 * int(not _contains(frame, points).all())
            spots = _label_rects(points[np.rint(positions * (len(points) - 1)).astype(int)], arrow.width)
            cost = curve_cost + abs(bend) + np.abs(positions - 0.5) + 0.1 * _contains(spots, curves).any(1)
            cost += 6 * _count_overlaps(spots, np.concatenate([rects, labels]))
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
    """Return the points of a quadratic Bezier curve from node to node that lie outside both nodes."""
    along = np.linspace(0, 1, 81)[:, None]
    control = (start + end) / 2 + bend * np.array([start[1] - end[1], end[0] - start[0]])
    points = (1 - along) ** 2 * start + 2 * along * (1 - along) * control + along**2 * end
    outside = ~_contains(_expand(np.stack([source, target]), 0.04), points).any(0)
    return points[outside] if outside.sum() > 1 else points[[39, 41]]


def _label_rects(centres: Float[np.ndarray, "rect 2"], width: float) -> Float[np.ndarray, "rect 4"]:
    half = np.array([width / 2, 0.09])
    return np.concatenate([centres - half, centres + half], 1)


def _expand(rects: Float[np.ndarray, "rect 4"], by: float) -> Float[np.ndarray, "rect 4"]:
    return rects + np.array([-by, -by, by, by])


def _contains(
    rects: Float[np.ndarray, "rect 4"], points: Float[np.ndarray, "point 2"]
) -> Bool[np.ndarray, "rect point"]:
    """Return whether each point lies in each rectangle."""
    return np.all((points > rects[:, None, :2]) & (points < rects[:, None, 2:]), axis=2)


def _count_hit(points: Float[np.ndarray, "point 2"], rects: Float[np.ndarray, "rect 4"]) -> int:
    """Return the number of rectangles that contain at least one of the points."""
    return int(_contains(rects, points).any(1).sum())


def _count_overlaps(
    rects: Float[np.ndarray, "rect 4"], others: Float[np.ndarray, "other 4"]
) -> Int[np.ndarray, " rect"]:
    """Return, for each rectangle, the number of `others` that it overlaps."""
    low, high = np.maximum(rects[:, None, :2], others[:, :2]), np.minimum(rects[:, None, 2:], others[:, 2:])
    return (low < high).all(2).sum(1)
