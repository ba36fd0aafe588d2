"""`regard data`."""

import re

import numpy as np

from commands import interrupted, refused, regard, training


def test_data_check_prints_a_report_and_exits_with_1_on_errors(data):
    result = regard("data", "check", data)
    assert result.code == 0
    assert re.search(r"train +24 +120 +8 +\d+ float16 +boxes, labels, relations", result.out)
    assert "0 errors" in result.out
    features = np.load(data / "train_ims.npy")
    features[3, 0, 0] = np.nan
    np.save(data / "train_ims.npy", features)
    result = regard("data", "check", data)
    assert (result.code, result.err) == (1, "")
    assert "train_ims.npy" in result.out
    assert "1 error" in result.out


def test_a_converted_folder_gives_the_same_metrics(world, tmp_path):
    result = regard("data", "convert", world / "data", "--out", tmp_path / "compact")
    assert (result.code, result.out) == (0, f"Wrote {tmp_path}/compact. Next: regard data check {tmp_path}/compact\n")
    before, after = (
        regard("evaluate", world / "cmsei", "--data", folder).out.split("\n", 1)[1]
        for folder in (world / "data", tmp_path / "compact")
    )
    assert before == after


def test_data_relations_are_computed_for_splits_without_relations(data):
    kept = (data / "test_relations.npz").read_bytes()
    for split in ("train", "dev"):
        (data / f"{split}_relations.npz").unlink()
    result = regard("data", "relations", data)
    assert result.code == 0
    assert re.fullmatch(
        r"train: \d\.\d\d relations per region, from boxes only \(no scene-graph model\)\n"
        r"dev: \d\.\d\d relations per region, .*\n"
        rf"test: keeps {data}/test_relations\.npz\n",
        result.out,
    )
    assert (data / "test_relations.npz").read_bytes() == kept
    assert regard(*training(data)).code == 0


def test_sentences_are_parsed_once(data):
    kept = (data / "test_text_relations.npz").read_bytes()
    for split in ("train", "dev"):
        (data / f"{split}_text_relations.npz").unlink()
    result = regard("data", "parse", data)
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(
        r"train: \d\.\d\d relations between words per sentence\n"
        r"dev: \d\.\d\d relations between words per sentence\n"
        rf"test: keeps {data}/test_text_relations\.npz\n",
        result.out,
    )
    assert (data / "test_text_relations.npz").read_bytes() == kept
    assert "no *_ims.npy" in refused("data", "parse", data.parent)


def test_what_is_left_out_or_doubtful_is_printed(data, tmp_path):
    """Boxes in pixels without a size, and sentences that are not English."""
    (tmp_path / "records").mkdir()
    np.savez(tmp_path / "records" / "7.npz", x=np.ones((2, 4), "f4"), bbox=np.full((2, 4), 9.0))
    for name, text in (("ids", "7"), ("caps", "a dog")):
        (tmp_path / f"dev_{name}.txt").write_text(text)
    result = regard("data", "convert", tmp_path, "--out", tmp_path / "out")
    assert result.out.startswith("Note: dev: boxes are left out, because 1 of 1 images, such as '7', have no boxes")
    (data / "dev_text_relations.npz").unlink(missing_ok=True)
    lines = len((data / "dev_caps.txt").read_text().splitlines())
    (data / "dev_caps.txt").write_text("Ein kleiner Junge grüßt zwei Hunde\n" * lines, "utf-8")
    assert "dev: the sentences do not look like English." in regard("data", "parse", data).out


def test_ctrl_c_during_drawing_leaves_no_file(tmp_path):
    arguments = ("data", "scenes", "--out", tmp_path / "data", "--train", 4000, "--pictures", 1)
    code, err = interrupted(lambda: list(tmp_path.glob(".data*/train_ims.npy")), *arguments)
    assert (code, err) == (2, "regard: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []
