import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from regard.data import Split, convert
from regard.data.scene_graphs import SceneGraphs
from regard.data.twins import Twins
from regard.files import InputError

REAL = Path(__file__).parents[2].parent / "shared" / "real"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_scans_layout_becomes_compact(scan, tmp_path):
    told = []
    convert(scan, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (4, 4)
    names = [
        f"{split}_{name}"
        for split in ("dev", "train")
        for name in ("caps.txt", "ids.txt", "image_of_text.npy", "ims.npy")
    ]
    assert left(tmp_path / "out") == names
    for name in ("train", "dev"):
        old, new = Split.open(scan, name), Split.open(tmp_path / "out", name)
        assert np.load(tmp_path / "out" / f"{name}_ims.npy").dtype == np.float16
        assert torch.equal(new.images([0, 1]).features.float(), old.images([0, 1]).features)
        assert list(new.captions) == list(old.captions)
        assert list(new.ids) == list(old.ids)
        assert new.image_of_text.tolist() == old.image_of_text.tolist()


def test_everything_beside_the_features_is_kept(scan, make, tmp_path):
    dev = make("dev")
    dev.array("ims_bbx.npy", np.full((10, 3, 4), [0, 10, 20, 50]), np.float32)
    dev.array("ims_size.npy", [{"image_w": 40, "image_h": 100}] * 10, object)
    np.savez(dev.path("twins.npz"), first=[0], second=[1], kind=["relation"])
    dev.path("labels.json").write_text(json.dumps([[[0, "dog", 0.9], [2, "cat", 0.4]], []]))
    dev.path("caps.txt").write_text("A man's T-shirt isn't red.\n" + "a dog\n" * 9)
    parse = [[0, 4], [4, 1], [1, 2], [4, 3], [4, 5], [4, 6], [4, 7], [4, 8]]
    dev.path("caps.json").write_text(json.dumps([parse, [[0, 2], [2, 1]], *[[[0, 3], [3, 1], [3, 2]]] * 8]))
    convert(scan, tmp_path / "out")
    split = Split.open(tmp_path / "out", "dev")
    assert split.fields == {"boxes", "labels", "text_relations"}
    images = split.images([1, 0])
    assert images.boxes[0, 2].tolist() == pytest.approx([0, 0.1, 0.5, 0.5])
    assert [split.classes[label] for label in images.labels[1]] == ["dog", "none", "cat"]
    assert split.sizes.tolist() == [[40, 100]] * 2
    assert Twins.of(split).second.tolist() == [1]
    links = split.text_relations.dense(np.arange(3), 5).tolist()
    # A(1) man(2)'s(3) T-shirt(4) is(5)n't(6) red(7).(8) -> a(0) man's(1) t-shirt(2) isn't(3) red(4)
    assert links[0] == [[0, 1, 0, 0, 0], [0] * 5, [1, 1, 0, 1, 1], [0] * 5, [0] * 5]
    assert links[1][1][0] == 1
    assert not np.any(links[2]), "pairs of another number of tokens are not believed"


def test_dependencies_of_a_text_of_two_sentences_are_renumbered(scan, make, tmp_path):
    make("dev").path("caps.txt").write_text("Dogs run. Cats sit.\n" * 10)
    make("dev").path("caps.json").write_text(json.dumps([[[0, 2], [2, 1], [2, 3], [0, 2], [2, 1], [2, 3]]] * 10))
    convert(scan, tmp_path / "out")
    relations = Split.open(tmp_path / "out", "dev").text_relations
    assert np.argwhere(relations.dense(np.arange(1), 4)[0]).tolist() == [[1, 0], [3, 2]]


GRAPHS = [
    {
        "id": "dev0",
        "labels": ["man", "horse", "hat"],
        "relations": [[0, "riding", 1, 0.9], [0, "wearing", 2]],
        "captions": [{"text": "a man rides two horses", "triples": [["man", "ride", "horse"], ["man", "has", "tail"]]}],
    },
    {"id": "dev1", "labels": ["man"], "relations": []},
]


def test_scene_graphs_give_relations_and_labels(scan, make, tmp_path):
    make("dev").lines("caps.txt", ["A man rides two horses", *"bcdefghij"])
    make("train").path("ims.npy").unlink()
    (tmp_path / "graphs.json").write_text(json.dumps(GRAPHS))
    convert(scan, tmp_path / "out", scene_graphs=[tmp_path / "graphs.json"])
    split = Split.open(tmp_path / "out", "dev")
    assert split.predicates == ("none", "riding", "wearing")
    images = split.images([0, 1])
    assert images.relations[0].tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert not images.relations[1].any()
    assert [split.classes[label] for label in images.labels.flatten()] == ["man", "horse", "hat", "man", "none", "none"]
    assert split.text_labels == ("none", "has", "ride")
    assert np.argwhere(split.text_relations.dense(np.arange(10), 5)).tolist() == [[0, 1, 4]]


def test_the_keys_of_lgsgms_files(tmp_path):
    graphs = {"a.jpg": {"rels": [["man:0", "on", "horse:1"]], "bbox": {"labels": ["man", "horse"]}}}
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    assert SceneGraphs.load([tmp_path / "graphs.json"]).predicates == ("none", "on")


def test_scene_graphs_that_do_not_fit_are_refused(scan, make, tmp_path):
    path = tmp_path / "graphs.json"
    make("train").path("ims.npy").unlink()

    def refused(graphs, match):
        path.write_text(json.dumps(graphs))
        with pytest.raises(InputError, match=match):
            convert(scan, tmp_path / "out", scene_graphs=[path])

    refused(
        [{**GRAPHS[0], "labels": ["man"] * 4}],
        "The scene graph of dev0 has 4 regions, .*dev 3: expected graphs made from",
    )
    refused(
        [{**GRAPHS[0], "id": "x"}],
        "No image of .*dev has a scene graph: its images are called 'dev0', 'dev1', those of the graphs 'x'",
    )
    refused([{**GRAPHS[0], "labels": ["man"]}], "a relation of region 1 among 1 labels")
    refused([1, 2], "graphs.json: record 0 is 1: expected a scene graph with an id")


def test_it_refuses_to_overwrite(scan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out exists and is not empty\. Give a new folder, or remove it first"):
        convert(scan, tmp_path / "out")
    assert left(tmp_path / "out") == ["mine.txt"]


def test_values_beyond_float16_are_refused_and_nothing_is_written(scan, make, tmp_path):
    features = np.ones((2, 3, 4), np.float32)
    for value, what in ((1e6, r"values up to 1e\+06, beyond float16. Scale them"), (np.nan, "NaN or infinity")):
        features[1, 2, 0] = value
        make("train").array("ims.npy", features)
        with pytest.raises(InputError, match=rf"train: features of image 1 \(train1\) contain {what}"):
            convert(scan, tmp_path / "out")
    assert left(tmp_path) == ["data"]


def test_an_interruption_leaves_nothing(scan, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(scan, tmp_path / "out", progress=interrupt)
    assert left(tmp_path) == ["data"]


FULL_DISK = """
import resource, sys
from regard.data import convert
from regard.files import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    convert(sys.argv[1], sys.argv[2])
except InputError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(scan, tmp_path):
    command = [sys.executable, "-c", FULL_DISK, scan, tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    assert run.stdout.strip() == (
        f"{tmp_path / 'out'}: File too large. Nothing was kept; free some space or choose another place."
    )
    assert left(tmp_path) == ["data"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"contains no \*_ims.npy, \*.tsv or \*.npz"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.real
@needs_real
def test_real_scene_graphs_become_a_split_with_relations(tmp_path):
    convert(REAL / "scenegraph", tmp_path / "out", scene_graphs=[REAL / "scenegraph" / "f30k_val.json"])
    split = Split.open(tmp_path / "out", "f8k_vg36")
    assert (split.num_images, split.num_texts, split.num_regions) == (210, 1050, 36)
    assert split.fields == {"boxes", "labels", "relations", "text_relations"}
    index = json.loads((REAL / "scenegraph" / "f8k_vg36_index.json").read_text())
    graphs = {graph["id"]: graph for graph in json.loads((REAL / "scenegraph" / "f30k_val.json").read_text())}
    for row in (0, 100, 209):
        graph, images = graphs[index[row]["id"]], split.images([row])
        assert [split.classes[label] for label in images.labels[0]] == graph["labels"]
        for subject, predicate, target in graph["relations"]:
            assert split.predicates[images.relations[0, subject, target]] == predicate
        assert split.captions[5 * row] == graph["captions"][0]["text"]
    relations = split.text_relations
    triples = sum(len(caption["triples"]) for entry in index for caption in graphs[entry["id"]]["captions"])
    assert len(relations.label) > 0.8 * triples


@pytest.mark.real
@needs_real
def test_real_features_convert_to_themselves(tmp_path):
    for name in ("caps.txt", "ids.txt", "ims.npy", "boxes.npy", "sizes.npy", "labels.json"):
        (tmp_path / f"test_{name}").symlink_to(REAL / "f8k" / f"test_{name}")
    convert(tmp_path, tmp_path / "out")
    old, new = Split.open(tmp_path, "test"), Split.open(tmp_path / "out", "test")
    rows = np.arange(500)
    for name, tensor in old.images(rows).tensors().items():
        assert torch.equal(tensor, new.images(rows).tensors()[name])
    assert (list(new.captions), new.classes) == (list(old.captions), old.classes)
