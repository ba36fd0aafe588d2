"""One line on standard error, exit code 2 and nothing broken for input that several verbs refuse."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import contents, damage, refused, room_for, training


def nan(array):
    array[3, 0, 5] = np.nan
    return array


DAMAGED = {
    "two axes": (
        "ims.npy",
        lambda path: damage(path, lambda array: array[:, 0]),
        r"{}_ims\.npy is float16 .* expected flo",
    ),
    "whole numbers": ("ims.npy", lambda path: damage(path, lambda array: array.astype(int)), r"{}_ims\.npy is int64"),
    "fewer rows": ("ims.npy", lambda path: damage(path, lambda array: array[:-1]), r"{}_image_of_text\.npy, row"),
    "fewer boxes": ("boxes.npy", lambda path: damage(path, lambda array: array[:, :3]), r"{}_boxes\.npy has shape"),
    "no features": ("ims.npy", Path.unlink, r"{}_ims\.npy is not there\. Choose one of: "),
    "no captions": ("caps.txt", Path.unlink, r"{}_caps\.txt is not there\."),
    "cut short": (
        "ims.npy",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        r"{}_ims\.npy is cut short: \d+ by",
    ),
    "cut in the header": (
        "ims.npy",
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        r"{}_ims\.npy is not a complete",
    ),
    "empty": ("ims.npy", lambda path: path.write_bytes(b""), r"{}_ims\.npy is not a complete \.npy file"),
    "no zip": (
        "relations.npz",
        lambda path: path.write_bytes(b"PK"),
        r"{}_relations\.npz is not an \.npz file of plain",
    ),
    "Latin-1": (
        "caps.txt",
        lambda path: path.write_bytes("caf\u00e9\n".encode("latin-1") + path.read_bytes().split(b"\n", 1)[1]),
        r"{}_caps\.txt, line 1 is not UTF-8 \(.*\)\. Save the file as UTF-8",
    ),
    "no boxes": ("boxes.npy", Path.unlink, "CMSEI as configured needs boxes, which .*data {} does not have"),
    "no relations": (
        "relations.npz",
        Path.unlink,
        r"CMSEI as configured needs relations, which .*data {} does not have: `regard data relations .*` makes them",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged_data_stops_training_before_a_run_is_written(fault, data):
    name, change, message = DAMAGED[fault]
    change(data / f"train_{name}")
    assert re.search(message.format("train"), refused(*training(data)))
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged_data_stops_evaluation(fault, world, data):
    name, change, message = DAMAGED[fault]
    change(data / f"test_{name}")
    out = data.parent / "metrics.json"
    out.write_text("earlier")
    assert re.search(message.format("test"), refused("evaluate", world / "cmsei", "--data", data, "--json", out))
    assert out.read_text() == "earlier"


def test_features_of_another_width_stop_training_and_evaluation(world, data):
    for split in ("dev", "test"):
        damage(data / f"{split}_ims.npy", lambda array: array[:, :, :100])
    message = (
        r"data {} has 100 features per region, and the model was trained with \d+: use features of the same detector"
    )
    assert re.search(message.format("dev"), refused(*training(data)))
    assert not (data.parent / "run").exists()
    assert re.search(message.format("test"), refused("evaluate", world / "cmsei", "--data", data))


def test_nan_features_stop_training_and_evaluation(world, data):
    damage(data / "test_ims.npy", nan)
    for verb in ("evaluate", "twins"):
        assert refused(verb, world / "cmsei", "--data", data) == (
            f"{data} test: the features of image 3 (test-0000003) contain NaN or infinity; "
            f"`regard data check {data}` lists all such rows."
        )
    damage(data / "train_ims.npy", nan)
    assert "The loss is nan at step" in refused(*training(data))
    assert not (data.parent / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "x"], 'Unknown command "trian". Did you mean "train"?'),
        (["data", "chekc", "x"], 'Unknown command "chekc". Did you mean "check"?'),
        (["recipes", "--al"], "Unknown option: --al."),
        (["train", "cmsei-scenes", "--data", "d", "--out", "o", "--divice", "cpu"], "Did you mean --device?"),
        (["train", "cmsei-scenes", "--data", "d"], "regard train requires --out: see regard train --help."),
        (["evaluate", "--data", "d"], "Expected at least one run folder."),
        (["evaluate", "r", "--data", "d", "--protocol", "5folds"], 'Did you mean "5fold"?'),
        (
            ["evaluate", "nowhere", "--data", "d"],
            "nowhere is not a run: it has no recipe.toml. `regard train RECIPE --data DIR --out",
        ),
        (["train", "cmsei-scenes", "--data", "nowhere", "--out", "o"], "nowhere is not a folder."),
        (
            ["train", "cmsei-scene", "--data", "d", "--out", "o"],
            "There is no recipe 'cmsei-scene', and no file of that",
        ),
        (["train", "cmsei-scene", "--data", "d", "--out", "o"], "Did you mean 'cmsei-scenes'?"),
        (["metrics", "nowhere.npy", "nowhere.npy"], "nowhere.npy cannot be opened: No such file or directory."),
        (["data", "check", "nowhere"], "nowhere is not a folder."),
        (["data", "convert", "nowhere", "--out", "o"], "nowhere is not a folder."),
        (["data", "relations", "."], ". contains no *_ims.npy: expected a data folder"),
        (["data", "scenes", "--out", "o", "--train", "-1"], "Expected train to be a whole number from 0 to"),
        (["data", "scenes", "--out", "o", "--train", "many"], 'unable to convert "many" into int'),
    ],
)
def test_an_unknown_word_is_reported_with_the_nearest(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["gpu", "cuda:1", pytest.param("cuda", marks=pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a CUDA device here"))])  # fmt: skip
def test_an_unavailable_device(device, world, tmp_path):
    message = "torch finds no CUDA device on this machine; use --device cpu." if device == "cuda" else "is not known"
    for verb in (
        ("train", "scan-scenes", "--out", tmp_path / "run", "--data", world / "data"),
        ("evaluate", world / "scan", "--data", world / "data"),
        ("twins", world / "scan", "--data", world / "data"),
        ("demo", "--out", tmp_path / "demo"),
    ):
        assert message in refused(*verb, "--device", device)
    assert list(tmp_path.iterdir()) == []


def test_output_paths_that_cannot_be_written(world, tmp_path):
    """They are reported before the work, and nothing there is changed."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("too")
    before = contents(tmp_path)
    scoring = ("evaluate", world / "scan", "--data", world / "data")
    for option in ("--json", "--save-scores"):
        assert f"{tmp_path}/folder is a folder: expected the name of a file." in refused(
            *scoring, option, tmp_path / "folder"
        )
        assert f"{tmp_path}/file is not a folder." in refused(*scoring, option, tmp_path / "file" / "scores")
    for taken in ("file", "folder"):
        out = tmp_path / taken
        assert f"{out} already exists and is not a run" in refused(
            "train", "scan-scenes", "--data", world / "data", "--out", out
        )
        assert f"{out} exists and is not empty" in refused("data", "scenes", "--out", out)
        assert f"{out} exists and is not empty" in refused("data", "convert", world / "data", "--out", out)
    assert "File exists" in refused("demo", "--out", tmp_path / "file")
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(world, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    out = tmp_path / "locked" / "new" / "metrics.json"
    assert "locked is read-only." in refused("evaluate", world / "scan", "--data", world / "data", "--json", out)


def test_a_full_disk_leaves_earlier_files_unchanged(world, data, tmp_path):
    out = tmp_path / "metrics.json"
    out.write_text("earlier")
    with room_for(100):
        message = f"The disk is full ({out}). No partial file was left."
        assert refused("evaluate", world / "scan", "--data", data, "--json", out) == message
        assert "The disk is full" in refused("evaluate", world / "scan", "--save-scores", tmp_path / "scores.npy")
        assert "The disk is full" in refused("data", "scenes", "--out", tmp_path / "new", "--train", 2)
        assert "Nothing was kept" in refused("data", "convert", data, "--out", tmp_path / "new")
        (data / "dev_relations.npz").unlink()
        assert f"The disk is full ({data}/dev_relations.npz)" in refused("data", "relations", data)
    assert out.read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "metrics.json"}
    assert not [path.name for path in data.iterdir() if path.name.startswith(".") or path.name == "dev_relations.npz"]
