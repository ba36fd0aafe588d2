"""`regard look`, and graphs that it shares with `regard words parse`: what is chosen, where it lies, what is drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import contents, refused, regard
from regard.batch import Images
from regard.data import Split
from regard.explain import draw_look, draw_sentences, look
from regard.explain.graph_drawing import Arrow, Graph, Groups, Node, in_columns, in_place, merged
from regard.explain.image import find, largest, legend, nearest_pairs, photograph_of, region_graph, surest
from regard.explain.page import COLOURS
from regard.explain.sentences import graph_of
from regard.files import InputError
from regard.relations.from_boxes import relate
from regard.scenes import make_scenes
from regard.words.parser import ATTRIBUTE, MODIFIER, OBJECT, SUBJECT, Parse, own_parser

ODD = ["", "?!", "snow", "犬 🐶 नमस्ते", "x" * 300, "a " * 200, "a dog in a house by a lake with a man in a red hat " * 3]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look") / "data"
    make_scenes(folder, train=3, dev=3, test=6, pictures=5)
    return folder


@pytest.fixture
def data(scenes, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(scenes, tmp_path / "data"))


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


# Which relations and regions ------------------------------------------------------------------------------------------

APART = np.eye(9, dtype=np.float32)  # no box lies over another


def test_all_relations_are_shown_where_they_fit():
    told = [(0, "on", 1), (1, "under", 0), (0, "near", 2), (0, "near", 3)]
    assert surest(told, ["", "", "", ""], APART, 4, 4) == told


def test_of_more_relations_the_surest_are_shown_two_a_region():
    told = [(0, "on", 1), (0, "near", 2), (0, "near", 3), (3, "has", 4)]
    assert surest(told, [""] * 5, APART, 9, 3) == [told[0], told[1], told[3]]
    assert surest(told, [""] * 5, APART, 9, 1) == told[:1]
    assert surest(told, [""] * 5, APART, 2, 9) == told[:1]
    assert surest(told, [""] * 5, APART, 0, 0) == []


def test_of_more_relations_a_pair_a_name_and_a_thing_are_shown_once():
    labels = ["man", "hat", "man", "hat", "person", "dog"]
    told = [(0, "wearing", 1), (1, "on", 0), (2, "wearing", 3), (4, "with", 5), (2, "has", 5)]
    assert surest(told, labels, APART, 9, 4) == [told[0], told[3], told[4]]
    twice = APART.copy()
    twice[0, 4] = twice[4, 0] = 0.9  # the person is the man
    assert surest(told, labels, twice, 9, 4) == [told[0], told[4]]


def boxed(*boxes, labels=None):
    count = len(boxes)
    return Images(
        features=torch.zeros(1, count, 2),
        mask=torch.ones(1, count, dtype=torch.bool),
        boxes=torch.tensor([boxes], dtype=torch.float32),
        labels=None if labels is None else torch.tensor([labels]),
    )


def test_places_are_those_of_the_nearest_pairs_seen_from_larger_regions():
    images = boxed((0.0, 0.4, 0.1, 0.5), (0.2, 0.4, 0.4, 0.6), (0.6, 0.4, 0.7, 0.5), (0.25, 0.45, 0.3, 0.5))
    assert nearest_pairs(images, [0, 1, 2]) == [(0, "left of", 1), (2, "right of", 1)]  # 0 and 2 would close a ring
    assert nearest_pairs(images, [0, 1, 2, 3]) == [(3, "inside", 1), (3, "right of", 0), (2, "right of", 1)]
    star = boxed(
        *((x - 0.03, y - 0.03, x + 0.03, y + 0.03) for x, y in ((0.5, 0.5), (0.4, 0.5), (0.6, 0.5), (0.5, 0.75)))
    )
    assert {frozenset((one, other)) for one, _, other in nearest_pairs(star, range(4))} == {
        frozenset(pair)
        for pair in ((0, 1), (0, 2), (1, 3))  # 0 has two
    }
    above = boxed((0.0, 0.0, 0.1, 0.1), (0.0, 0.3, 0.2, 0.5))
    assert nearest_pairs(above, [0, 1]) == [(0, "above", 1)]


def test_regions_are_the_largest_with_a_label_and_no_box_twice():
    images = boxed((0, 0, 1, 1), (0, 0, 0.5, 0.5), (0, 0, 0.5, 0.49), (0, 0, 0.2, 0.2), labels=[0, 1, 2, 3])
    assert largest(images, ["", "a", "b", "c"], 9) == [1, 3]
    assert largest(images, [""] * 4, 9) == [0, 1, 3]
    assert largest(images, ["", "a", "b", "c"], 2, [3]) == [3, 1]
    assert largest(images, ["", "a", "b", "c"], 1, [2, 3]) == [2, 3]  # what is related is always there


def test_the_look_of_a_scene_is_what_the_data_say(scenes):
    split = Split.open(scenes, "test")
    found = look(split, 4)
    own = slice(*split.relations.bounds[4:6])
    told = zip(split.relations.source[own], split.relations.label[own], split.relations.target[own], strict=True)
    assert set(found.relations) == {(int(one), split.predicates[said], int(other)) for one, said, other in told}
    assert sorted(found.regions) == list(range(split.region_counts[4]))
    labels = split.images([4]).labels[0].tolist()
    assert found.labels == tuple(split.classes[labels[region]] for region in found.regions)
    assert np.array_equal(found.boxes, split.images([4]).boxes[0, list(found.regions)].numpy())
    assert found.sentences == tuple(split.captions[20:25])
    assert (found.places, found.roles, found.id, found.split) == (False, True, "test-0000004", "test")
    assert len(look(split, 4, sentences=2).sentences) == 2
    assert look(split, 4, regions=0, relations=0).regions == ()


def test_less_sure_relations_are_left_out_and_the_surest_come_first(data):
    path = data / "test_relations.npz"
    columns = dict(np.load(path))
    columns |= {"image": [0, 0, 0, 0], "subject": [0, 1, 0, 0], "object": [1, 0, 1, 0], "predicate": [1, 2, 3, 1]}
    np.savez(path, **(columns | {"confidence": [0.6, 0.9, 0.7, 1.0]}))
    split = Split.open(data, "test")
    names = split.predicates
    assert look(split, 0).relations == ((1, names[2], 0), (0, names[3], 1))
    assert look(Split.open(data, "test", relation_threshold=0.8), 0).relations == ((1, names[2], 0),)


def test_without_relations_they_are_places_from_the_boxes(data):
    kept = look(Split.open(data, "test"), 0)
    (data / "test_relations.npz").unlink()
    found = look(Split.open(data, "test"), 0)
    assert found.places
    assert not kept.places
    assert len(found.relations) == len(found.regions) - 1
    assert "places, from the boxes" in legend(found)
    relate(data, "test")  # what `regard data relations` writes tells no more than places either
    assert look(Split.open(data, "test"), 0).relations == found.relations
    assert look(Split.open(data, "test"), 0).places


def test_roles_in_the_data_are_the_sentences_relations(data):
    columns = dict(np.load(data / "test_text_relations.npz"))
    edges = {"text": [0, 0, 0, 1], "head": [1, 1, 0, 2], "dependent": [0, 2, 99, 1], "label": [1, 2, 1, 3]}
    np.savez(data / "test_text_relations.npz", **(columns | edges))
    found = look(Split.open(data, "test"), 0)
    assert found.roles
    assert [parse.edges for parse in found.parses[:3]] == [((1, 0, SUBJECT), (1, 2, OBJECT)), ((2, 1, ATTRIBUTE),), ()]
    assert found.parses[0].words == own_parser()(found.sentences)[0].words


def test_without_roles_in_the_data_sentences_are_parsed(data):
    (data / "test_text_relations.npz").unlink()
    found = look(Split.open(data, "test"), 0)
    assert not found.roles
    assert list(found.parses) == own_parser()(found.sentences)


# Which image and which photograph -------------------------------------------------------------------------------------


def test_an_image_is_found_in_any_split(scenes):
    split, row = find(scenes, "dev-0000002")
    assert (split.name, row) == ("dev", 2)
    assert find(scenes, "test-0000001", "test")[1] == 1


def test_an_image_that_is_not_there_or_twice(data):
    with pytest.raises(InputError, match=r"data has no image 'test-0000009'\. Did you mean 'test-000000\d'\?"):
        find(data, "test-0000009")
    with pytest.raises(InputError, match=r"data dev has no image 'test-0000001'\. Did you mean 'dev-0000001'\?"):
        find(data, "test-0000001", "dev")
    (data / "dev_ids.txt").write_text("test-0000001\nb\nc\n")
    with pytest.raises(InputError, match=r"test-0000001 is in dev and test of .*: choose one by --split"):
        find(data, "test-0000001")
    assert find(data, "test-0000001", "dev")[1] == 0
    with pytest.raises(InputError, match=r"holds no \*_ims.npy: give a data folder"):
        find(data.parent, "a")


def test_a_photograph_lies_where_the_data_folder_says(data, tmp_path):
    split = Split.open(data, "test")
    drawn = data / "test_pictures" / "test-0000000.png"
    assert photograph_of(split, 0) == drawn
    assert photograph_of(split, 5) is None  # five were kept
    (tmp_path / "mine").mkdir()
    (data / "photographs").mkdir()
    (data / "photographs" / "settings.json").write_text(json.dumps({"photographs": str(tmp_path / "mine")}))
    assert photograph_of(split, 0) == drawn
    (tmp_path / "mine" / "test-0000000.JPG").touch()
    assert photograph_of(split, 0) == photograph_of(split, 0, tmp_path / "mine") == tmp_path / "mine/test-0000000.JPG"
    with pytest.raises(InputError, match=r"mine holds no photograph of test-0000001: want test-0000001, or"):
        photograph_of(split, 1, tmp_path / "mine")
    (data / "photographs" / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings.json is no JSON"):
        photograph_of(split, 0)


# Places of nodes and arrows -------------------------------------------------------------------------------------------


def overlaps(graph: Graph) -> int:
    """How many pairs of nodes lie over each other, and how many nodes lie outside the frame."""
    low, high = graph.rects[:, :2], graph.rects[:, 2:]
    both = ((low[:, None] < high[None] - 1e-6) & (low[None] < high[:, None] - 1e-6)).all(-1)
    outside = (low < -1e-6).any(1) | (high > np.array(graph.size) + 1e-6).any(1)
    return int(np.triu(both, 1).sum() + outside.sum())


@pytest.mark.parametrize("count", [0, 1, 2, 12, 36])
def test_nodes_at_one_place_are_set_apart(count):
    nodes = [Node(f"{number}  rather long name"[: 5 + number]) for number in range(count)]
    arrows = [Arrow(number, (number * 7 + 1) % count, "next to") for number in range(count)]
    for centres in (np.full((count, 2), 0.5), np.zeros((count, 2)), np.random.default_rng(0).random((count, 2))):
        graph = in_place(nodes, arrows, centres, (6.0, 4.0))
        assert overlaps(graph) == 0
        assert graph.size >= (6.0, 4.0)


def test_nodes_stay_as_they_lie_to_each_other():
    centres = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])
    graph = in_place([Node("a"), Node("b"), Node("c")], [Arrow(0, 1, "left of")], centres, (6.0, 4.0))
    middles = (graph.rects[:, :2] + graph.rects[:, 2:]) / 2
    assert np.allclose(middles, centres * [6.0, 4.0])


def test_an_arrow_goes_round_a_node_and_its_name_over_none():
    centres = np.array([[0.1, 0.5], [0.9, 0.5], [0.5, 0.5]])
    graph = in_place([Node("a"), Node("b"), Node("between")], [Arrow(0, 1, "beyond")], centres, (6.0, 3.0))
    (route,) = graph.routes
    x1, y1, x2, y2 = graph.rects[2]
    inside = (route.points > [x1, y1]) & (route.points < [x2, y2])
    assert not inside.all(1).any()
    assert all((graph.rects[:, 2:] <= route.label[:2]).any(1) | (route.label[2:] <= graph.rects[:, :2]).any(1))


def test_arrows_there_and_back_do_not_lie_over_each_other():
    arrows = [Arrow(0, 1, "chases"), Arrow(1, 0, "flees from")]
    graph = in_place([Node("a"), Node("b")], arrows, np.array([[0.1, 0.5], [0.9, 0.5]]), (6.0, 3.0))
    there, back = (route.points[len(route.points) // 2, 1] for route in graph.routes)
    assert abs(there - back) > 0.3


def test_arrows_of_a_pair_are_one_arrow():
    arrows = [Arrow(0, 1, "on"), Arrow(1, 0, "has"), Arrow(0, 1, "riding"), Arrow(0, 1, "on"), Arrow(1, 1, "is")]
    assert merged(arrows) == [Arrow(0, 1, "on, riding"), Arrow(1, 0, "has")]


def test_objects_lie_right_of_their_subjects():
    nodes = [Node("man", ("tall",)), Node("hat"), Node("horse"), Node("snow")]
    graph = in_columns(nodes, [Arrow(0, 1, "in"), Arrow(0, 2, "rides")], 9.0)
    man, hat, horse, snow = graph.rects
    assert hat[0] == horse[0] > man[2] + 0.4  # with room for the arrow's name
    assert hat[1] == man[1]
    assert horse[1] > hat[3]
    assert snow[0] > horse[2]  # unrelated: beside
    below = in_columns(nodes, [Arrow(0, 1, "in"), Arrow(0, 2, "rides")], 2.0).rects
    assert below[3, 1] > below[:3, 3].max()


def test_groups_are_what_hangs_together():
    groups = Groups(4)
    assert [groups.join(2, 3), groups.join(0, 3), groups.join(0, 2)] == [True, True, False]
    assert [groups.of(node) for node in range(4)] == [0, 1, 0, 0]


@pytest.mark.parametrize("sentence", ODD)
def test_no_node_of_a_sentence_lies_over_another(sentence):
    (parse,) = own_parser()([sentence])
    assert overlaps(in_columns(*graph_of(parse, {}), 9.0)) == 0


def test_rings_and_shared_objects_are_laid_out():
    ring = [Arrow(0, 1, "on"), Arrow(1, 2, "on"), Arrow(2, 0, "on"), Arrow(3, 1, "on"), Arrow(3, 4, "on")]
    assert overlaps(in_columns([Node(name) for name in "abcde"], ring, 9.0)) == 0


# Sentences ------------------------------------------------------------------------------------------------------------


def test_the_graph_of_a_sentence():
    words = ("the", "man's", "fire", "dog", "runs", "and", "is", "red", "on", "snow")
    edges = ((3, 1, ATTRIBUTE), (3, 2, MODIFIER), (3, 7, ATTRIBUTE), (4, 3, SUBJECT), (8, 3, SUBJECT), (8, 9, OBJECT))
    parse = Parse(words, (0, 0, 0, 1, 2, 0, 0, 0, 2, 1), edges)
    nodes, arrows = graph_of(parse, {"snow": "#123456"})
    assert nodes == [Node("man"), Node("fire dog", ("red", "runs")), Node("snow", (), "#123456")]
    assert arrows == [Arrow(1, 2, "on"), Arrow(0, 1, "have")]
    assert parse.noun_phrases == ["man's fire dog", "snow"]


def test_a_noun_phrase_is_a_stretch_of_the_sentence():
    words = ("black", "and", "white", "dog", "near", "an", "old", "red", "barn")
    edges = ((3, 0, ATTRIBUTE), (3, 2, ATTRIBUTE), (8, 6, ATTRIBUTE), (8, 7, ATTRIBUTE), (8, 0, ATTRIBUTE))
    parse = Parse(words, (0, 0, 0, 1, 2, 0, 0, 0, 1), edges)
    assert parse.noun_phrases == ["black and white dog", "old red barn"]


def test_sentences_of_any_kind_are_drawn(tmp_path):
    for number in range(len(ODD)):
        draw_sentences(ODD[: number + 1], own_parser()(ODD[: number + 1]), tmp_path / f"{number}.png")
    heights = [size_of(tmp_path / f"{number}.png")[1] for number in range(len(ODD))]
    assert heights == sorted(set(heights))
    assert len(list(tmp_path.iterdir())) == len(ODD)


# The page -------------------------------------------------------------------------------------------------------------


def test_a_region_has_one_colour_in_the_photograph_the_graph_and_the_sentence(data, tmp_path):
    """One region of the class "man" on black: red in all three parts of the page."""
    (data / "test_caps.txt").write_text("a man\n" * 30)
    (data / "test_text_relations.npz").unlink()
    labels, boxes = np.load(data / "test_labels.npy"), np.load(data / "test_boxes.npy")
    counts = np.load(data / "test_num_regions.npy")
    labels[0, 0], boxes[0, 0], counts[0] = 1, [0.25, 0.25, 0.75, 0.75], 1
    for name, array in (("labels", labels), ("boxes", boxes), ("num_regions", counts)):
        np.save(data / f"test_{name}.npy", array)
    (data / "test_relations.npz").unlink()
    found = look(Split.open(data, "test"), 0, Image.new("RGB", (300, 200), "#101010"), sentences=1)
    assert (found.labels, found.relations, found.aspect) == (("man",), (), 1.5)
    draw_look(found, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    red = np.abs(drawn - [int(COLOURS[0][at : at + 2], 16) for at in (1, 3, 5)]).sum(2) < 12
    # The photograph is 6 by 4 inches of 120 dots, 0.3 from the left and 0.9 from the top.
    photograph, graph, below = red[108:588, 36:756], red[108:588, 780:], red[594:]
    rows, columns = np.flatnonzero(photograph.any(1)), np.flatnonzero(photograph.any(0))
    assert abs(columns.min() - 180) < 6
    assert abs(columns.max() - 540) < 6
    assert abs(rows.max() - 360) < 6
    assert graph.sum() > 800
    assert below.sum() > 800


@pytest.mark.parametrize("aspect", [0.2, 1.0, 6.0])
def test_crowded_images_are_drawn_and_no_node_lies_over_another(data, tmp_path, aspect):
    rng = np.random.default_rng(2)
    count = 36
    boxes = np.sort(rng.uniform(0.4, 0.6, size=(6, count, 2, 2)), axis=2).reshape(6, count, 4).astype(np.float32)
    np.save(data / "test_ims.npy", np.zeros((6, count, 4), np.float16))
    np.save(data / "test_boxes.npy", boxes)
    np.save(data / "test_labels.npy", rng.integers(1, 30, (6, count)).astype(np.int16))
    np.save(data / "test_sizes.npy", np.tile(np.array([round(600 * aspect), 600], np.int32), (6, 1)))
    pairs = {"subject": np.arange(25), "object": np.arange(1, 26), "predicate": np.ones(25, int)}
    columns = {**np.load(data / "test_relations.npz"), "image": np.zeros(25, int), **pairs, "confidence": np.ones(25)}
    np.savez(data / "test_relations.npz", **columns)
    (data / "test_num_regions.npy").unlink()
    split = Split.open(data, "test")
    assert len(look(split, 0).relations) <= 12
    found = look(split, 0, regions=36, relations=25)
    assert len(found.relations) == 25
    assert overlaps(region_graph(found, dict.fromkeys(found.regions, COLOURS[0]), (6.5, 4.0))) == 0
    draw_look(found, tmp_path / "page.png")
    assert size_of(tmp_path / "page.png")[0] > 1400


def test_an_image_without_boxes_labels_relations_and_sentences(tmp_path):
    np.save(tmp_path / "dev_ims.npy", np.ones((1, 3, 4), np.float16))
    (tmp_path / "dev_ids.txt").write_text("one\n")
    (tmp_path / "dev_caps.txt").write_text("")
    np.save(tmp_path / "dev_image_of_text.npy", np.zeros(0, np.int32))
    found = look(Split.open(tmp_path, "dev"), 0)
    assert (found.regions, found.labels, found.boxes, found.relations) == ((0, 1, 2), ("", "", ""), None, ())
    draw_look(found, tmp_path / "page.png")
    assert size_of(tmp_path / "page.png")[0] > 1400


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_says_and_writes(scenes, tmp_path):
    told = regard("look", scenes, "test-0000000", "-o", tmp_path / "page.png")
    assert (told.code, told.err) == (0, "")
    first, second = told.out.splitlines()
    assert first.startswith("test-0000000   test   ·   ")
    assert second == f"Wrote {tmp_path}/page.png, with {scenes}/test_pictures/test-0000000.png"
    told = regard("look", scenes, "test-0000005", "--out", tmp_path / "bare.png", "--split", "test", "--regions", 1)
    assert told.out.endswith(f"Wrote {tmp_path}/bare.png, without the photograph (--photographs names its folder)\n")
    assert sorted(contents(tmp_path)) == ["bare.png", "page.png"]


def test_bad_input_is_one_line_and_writes_nothing(data, tmp_path):
    out, ask = tmp_path / "page.png", ("look", data, "test-0000000", "-o", tmp_path / "page.png")
    assert "Did you mean 'test-000000" in refused("look", data, "test-0000009", "-o", out)
    assert refused(*ask, "--regions", -1) == "regions is -1: want 0 or more."
    assert "is no folder. Give the one that holds" in refused("look", tmp_path / "no", "a", "-o", out)
    assert "Did you mean 'test'?" in refused(*ask, "--split", "tset")
    assert "holds no photograph of test-0000000" in refused(*ask, "--photographs", tmp_path)
    (data / "test_pictures" / "test-0000000.png").write_text("no picture")
    assert "test-0000000.png cannot be read" in refused(*ask)
    assert "is a folder: expected the name of a file" in refused("look", data, "test-0000001", "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
