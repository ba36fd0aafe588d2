"""Files of scene graphs in the forms that are published: all give the same graph, or an error that is true."""

import json
import pickle

import numpy as np
import pytest

from regard.data.scene_graphs import SceneGraphs, read_scene_graphs
from regard.files import InputError

NAMES, BOXES = ["man", "horse", "hat"], [[10, 20, 40, 60], [0, 40, 80, 100], [15, 20, 30, 30]]
RELATIONS = [(0, "riding", 1), (2, "on", 0)]
OURS = {"id": "7.jpg", "labels": NAMES, "relations": [list(relation) for relation in RELATIONS], "boxes": BOXES}


def thing(place, **more):
    left, top, right, bottom = BOXES[place]
    return {"object_id": 50 + place, "x": left, "y": top, "w": right - left, "h": bottom - top, **more}


def genome(named, key="image_id", inside=True):
    ends = [named(place) if inside else None for place in range(3)]
    relations = [
        {"predicate": p, **({"subject": ends[s], "object": ends[o]} if inside else
                            {"subject_id": 50 + s, "object_id": 50 + o})}
        for s, p, o in [*RELATIONS, (0, " ", 1)]
    ]  # fmt: skip
    return [{key: 0, "relationships": []}, {key: "7.jpg", "objects": [named(place) for place in range(3)],
                                           "relationships": relations}]  # fmt: skip


GQA = {
    "7.jpg": {
        "width": 100,
        "height": 100,
        "objects": {
            f"o{place}": thing(
                place,
                name=NAMES[place],
                relations=[{"name": p, "object": f"o{o}"} for s, p, o in RELATIONS if s == place],
            )
            for place in range(3)
        },
    }
}
PREDICTIONS = {
    "0": {
        "bbox": BOXES,
        "bbox_labels": [1, 2, 3],
        "rel_pairs": [[0, 1], [2, 0]],
        "rel_labels": [2, 1],
        "rel_scores": [0.9, 0.8],
    }
}
INFO = {"idx_to_files": ["/x/7.jpg"], "ind_to_classes": ["_", *NAMES], "ind_to_predicates": ["_", "on", "riding"]}
VRD = {
    "7.jpg": [
        {
            "predicate": ["riding", "on"].index(p),
            "subject": {"category": s, "bbox": [BOXES[s][1], BOXES[s][3], BOXES[s][0], BOXES[s][2]]},
            "object": {"category": o, "bbox": [BOXES[o][1], BOXES[o][3], BOXES[o][0], BOXES[o][2]]},
        }
        for s, p, o in RELATIONS
    ]
}
LGSGM = {
    "bbox": {"labels": NAMES, "bboxes": BOXES},
    "rels": [[f"{NAMES[s]}:{s}", p, f"{NAMES[o]}:{o}"] for s, p, o in RELATIONS],
}
FORMS = {
    "ours.json": [OURS],
    "dictionary.json": {"7.jpg": OURS},
    "wrapped.json": {"images": [OURS]},
    "named.json": [OURS | {"relations": [{"subject": s, "predicate": p, "object": o} for s, p, o in RELATIONS]}],
    "fractional.json": [OURS | {"relations": [[0.0, "riding", 1.0], [2, "on", 0], [1, "beside", 1]]}],
    "lgsgm.json": {"7.jpg": LGSGM},
    "relationships.json": genome(lambda place: thing(place, name=NAMES[place])),
    "relationships1.0.json": genome(lambda place: thing(place, names=[NAMES[place]]), "id"),
    "scene_graphs.json": genome(lambda place: thing(place, names=[NAMES[place]]), inside=False),
    "synsets.json": genome(lambda place: thing(place, names=[], synsets=[f"{NAMES[place]}.n.01"])),
    "gqa.json": GQA,
    "custom_prediction.json": PREDICTIONS,
    "vrd.json": VRD,
}  # fmt: skip


def check_graph(path):
    graph = read_scene_graphs(path)["7.jpg"]
    assert list(graph.labels) == NAMES
    assert [relation[:3] for relation in graph.relations] == RELATIONS
    assert graph.boxes.tolist() == BOXES
    return graph


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_graph(tmp_path, name):
    for other, content in {name: FORMS[name], "custom_data_info.json": INFO, "objects.json": NAMES,
                           "predicates.json": ["riding", "on"]}.items():  # fmt: skip
        (tmp_path / other).write_text(json.dumps(content))
    check_graph(tmp_path / name)


def test_confidences_and_sizes_are_read(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(PREDICTIONS))
    (tmp_path / "custom_data_info.json").write_text(json.dumps(INFO))
    assert [relation[3] for relation in check_graph(tmp_path / "p.json").relations] == [0.9, 0.8]
    (tmp_path / "r.json").write_text(json.dumps(FORMS["relationships1.0.json"]))
    (tmp_path / "image_data.json").write_text(json.dumps([{"id": "7.jpg", "width": 640, "height": 480}]))
    assert check_graph(tmp_path / "r.json").size == (640, 480)


def test_json_lines_and_pickles(tmp_path):
    (tmp_path / "g.jsonl").write_text(f"{json.dumps({**OURS, 'id': 3})}\n\n{json.dumps(OURS)}\n")
    assert sorted(read_scene_graphs(tmp_path / "g.jsonl")) == ["3", "7.jpg"]
    check_graph(tmp_path / "g.jsonl")
    (tmp_path / "h.jsonl").write_text(json.dumps([OURS]))  # a list in one line
    check_graph(tmp_path / "h.jsonl")
    (tmp_path / "g.bin").write_bytes(pickle.dumps({"7.jpg": OURS}))
    check_graph(tmp_path / "g.bin")


def test_graphs_are_found_by_the_form_of_their_ids(tmp_path):
    (tmp_path / "g.json").write_text(json.dumps([OURS | {"id": 391895}]))
    graphs = SceneGraphs.load([tmp_path / "g.json"]).of_images(["COCO_val2014_000000391895.jpg", "8.jpg"])
    assert [list(graph.labels) for graph in graphs] == [NAMES, []]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["man", 2, "hat"]}, "label 1 is 2: expected the name of a class"),
        (
            {"labels": [{"name": "man"}]},
            "label 0 is {'name': 'man'}: expected the name of a class, or a number of labels.txt beside",
        ),
        ({"labels": "man"}, "its labels are 'man': expected a list"),
        ({"relations": [[0, "riding", 1, 0.9, 0.8]]}, "is not subject, predicate, object and perhaps a confidence"),
        ({"relations": [[0, 1, "riding"]]}, "has the predicate 1: expected a name in the middle"),
        ({"relations": [[0, None, 1]]}, "has the predicate None"),
        ({"relations": [[0, "", 1]]}, "has the predicate ''"),
        ({"relations": [["man", "riding", "horse"]]}, "a relation of 'man': expected the number of a region"),
        ({"relations": [[0.5, "riding", 1]]}, r"a relation of 0\.5: expected the number of a region"),
        ({"relations": [[-1, "riding", 1]]}, "a relation of region -1 among 3 labels"),
        ({"relations": [[0, "riding", 3]]}, "a relation of region 3 among 3 labels"),
        ({"relations": [[0, "riding", 1, 90]]}, "the confidence 90: expected 0 to 1"),
        ({"relations": [[0, "riding", 1, float("nan")]]}, "the confidence nan: expected 0 to 1"),
        ({"relations": [[0, "riding", 1, None]]}, "the confidence None: expected 0 to 1"),
        ({"relations": [[0, "riding", 1, "0.9"]]}, r"the confidence '0\.9': expected 0 to 1"),
        ({"boxes": [[0, 0, 1, float("inf")]] * 3}, r"its boxes are \[3, 4\]: expected"),
        ({"size": [640, 0]}, "its size is .*: expected width and height"),
        ({"captions": [{"triples": []}]}, "has no text"),
        ({"captions": [{"text": "a", "triples": [["man", "ride"]]}]}, r"the triple \['man', 'ride'\]"),
        ({"captions": [{"text": "a", "triples": [["man", None, "horse"]]}]}, r"the triple \['man', None, 'horse'\]"),
    ],
)
def test_a_wrong_record_is_named_with_what_is_wrong(tmp_path, change, message):
    (tmp_path / "g.json").write_text(json.dumps([OURS | change]))
    with pytest.raises(InputError, match=rf"g.json, record '7.jpg': .*{message}"):
        read_scene_graphs(tmp_path / "g.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "contains no scene graphs"),
        ([None], "record 0 is None: expected a scene graph with an id"),
        ([{"labels": []}], "record 0 has the id None"),
        ("x", "contains 'x': expected scene graphs"),
        ({"7.jpg": None}, "record '7.jpg': it is None: expected a scene graph with labels"),
        (INFO, "contains the names of classes and predicates: give custom_prediction.json instead"),
        (PREDICTIONS, "those of custom_data_info.json: put that file beside it"),
        (VRD, "those of objects.json: put that file beside it"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "g.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"g.json.*{message}"):
        SceneGraphs.load([tmp_path / "g.json"])
    with pytest.raises(InputError, match="is not a file"):
        SceneGraphs.load([tmp_path])


def test_sentences_without_triples(tmp_path):
    (tmp_path / "g.json").write_text(json.dumps([OURS | {"captions": ["a man ", {"text": "b"}]}]))
    texts, image_of_text = SceneGraphs.load([tmp_path / "g.json"]).captions(["x", "7"])
    assert texts == ["a man", "b"]
    assert np.array_equal(image_of_text, [1, 1])


def test_numbers_of_our_form_are_named_by_files_beside_it(tmp_path):
    (tmp_path / "labels.txt").write_text("hat\nman\nhorse\n")
    (tmp_path / "predicates.txt").write_text("on\nriding\n")
    record = {"id": "7", "labels": [2, 3, 0, "hat"], "relations": [[0, 2, 1, 0.5], [3, "on", 0]]}
    (tmp_path / "g.json").write_text(json.dumps([record]))
    graph = read_scene_graphs(tmp_path / "g.json")["7"]
    assert graph.labels == ["man", "horse", "none", "hat"]
    assert graph.relations == [(0, "riding", 1, 0.5), (3, "on", 0, 1.0)]
    for changes, message in (
        ({"labels": [4]}, "label 0 is 4: .* labels.txt beside the file, which has 3 names"),
        ({"labels": [True]}, "label 0 is True"),
        ({"relations": [[0, 0, 1]]}, "the predicate 0: .* predicates.txt beside the file, which has 2 names"),
    ):
        (tmp_path / "g.json").write_text(json.dumps([record | changes]))
        with pytest.raises(InputError, match=message):
            read_scene_graphs(tmp_path / "g.json")
