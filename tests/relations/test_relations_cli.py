"""`regard relations` end to end on a small made world, and one line and exit code 2 for what it cannot use."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from commands import refused, regard
from regard.data import Split, check
from regard.relations.predictor import Predictor

NUMBERS = r"(?: +\d+\.\d){3}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Scenes, and a predictor of their relations."""
    folder = tmp_path_factory.mktemp("relations")
    arguments = ("--train", 250, "--dev", 8, "--test", 30, "--pictures", 0)
    assert regard("data", "scenes", "--out", folder / "data", *arguments).code == 0
    told = regard("relations", "fit", folder / "data", "--out", folder / "new" / "file", "--json", folder / "fit.json")
    assert (told.code, told.err) == (0, "")
    (folder / "said").write_text(told.out)
    return folder


@pytest.fixture
def predictor(world):
    return world / "new" / "file"


@pytest.fixture
def data(world, tmp_path):
    """A copy of the data without relations in dev and test."""
    folder = Path(shutil.copytree(world / "data", tmp_path / "data"))
    for split in ("dev", "test"):
        (folder / f"{split}_relations.npz").unlink()
    return folder


def test_fit_tells_of_each_rung_on_images_held_out(world, predictor):
    said = (world / "said").read_text()
    assert re.match(
        r"250 images, \d+ relations of 1\d predicates between \d\d classes\nPredCls recall in percent on", said
    )
    for rung in ("predicates alone", "pairs of classes", "with the boxes"):
        assert re.search(rf"^{rung}{NUMBERS} {NUMBERS}$\n^  all together{NUMBERS} {NUMBERS}$", said, re.M)
    assert re.search(
        r"Expected calibration error in percent: \d+\.\d for whether a pair is related, \d+\.\d for its predicate", said
    )
    assert said.endswith(f"Wrote {predictor}. Next: regard relations predict {predictor} DATA\n")
    rows = json.loads((world / "fit.json").read_text())
    frequency, pairs, boxes = (row["free"]["mean"]["20"] for row in rows.values())
    assert frequency < pairs < boxes
    assert 15 <= rows["with the boxes"]["images"] <= 40


def test_measure_tells_the_same_on_another_split(world, predictor, tmp_path):
    told = regard("relations", "measure", predictor, world / "data", "--json", tmp_path / "test.json")
    assert (told.code, told.err) == (0, "")
    assert re.match(
        r"30 images, \d+ relations of 1\d predicates between \d+ classes; skipped \d+ relations with other names\n",
        told.out,
    )
    row = json.loads((tmp_path / "test.json").read_text())["with the boxes"]
    found = re.search(rf"^with the boxes({NUMBERS}) ({NUMBERS})$", told.out, re.M)
    for way, printed in zip(("constrained", "free"), found.groups(), strict=True):
        assert [float(each) for each in printed.split()] == [round(each, 1) for each in row[way]["mean"].values()]
    assert row["constrained"]["mean"]["20"] > 60


def test_predict_writes_what_splits_lack(world, predictor, data):
    kept = (data / "train_relations.npz").read_bytes()
    told = regard("relations", "predict", predictor, data)
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(
        rf"train: keeps {data}/train_relations\.npz\n"
        r"dev: \d\.\d\d relations per image, predicted from labels and boxes; "
        r"\d+% have a confidence of at least 0\.5, and only those are read\n"
        r"test: [12]\.\d\d relations per image, .*\n",
        told.out,
    )
    assert (data / "train_relations.npz").read_bytes() == kept
    assert not check(data).errors  # splits share their predicates
    true, found = (Split.open(folder, "test").images(range(30)).relations for folder in (world / "data", data))
    right = (true == found) & (true > 0)
    assert right.sum() / (found > 0).sum() > 0.5
    assert right.sum() / (true > 0).sum() > 0.4


def test_keep_is_how_many_pairs_of_each_image(predictor, data):
    told = regard("relations", "predict", predictor, data, "--keep", 3)
    assert told.code == 0, told.err
    split = Split.open(data, "test")
    pairs = split.region_counts * (split.region_counts - 1)
    assert np.diff(split.relations.bounds).tolist() == np.minimum(pairs, 3).tolist()
    confidence = split.relations.confidence
    assert ((confidence > 0) & (confidence <= 1)).all()
    assert (split.relations.source != split.relations.target).all()
    first = split.relations.bounds[:-1]
    surest = list(zip(split.relations.source[first], split.relations.target[first], strict=True))
    for name in ("dev", "test"):
        (data / f"{name}_relations.npz").unlink()
    assert regard("relations", "predict", predictor, data, "--keep", 1).code == 0
    again = Split.open(data, "test").relations
    assert list(zip(again.source, again.target, strict=True)) == surest


def test_splits_without_any_have_the_predictors_names(predictor, data):
    (data / "train_relations.npz").unlink()
    labels = (data / "labels.txt").read_text().upper()
    (data / "labels.txt").write_text(labels.replace("HORSE", "unheard of"))
    assert regard("relations", "predict", predictor, data).code == 0
    names = {Split.open(data, split).predicates for split in ("train", "dev", "test")}
    assert len(names) == 1
    assert names.pop()[0] == "none"


def test_certainty_that_nothing_is_related_gives_no_nan(predictor, data):
    sure = Predictor.load(predictor)
    sure.weights[:, 0] += 1000
    sure.save(data / "sure")
    assert regard("relations", "predict", data / "sure", data, "--keep", 2).code == 0
    assert np.isfinite(Split.open(data, "test").relations.confidence).all()
    told = regard("relations", "measure", data / "sure", data, "--split", "train", "--json", data / "sure.json")
    assert told.code == 0, told.err
    assert np.isfinite(json.loads((data / "sure.json").read_text())["with the boxes"]["predicate_error"])


def test_a_split_without_boxes_is_passed_over(predictor, data):
    (data / "dev_boxes.npy").unlink()
    (data / "dev_labels.npy").unlink()
    told = regard("relations", "predict", predictor, data)
    assert told.code == 0, told.err
    assert "dev: has no boxes and no labels, so no relations are predicted\n" in told.out
    assert (data / "test_relations.npz").exists()
    assert not (data / "dev_relations.npz").exists()


def test_a_folder_that_it_cannot_use_is_refused(predictor, data, tmp_path):
    assert "contains no *_ims.npy: expected a data folder" in refused("relations", "predict", predictor, tmp_path)
    with np.load(data / "train_relations.npz") as file:
        arrays = dict(file)
    names = arrays["predicates"].copy()
    names[names == "riding"] = "on top of"
    np.savez(data / "train_relations.npz", **arrays | {"predicates": names})
    said = refused("relations", "predict", predictor, data)
    assert said == (
        f"{data}/train_relations.npz has no predicate 'riding', and splits share their predicates: remove it to "
        f"predict the relations of all splits."
    )
    (data / "train_relations.npz").unlink()
    (data / "labels.txt").write_text("".join(f"thing {row}\n" for row in range(40)))
    assert f"{data} train has no class that the predictor knows: expected names such as " in refused(
        "relations", "predict", predictor, data
    )
    for path in data.glob("*_labels.npy"):
        path.unlink()
    told = regard("relations", "predict", predictor, data)
    assert told.code == 2
    assert told.err.endswith("data has no split with boxes and labels to predict relations from: see docs/data.md.\n")
    assert not (data / "test_relations.npz").exists()


def test_a_file_that_is_no_predictor_is_refused(world, data, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(1)}, other)
    for path in (other, data / "labels.txt"):
        for verb in (("predict", path, data), ("measure", path, data)):
            assert f"{path} is not a predictor of relations (" in refused("relations", *verb)
    assert "absent is not there. `regard relations fit` writes one." in refused("relations", "measure", "absent", data)


def test_sources_without_relations_are_refused(predictor, data, tmp_path):
    out = ("--out", tmp_path / "file")
    assert "Expected at least one source of annotated relations" in refused("relations", "fit", *out)
    assert f"{data} test has no relations: expected regions with all three." in refused(
        "relations", "fit", data, "--split", "test", *out
    )
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    assert "empty.json: no image has annotated relations." in refused("relations", "fit", empty, *out)
    assert "empty.json: no image has annotated relations." in refused("relations", "measure", predictor, empty)
    few = tmp_path / "few.json"
    few.write_text(
        '[{"id": "a", "labels": ["x", "y"], "boxes": [[0, 0, 1, 1], [0, 0, 1, 1]], "relations": [[0, "by", 1]]}]'
    )
    assert "1 images, 0 relations of 0 predicates between 0 classes: too few to hold out one" in refused(
        "relations", "fit", few, *out
    )
    assert "1 images, 1 relations of 1 predicates between 2 classes: too few" in refused(
        "relations", "fit", few, "--classes", 5, "--predicates", 5, *out
    )
    assert "expected relations whose names the predictor has." in refused("relations", "measure", predictor, few)
    assert "--keep" in refused("relations", "predict", predictor, data, "--keep", 0)
    assert "is a folder: expected the name of a file" in refused("relations", "fit", data, "--out", tmp_path)
    assert not (tmp_path / "file").exists()


def test_frequent_names_alone_are_kept_where_asked(world, tmp_path):
    told = regard(*("relations", "fit", world / "data", "--out", tmp_path / "file"), "--classes", 12, "--predicates", 3)
    assert told.code == 0, told.err
    assert re.match(r"250 images, \d+ relations of 3 predicates between 12 classes\n", told.out)
