"""Where nodes, arrows and names are placed."""

import numpy as np
import pytest

from regard.explain.disjoint_sets import DisjointSets
from regard.explain.graph_drawing import Arrow, GraphDrawing, Node
from regard.explain.graph_layout import lay_out_columns, lay_out_near, merge_arrows


def overlaps(graph: GraphDrawing) -> int:
    """Return the number of pairs of nodes that overlap, plus the number of nodes outside the frame."""
    low, high = graph.rects[:, :2], graph.rects[:, 2:]
    both = ((low[:, None] < high[None] - 1e-6) & (low[None] < high[:, None] - 1e-6)).all(-1)
    outside = (low < -1e-6).any(1) | (high > np.array(graph.size) + 1e-6).any(1)
    return int(np.triu(both, 1).sum() + outside.sum())


@pytest.mark.parametrize("count", [0, 1, 2, 12, 36])
def test_nodes_at_one_position_do_not_overlap(count):
    nodes = [Node(f"{number}  rather long name"[: 5 + number]) for number in range(count)]
    arrows = [Arrow(number, (number * 7 + 1) % count, "next to") for number in range(count)]
    for centres in (np.full((count, 2), 0.5), np.zeros((count, 2)), np.random.default_rng(0).random((count, 2))):
        graph = lay_out_near(nodes, arrows, centres, (6.0, 4.0))
        assert overlaps(graph) == 0
        assert graph.size >= (6.0, 4.0)


def test_nodes_that_fit_stay_at_their_centres():
    centres = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])
    graph = lay_out_near([Node("a"), Node("b"), Node("c")], [Arrow(0, 1, "left of")], centres, (6.0, 4.0))
    middles = (graph.rects[:, :2] + graph.rects[:, 2:]) / 2
    assert np.allclose(middles, centres * [6.0, 4.0])


def test_an_arrow_and_its_name_avoid_other_nodes():
    centres = np.array([[0.1, 0.5], [0.9, 0.5], [0.5, 0.5]])
    graph = lay_out_near([Node("a"), Node("b"), Node("between")], [Arrow(0, 1, "beyond")], centres, (6.0, 3.0))
    (route,) = graph.routes
    x1, y1, x2, y2 = graph.rects[2]
    inside = (route.points > [x1, y1]) & (route.points < [x2, y2])
    assert not inside.all(1).any()
    assert all((graph.rects[:, 2:] <= route.label[:2]).any(1) | (route.label[2:] <= graph.rects[:, :2]).any(1))


def test_arrows_there_and_back_bend_apart():
    arrows = [Arrow(0, 1, "chases"), Arrow(1, 0, "flees from")]
    graph = lay_out_near([Node("a"), Node("b")], arrows, np.array([[0.1, 0.5], [0.9, 0.5]]), (6.0, 3.0))
    there, back = (route.points[len(route.points) // 2, 1] for route in graph.routes)
    assert abs(there - back) > 0.3


def test_arrows_of_one_pair_are_merged():
    arrows = [Arrow(0, 1, "on"), Arrow(1, 0, "has"), Arrow(0, 1, "riding"), Arrow(0, 1, "on"), Arrow(1, 1, "is")]
    assert merge_arrows(arrows) == [Arrow(0, 1, "on, riding"), Arrow(1, 0, "has")]


def test_objects_are_right_of_their_subjects():
    nodes = [Node("man", ("tall",)), Node("hat"), Node("horse"), Node("snow")]
    graph = lay_out_columns(nodes, [Arrow(0, 1, "in"), Arrow(0, 2, "rides")], 9.0)
    man, hat, horse, snow = graph.rects
    assert hat[0] == horse[0] > man[2] + 0.4  # with room for the arrow's name
    assert hat[1] == man[1]
    assert horse[1] > hat[3]
    assert snow[0] > horse[2]  # unrelated: beside
    below = lay_out_columns(nodes, [Arrow(0, 1, "in"), Arrow(0, 2, "rides")], 2.0).rects
    assert below[3, 1] > below[:3, 3].max()


def test_disjoint_sets_are_the_connected_nodes():
    sets = DisjointSets(4)
    assert [sets.join(2, 3), sets.join(0, 3), sets.join(0, 2)] == [True, True, False]
    assert [sets.find(node) for node in range(4)] == [0, 1, 0, 0]


def test_cycles_and_shared_objects_do_not_overlap():
    cycle = [Arrow(0, 1, "on"), Arrow(1, 2, "on"), Arrow(2, 0, "on"), Arrow(3, 1, "on"), Arrow(3, 4, "on")]
    assert overlaps(lay_out_columns([Node(name) for name in "abcde"], cycle, 9.0)) == 0
