"""Readers of annotated relations: Visual Genome, data folders and scene graphs, with one list of names."""

import json
from pathlib import Path

import numpy as np
import pytest

import made
from regard.data import Split
from regard.files import InputError
from regard.relations.annotation_readers import read_annotations, read_images
from regard.relations.recall import measure_held_out

GRAPHS = Path(__file__).parents[2].parent / "shared" / "real" / "scenegraph" / "f30k_val.json"


def thing(number, name, x, y, w, h, **more):
    return {"object_id": number, "x": x, "y": y, "w": w, "h": h, **more} | ({"name": name} if name else {})


MAN, HORSE = thing(7, "Man", 10, 20, 30, 40), thing(8, None, 0, 40, 80, 60, names=["horse", "animal"])
GENOME = [
    {
        "image_id": 3,
        "relationships": [
            {"predicate": "RIDING", "subject": MAN, "object": HORSE},
            {"predicate": "on ", "subject": MAN, "object": HORSE},
            {"predicate": "on", "subject": HORSE, "object": thing(9, "grass", 0, 80, 100, 20)},
            {"predicate": "on", "subject": MAN, "object": MAN},
        ],
    },
    {"image_id": 4, "relationships": []},
]
GRAPH = {
    "id": "a.jpg",
    "labels": ["man", "horse", "man"],
    "boxes": [[10, 20, 40, 60], [0, 40, 80, 100], [50, 0, 60, 50]],
    "relations": [[0, "riding", 1, 0.8], ["man:2", "near", "horse:1", 0.3], [2, "near", 0]],
}


def written(path, content):
    path.write_text(json.dumps(content), "utf-8")
    return path


def contents(source, split="train"):
    """Return the id, boxes, classes and relations of each image, with names."""
    images = read_images(source, split)
    return [(each.id, each.boxes.tolist(), list(each.classes), list(each.relations)) for each in images]


def test_visual_genome_is_read_with_its_image_sizes(tmp_path):
    path = written(tmp_path / "relationships.json", GENOME)
    written(tmp_path / "image_data.json", [{"image_id": 3, "width": 200, "height": 100}])
    (first,) = contents(path)  # the other has no relations
    assert first[0] == "3"
    np.testing.assert_allclose(first[1], [[0.05, 0.2, 0.2, 0.6], [0, 0.4, 0.4, 1], [0, 0.8, 0.5, 1]], rtol=1e-6)
    assert first[2] == ["Man", "horse", "grass"]
    assert first[3] == [(0, "RIDING", 1), (0, "on ", 1), (1, "on", 2)]  # and not of a thing with itself


def test_an_image_of_unknown_size_is_as_large_as_its_boxes(tmp_path):
    (first,) = contents(written(tmp_path / "relationships.json", GENOME))
    np.testing.assert_allclose(first[1], [[0.1, 0.2, 0.4, 0.6], [0, 0.4, 0.8, 1], [0, 0.8, 1, 1]], rtol=1e-6)


def test_names_are_numbered(tmp_path):
    found = read_annotations([written(tmp_path / "relationships.json", GENOME)], "train")
    assert (found.ids, found.bounds.tolist()) == (("3",), [0, 3])  # without relations, it is not annotated
    assert found.classes == ("none", "man", "horse", "grass")
    assert found.predicates == ("none", "riding", "on")
    assert found.labels.tolist() == [1, 2, 3]
    assert found.relations.tolist() == [[0, 0, 1, 1], [0, 0, 1, 2], [0, 1, 2, 2]]  # of a thing with itself: none


def test_scene_graphs_are_read_with_their_boxes(tmp_path):
    found = contents(written(tmp_path / "graphs.json", [GRAPH | {"size_estimate": [100, 200]}]))
    np.testing.assert_allclose(found[0][1], [[0.1, 0.1, 0.4, 0.3], [0, 0.2, 0.8, 0.5], [0.5, 0, 0.6, 0.25]], rtol=1e-6)
    assert found[0][2:] == (
        ["man", "horse", "man"],
        [(0, "riding", 1), (2, "near", 0)],
    )  # not the confidence 0.3
    fractions = (np.array(GRAPH["boxes"]) / 100).tolist()
    (found,) = contents(written(tmp_path / "graphs.json", [GRAPH | {"boxes": fractions}]))
    np.testing.assert_allclose(found[1], fractions, rtol=1e-6)


def test_a_data_folder_is_read(tmp_path):
    folder = made.folder(tmp_path / "data")
    split = Split.open(folder, "dev")
    batch = split.images(range(12))
    found = contents(folder, "dev")
    assert [each[0] for each in found] == list(split.ids)
    for row, (_, boxes, classes, relations) in enumerate(found):
        count = int(batch.mask[row].sum())
        np.testing.assert_array_equal(boxes, batch.boxes[row, :count])
        assert classes == [split.classes[label] for label in batch.labels[row, :count]]
        assert sorted(relations) == [
            (s, split.predicates[p], o)
            for s in range(count)
            for o in range(count)
            if (p := int(batch.relations[row, s, o]))
        ]


def test_regions_without_a_label_are_not_objects(tmp_path):
    folder = made.folder(tmp_path / "data")
    labels = np.load(folder / "dev_labels.npy")
    labels[0, 1] = 0
    np.save(folder / "dev_labels.npy", labels)
    found = read_annotations([folder], "dev")
    assert found.labels[1] == 0
    kept = found.renumbered(found.classes, found.predicates)
    gone = set(map(tuple, found.relations.tolist())) - set(map(tuple, kept.relations.tolist()))
    assert gone == {row for row in map(tuple, found.relations.tolist()) if row[0] == 0 and 1 in row[1:3]} != set()


def test_several_sources_share_their_names(tmp_path):
    graphs = written(tmp_path / "graphs.json", {"a.jpg": GRAPH})
    found = read_annotations([written(tmp_path / "relationships.json", GENOME), graphs], "train")
    assert found.ids == ("3", "a.jpg")
    assert found.classes == ("none", "man", "horse", "grass")
    assert found.predicates == ("none", "riding", "on", "near")
    assert found.labels.tolist() == [1, 2, 3, 1, 2, 1]
    assert found.relations[-2:].tolist() == [[1, 0, 1, 1], [1, 2, 0, 3]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", [], r"a\.json: no image has annotated relations\. See docs/data\.md\."),
        ("a.json", [{"image_id": 1, "relationships": []}], r"a\.json: no image has annotated relations"),
        ("a.json", [{"id": "x", "labels": ["man"]}], r"a\.json: no image has annotated relations"),
        (
            "a.json",
            [GRAPH | {"boxes": None}],
            r"a\.json, record 'a\.jpg' has no boxes\. Expected `boxes`, x1 y1 x2 y2 of",
        ),
        (
            "a.json",
            [GENOME[0], {"image_id": 1}],
            r"a\.json, after record '3': KeyError: 'relationships'",
        ),
        (
            "a.json",
            [GRAPH | {"boxes": GRAPH["boxes"][:2]}],
            r"a\.json, record 'a\.jpg': its boxes are \[2, 4\]: expected",
        ),
        (
            "a.json",
            [GRAPH | {"size": [1, 2, 3]}],
            r"record 'a\.jpg': its size is \[1\.0, .*: expected width and height",
        ),
        ("a.json", {"a": 3}, r"a\.json, record 'a': it is 3: expected a scene graph with labels"),
        ("a.json", "nothing", r"a\.json contains 'nothing': expected scene graphs"),
    ],
)
def test_malformed_sources_are_refused(name, content, message, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        read_annotations([path], "train")


def test_malformed_sizes_are_refused(tmp_path):
    path = written(tmp_path / "relationships.json", GENOME)
    written(tmp_path / "image_data.json", [{"id": 3}])
    with pytest.raises(InputError, match=r"image_data\.json is not in the form of Visual Genome \(KeyError: 'width'"):
        read_annotations([path], "train")


def test_an_incomplete_folder_is_refused(tmp_path):
    folder = made.folder(tmp_path / "data")
    with pytest.raises(
        InputError, match="absent is not there: expected a data folder, or a JSON file of annotated relations"
    ):
        read_annotations([tmp_path / "absent"], "dev")
    for name, message in (
        ("relations.npz", "dev has no relations:"),
        ("boxes.npy", "dev has no boxes and no relations"),
    ):
        (folder / f"dev_{name}").unlink()
        with pytest.raises(InputError, match=message):
            read_annotations([folder], "dev")
    folder = made.folder(tmp_path / "other")
    (folder / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(InputError, match="other dev has the label 3: expected 0 to 2, the number of class names"):
        read_annotations([folder], "dev")


@pytest.mark.real
@pytest.mark.skipif(not GRAPHS.exists(), reason="needs ../shared/real")
def test_boxes_improve_recall_on_predicted_graphs_of_flickr30k():
    found = read_annotations([GRAPHS], "train").most_frequent(None, 10)
    assert len(found) == 986
    assert found.boxes.min() >= 0
    assert found.boxes.max() < 1.1
    rows = measure_held_out(found)
    classes, boxes = (rows[name].constrained.mean[50] for name in ("pairs of classes", "with the boxes"))
    assert boxes > classes + 15 > 55
    assert found.predicates[1] == "wearing"
