"""`regard data`."""

import re

import numpy as np

from commands import interrupted, refused, regard, training


def test_data_check_tells_and_its_exit_code_is_1_on_errors(data):
    told = regard("data", "check", data)
    assert told.code == 0
    assert re.search(r"train +24 +120 +8 +\d+ float16 +boxes, labels, relations", told.out)
    assert "0 errors" in told.out
    features = np.load(data / "train_ims.npy")
    features[3, 0, 0] = np.nan
    np.save(data / "train_ims.npy", features)
    told = regard("data", "check", data)
    assert (told.code, told.err) == (1, "")
    assert "train_ims.npy" in told.out
    assert "1 error" in told.out


def test_data_convert_writes_a_folder_that_scores_the_same(world, tmp_path):
    told = regard("data", "convert", world / "data", "--out", tmp_path / "compact")
    assert (told.code, told.out) == (0, f"Wrote {tmp_path}/compact. Next: regard data check {tmp_path}/compact\n")
    before, after = (
        regard("evaluate", world / "cmsei", "--data", folder).out.split("\n", 1)[1]
        for folder in (world / "data", tmp_path / "compact")
    )
    assert before == after


def test_data_relations_are_made_where_there_are_none(data):
    kept = (data / "test_relations.npz").read_bytes()
    for split in ("train", "dev"):
        (data / f"{split}_relations.npz").unlink()
    told = regard("data", "relations", data)
    assert told.code == 0
    assert re.fullmatch(
        r"train: \d\.\d\d relations per region, from boxes only \(no scene-graph model\)\n"
        r"dev: \d\.\d\d relations per region, .*\n"
        rf"test: keeps {data}/test_relations\.npz\n",
        told.out,
    )
    assert (data / "test_relations.npz").read_bytes() == kept
    assert regard(*training(data)).code == 0


def test_sentences_are_parsed_once_and_then_kept(data):
    kept = (data / "test_text_relations.npz").read_bytes()
    for split in ("train", "dev"):
        (data / f"{split}_text_relations.npz").unlink()
    told = regard("data", "parse", data)
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(
        r"train: \d\.\d\d relations between words per sentence\n"
        r"dev: \d\.\d\d relations between words per sentence\n"
        rf"test: keeps {data}/test_text_relations\.npz\n",
        told.out,
    )
    assert (data / "test_text_relations.npz").read_bytes() == kept
    assert "no *_ims.npy" in refused("data", "parse", data.parent)


def test_ctrl_c_in_drawing_leaves_nothing(tmp_path):
    arguments = ("data", "scenes", "--out", tmp_path / "data", "--train", 4000, "--pictures", 1)
    code, err = interrupted(lambda: list(tmp_path.glob(".data*/train_ims.npy")), *arguments)
    assert (code, err) == (2, "regard: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []
