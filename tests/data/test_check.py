import json
from pathlib import Path

import numpy as np
import pytest

import made
from regard.data import check, convert
from regard.data.relation_files import IMAGE_FILE, TEXT_FILE, Triples
from regard.files import InputError

REAL = Path(__file__).parents[2].parent / "shared" / "real"


def found(folder, **options):
    return [(fault.severity, str(fault)) for fault in check(folder, **options).faults]


def test_the_report_of_a_sound_folder(scan, make):
    for split, rows in (("train", 2), ("dev", 10)):
        make(split).array("ims.npy", np.ones((rows, 3, 4), np.float32))
    make("train").array("boxes.npy", np.full((2, 3, 4), [0, 0, 1, 1]), np.float32)
    assert str(check(scan)) == (
        f"{scan}: SCAN's layout; dev with one row per sentence\n"
        "\n"
        "  split  images  sentences  regions  features   optional inputs\n"
        "  train  2       10         3        4 float32  boxes\n"
        "  dev    2       10         3        4 float32  -\n"
        "\n"
        "Model parts that this data supports:\n"
        "  vse_infinity, scan, sgraf        yes\n"
        "  cmsei, hire: spatial graph       train\n"
        "  cmsei, hire: semantic graph      no\n"
        "  tvrn: graph of regions           train\n"
        "  tvrn: graph of words             no\n"
        "  resg: concepts by label          no\n"
        "  resg: relations between regions  no\n"
        "  resg: relations between words    no\n"
        "\n"
        "0 errors and 0 warnings"
    )


@pytest.fixture
def sound(make):
    """One split without faults: three images with two sentences each."""
    maker = make("dev")
    maker.array("ims.npy", np.ones((3, 2, 4), np.float16))
    maker.lines("ids.txt", "abc")
    maker.lines("caps.txt", ["a dog", "two cats", "w", "x", "y", "z"])
    assert not check(maker.folder).faults
    return maker


def test_features(sound):
    features = np.ones((3, 2, 4))
    features[1, 0, 0], features[2] = np.nan, 0
    sound.array("ims.npy", features)
    assert found(sound.folder) == [
        (
            "warning",
            "dev_ims.npy: float64 takes four times the space of float16. `regard data convert` writes float16.",
        ),
        ("error", "dev_ims.npy, row 1: 1 image contains NaN or infinity; this is the first. Extract them again."),
        ("error", "dev_ims.npy, row 2: 1 image is all zero; this is the first. Extract them again."),
    ]


def test_a_feature_file_cut_short(sound):
    path = sound.path("ims.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    size = f"{len(whole) - 1} bytes where (3, 2, 4) of float16 needs {len(whole)}"
    assert found(sound.folder) == [("error", f"dev_ims.npy: is cut short: {size}. Copy it again.")]


def test_sentences(sound):
    sound.path("caps.txt").write_bytes("a dog\na café\n\na dog\nx\nx\n".encode())
    twice = "2 sentences repeat earlier ones; this is the first ('a dog'). Their scores are always equal."
    assert found(sound.folder) == [
        ("error", "dev_caps.txt, line 3: 1 empty sentence. Remove the line, or write the sentence."),
        ("warning", f"dev_caps.txt, line 4: {twice}"),
    ]
    sound.lines("caps.txt", ["a dog", "a café", "café", "x", "y", "z"], "latin-1")
    text = "2 lines are not UTF-8; this is the first. Save the file as UTF-8."
    assert found(sound.folder) == [("error", f"dev_caps.txt, line 2: {text}")]


def test_wrong_counts_do_not_hide_other_faults(sound):
    features = np.ones((3, 2, 4), np.float16)
    features[0, 0, 0] = np.inf
    sound.array("ims.npy", features)
    sound.lines("ids.txt", "ab")
    want = "expected one id per row, or one per sentence."
    assert found(sound.folder) == [
        ("error", f"dev_ims.npy: has 3 rows, dev_ids.txt has 2: {want}"),
        ("error", "dev_ims.npy, row 0: 1 image contains NaN or infinity; this is the first. Extract them again."),
    ]


def test_ids(sound, make):
    sound.array("image_of_text.npy", [0, 0, 1, 1, 2, 2])
    sound.lines("ids.txt", "aba")
    assert found(sound.folder) == [
        ("error", "dev_ids.txt, line 3: 1 image repeats an earlier id; this is the first ('a').")
    ]
    sound.path("ids.txt").unlink()
    assert (
        found(sound.folder)[0][1]
        == "dev_ids.txt: missing: images are identified by their row, and leaks between splits cannot be found."
    )


def test_images_shared_by_splits_are_a_leak(sound, make):
    test = make("test")
    test.array("ims.npy", np.arange(16, dtype=np.float16).reshape(2, 2, 4) + 1)
    test.lines("ids.txt", "xc")
    test.lines("caps.txt", "pq")
    assert found(sound.folder) == [
        ("error", "test_ids.txt, line 2: 1 image is also in dev (a leak); this is the first.")
    ]


def test_boxes(sound):
    boxes = np.full((3, 2, 4), [0, 0, 0.5, 1], np.float32)
    boxes[1, 1, 2], boxes[2, 0, 0] = 1.2, 0.5
    boxes[0, 0, 0] = np.nan
    sound.array("boxes.npy", boxes)
    assert found(sound.folder) == [
        ("error", "dev_boxes.npy, row 0: 1 image has boxes with NaN or infinity; this is the first."),
        ("warning", "dev_boxes.npy, row 2: 1 image has boxes without area; this is the first."),
        ("error", "dev_boxes.npy, row 1: 1 image has boxes outside the image; this is the first."),
    ]
    sound.array("num_regions.npy", [2, 1, 1])
    boxes[:, 0] = [0, 0, 1, 1]
    boxes[0, 1] = [0, 0, 1, 1]
    sound.array("boxes.npy", boxes)
    assert not found(sound.folder), "the content of padding is not a fault"


def test_boxes_of_another_images_size(sound):
    sound.array("boxes.npy", np.full((3, 2, 4), [0, 10, 500, 375]), np.float32)
    sound.array("sizes.npy", [[500, 375], [333, 500], [500, 375]])
    reach = "they reach 500 x 375 in an image of 333 x 500"
    assert found(sound.folder) == [
        ("error", f"dev_boxes.npy, row 1: 1 image has boxes outside the image; this is the first: {reach}. "
         "The sizes seem to be those of other images.")
    ]  # fmt: skip
    sound.array("sizes.npy", [[375, 500]] * 3)
    assert found(sound.folder)[0][1].endswith("Width and height seem to be swapped.")


def test_labels_and_relations(sound, make):
    sound.array("labels.npy", [[1, 0], [2, 3], [0, 0]])
    (sound.folder / "labels.txt").write_text("dog\ncat\n")
    one = np.array([0]), np.array([0]), np.array([1]), np.array([1])
    Triples.of(*one, ["none", "on"], 3).save(sound.path("relations.npz"), IMAGE_FILE)
    Triples.of(np.array([0]), np.array([0]), np.array([2]), np.array([1]), ["none", "of"], 6).save(
        sound.path("text_relations.npz"), TEXT_FILE
    )
    test = make("test")
    test.array("ims.npy", np.arange(24, dtype=np.float16).reshape(3, 2, 4) + 1)
    test.lines("ids.txt", "xyz")
    test.lines("caps.txt", "pqr")
    Triples.of(*one, ["none", "under"], 3).save(test.path("relations.npz"), IMAGE_FILE)
    beyond = "1 sentence has relations beyond the last word; sentence 0 is the first. Tokenized differently?"
    assert found(sound.folder) == [
        ("error", "dev_labels.npy, row 1: class numbers are between 0 and 3; expected 0 to 2, because labels.txt "
         "names 2 classes."),
        ("warning", f"dev_text_relations.npz: {beyond}"),
        ("error", "test_relations.npz: the list of predicates differs from that of dev, so no model can "
         "use both. Make the splits together."),
    ]  # fmt: skip
    assert check(sound.folder).uses()["cmsei, hire: semantic graph"] == ["dev", "test"]


def test_relations_that_point_outside(sound):
    Triples.of(np.array([0]), np.array([0]), np.array([7]), np.array([1]), ["none", "on"], 3).save(
        sound.path("relations.npz"), IMAGE_FILE
    )
    assert found(sound.folder) == [("error", "dev_relations.npz: relation 0: object is 7; expected 0 to 1.")]
    np.savez(sound.path("relations.npz"), image=np.zeros(1, int))
    have = "has no array 'subject': expected image, subject, object, predicate, predicates."
    assert found(sound.folder) == [("error", f"dev_relations.npz: {have}")]


def test_the_layouts_are_named(scan, make, tmp_path):
    make("dev").array("ims_bbx.npy", np.full((10, 3, 4), [0, 0, 30, 40]), np.float32)
    make("dev").array("ims_size.npy", [{"image_w": 40, "image_h": 50}] * 10, object)
    make("dev").path("caps.json").write_text(json.dumps([[]] * 10))
    assert check(scan).layout == (
        "GSMN's layout; dev with one row per sentence; boxes in pixels; "
        "dependency lists, which `regard data convert` converts to relations between words"
    )
    inner = make(under="vse/precomp")
    inner.features(1)
    inner.lines("ids.txt", "a")
    inner.lines("caps.txt", "p")
    assert check(inner.folder.parent).layout == "VSE-infinity's layout"
    detected = make(under="detected")
    detected.lines("ids.txt", "a")
    detected.lines("caps.txt", "p")
    np.savez(detected.folder / "a.npz", x=np.ones((2, 4)))
    report = check(detected.folder)
    assert report.layout == "one .npz per image; `regard data convert` makes a folder to train on"
    assert (report.splits[0].num_images, report.faults) == (1, ())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty contains no"):
        check(tmp_path / "empty")


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_the_real_set():
    report = check(REAL / "f8k")
    assert report.layout == "the compact layout"
    assert [split.num_texts for split in report.splits] == [30000, 2500, 2500]
    assert not report.errors
    assert report.faults[0].row == 563


def test_the_page_shows_what_is_printed(scan, make, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    train, dev = make("train"), make("dev")
    features = np.ones((2, 3, 4), np.float32)
    features[1, 0, 0] = np.nan
    train.array("ims.npy", features)
    dev.array("ims.npy", np.ones((10, 3, 4), np.float32))
    train.array("boxes.npy", np.full((2, 3, 4), [0, 10, 500, 375]), np.float32)
    train.array("sizes.npy", [[333, 500], [500, 375]])
    train.lines("caps.txt", ["a", "b", "", *"defghij"])
    dev.lines("caps.txt", [f"sentence {text % 5} of dev 0" for text in range(6)] + list("wxyz"))
    (scan.parent / "f30k_precomp").symlink_to(scan)
    monkeypatch.chdir(scan.parent)
    printed = str(check("f30k_precomp")).replace("f30k_precomp", "data/f30k_precomp", 1)
    assert f"```text\n{printed}\n```" in page


@pytest.mark.parametrize("name", ["dev_ims.npy", "dev_boxes.npy", "dev_image_of_text.npy"])
def test_a_deep_check_finds_a_flipped_bit(name, tmp_path):
    convert(made.folder(tmp_path / "data"), tmp_path / "converted")
    path = tmp_path / "converted" / name
    assert not [fault for fault in check(path.parent, deep=True).faults if "checksum" in fault.text]
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    found = check(path.parent, deep=True).errors
    assert [fault.file for fault in found if "its checksum does not fit" in fault.text] == [name]
