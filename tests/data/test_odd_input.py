"""Inputs that people have in forms that are easily read as something else, and inputs that nothing can be read from."""

import json
import pickle

import numpy as np
import pytest
import torch

import made
from regard.boxes import RELATION_CLASSES, relation_classes
from regard.data import Split
from regard.data.captions import Captions
from regard.data.convert import convert
from regard.data.lines import Lines
from regard.data.pickles import read_pickle
from regard.data.relation_files import Triples
from regard.data.rows import ArrayColumn, RenumberedColumn
from regard.data.scene_graphs import SceneGraphs, with_dependencies
from regard.files import InputError
from regard.relations.annotation_readers import read_images


def graph(name="a", *, predicate="on", text="a man", labels=("man", "dog")):
    relations = [[0, predicate, 1], [1, "near", 0]]
    return {"id": name, "labels": list(labels), "relations": relations, "captions": [{"text": text}]}


def converted(tmp_path, graphs, ids):
    """A folder of features and of ids as JSON, converted with graphs that have the sentences."""
    source = tmp_path / "source"
    source.mkdir()
    np.save(source / "dev_ims.npy", np.ones((len(ids), 3, 4), np.float32))
    (source / "dev_index.json").write_text(json.dumps(ids))
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    convert(source, tmp_path / "out", scene_graphs=[tmp_path / "graphs.json"])
    return Split.open(tmp_path / "out", "dev")


def test_a_byte_order_mark_belongs_to_no_line(tmp_path):
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfa\na\nb\n")
    lines = Lines(tmp_path / "ids.txt")
    assert list(lines) == ["a", "a", "b"]
    first, second, third = lines.keys()
    assert first == second != third


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_new_numbers_may_be_larger_than_the_stored_ones(dtype):
    column = RenumberedColumn(ArrayColumn(np.array([[1, 2]], dtype)), np.array([0, 300, 2]))
    assert column.read(np.array([0])).tolist() == [[300, 2]]


def test_a_comma_in_a_table_without_a_header_belongs_to_the_sentence(tmp_path):
    (tmp_path / "t.csv").write_text("a.jpg,0,A dog\na.jpg,1,A cat, red\n")
    assert list(Captions.read(tmp_path / "t.csv").sentences) == ["A dog", "A cat, red"]
    (tmp_path / "t.csv").write_text('file,sentence\n"a,b.jpg",A dog, running\n')
    table = Captions.read(tmp_path / "t.csv")
    assert (list(table.files), list(table.sentences)) == (["a,b.jpg"], ["A dog, running"])


def test_half_a_character_is_skipped(tmp_path):
    rows = [{"image": "a.jpg", "caption": "a dog \ud83d"}, {"image": "b.jpg", "caption": "a cat"}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    table = Captions.read(tmp_path / "t.json")
    assert list(table.sentences) == ["a cat"]
    assert len(table.skipped) == 1


def test_boxes_that_are_fractions_stay_so_beside_a_size(tmp_path):
    boxes = [[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9]]
    (tmp_path / "g.json").write_text(json.dumps([graph() | {"boxes": boxes, "size": [640, 480]}]))
    np.testing.assert_allclose(next(read_images(tmp_path / "g.json", "train")).boxes, boxes)


def test_boxes_that_are_no_numbers_are_refused(tmp_path):
    folder = made.folder(tmp_path / "data")
    boxes = np.load(folder / "train_boxes.npy")
    boxes[0, 0] = np.nan
    np.save(folder / "train_boxes.npy", boxes)
    with pytest.raises(InputError, match=r"image 0 \(train0\) has boxes with NaN"):
        list(read_images(folder, "train"))


def test_graphs_of_several_files_do_not_replace_each_other(tmp_path):
    for name, label in (("one", "man"), ("same", "man"), ("other", "woman")):
        (tmp_path / f"{name}.json").write_text(json.dumps([graph(labels=(label, "dog"))]))
    assert len(SceneGraphs.load([tmp_path / "one.json", tmp_path / "same.json"]).graphs) == 1
    with pytest.raises(InputError, match=r"other\.json has another scene graph of 'a'"):
        SceneGraphs.load([tmp_path / "one.json", tmp_path / "other.json"])


def test_a_graph_of_more_regions_than_the_image_has_is_refused(tmp_path):
    folder = made.folder(tmp_path / "data")
    split = Split.open(folder, "dev")
    row = int(split.counts.argmin())
    (tmp_path / "g.json").write_text(json.dumps([graph(f"dev{row}", labels=["man"] * (split.counts[row] + 1))]))
    with pytest.raises(InputError, match=f"regions, .* {split.counts[row]}: expected graphs made from the same"):
        SceneGraphs.load([tmp_path / "g.json"]).added_to(split)


def test_what_is_converted_can_be_opened(tmp_path):
    """With a relation called none, a number as an id, and an image without a sentence."""
    split = converted(tmp_path, [graph("1", predicate="none"), graph("2", text=" ")], [1, {"id": 2}])
    assert list(split.ids) == ["1", "2"]
    assert split.image_of_text.tolist() == [0]
    assert split.predicates == ("none", "near", "on")
    assert split.images([0]).relations.nonzero().tolist() == [[0, 1, 0]]


def test_an_index_without_ids_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"dev_index\.json has the id None: expected a list of ids"):
        converted(tmp_path, [graph()], [{"name": "a"}])


def test_dependencies_of_tokens_that_do_not_exist_are_left_out(tmp_path):
    folder = made.folder(tmp_path / "data")
    split = Split.open(folder, "dev")
    (folder / "dev_caps.json").write_text(json.dumps([[[0, 2], [5, 1]]] + [[]] * (split.num_texts - 1)))
    (folder / "dev_caps.txt").write_text("a dog\n" * split.num_texts)
    split = with_dependencies(Split.open(folder, "dev"))
    assert not len(split.text_relations.label)


def test_a_damaged_pickle_may_ask_for_any_memory(tmp_path):
    path = tmp_path / "sizes.pkl"
    for damaged in (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f", b"\x80\x04B\xff\xff\xff\x7f"):
        path.write_bytes(damaged + pickle.dumps(3))
        with pytest.raises(InputError, match="is not a complete pickle"):
            read_pickle(path)


def test_labels_in_the_padding_are_not_read(tmp_path):
    folder = made.folder(tmp_path / "data")
    labels, counts = np.load(folder / "dev_labels.npy"), np.load(folder / "dev_num_regions.npy")
    labels[np.arange(labels.shape[1]) >= counts[:, None]] = -1
    np.save(folder / "dev_labels.npy", labels)
    assert Split.open(folder, "dev").images(range(12)).labels.min() == 0


def test_a_confidence_in_percent_is_refused(tmp_path):
    columns = {"image": [0], "subject": [0], "object": [1], "predicate": [1], "confidence": [85.0]}
    np.savez(tmp_path / "relations.npz", **columns, predicates=["none", "on"])
    with pytest.raises(InputError, match=r"confidence is 85\.0; expected a number from 0 to 1"):
        Triples.load(tmp_path / "relations.npz", 1, 3)


def test_boxes_of_one_centre_have_no_direction():
    cross = torch.tensor([[[0.1, 0.45, 0.9, 0.55], [0.45, 0.1, 0.55, 0.9]]])
    assert relation_classes(cross).tolist() == [[[0, 0], [0, 0]]]
    assert RELATION_CLASSES[0] == "none"
