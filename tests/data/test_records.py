"""Records of detectors: .tsv files and folders of .npz files, in the forms that people have."""

import base64
import json

import numpy as np
import pytest

from regard.data import Split, check, convert
from regard.data.box_forms import describe_boxes
from regard.data.npz_records import NpzFolder
from regard.data.tsv_records import other_float
from regard.files import InputError

BOX, SIZE = [5, 10, 25, 20], (50, 20)
FRACTIONS = [0.1, 0.5, 0.5, 1]


@pytest.fixture
def detected(make):
    """Three images from a detector, with two or three regions each: ids, features, boxes, size."""
    maker = make("dev")
    maker.lines("ids.txt", ["7.jpg"] * 2 + ["5"] * 2)
    maker.lines("caps.txt", "wxyz")
    draw = np.random.default_rng(0)
    return maker, [
        (name, draw.normal(size=(count, 8)).astype("f4"), np.tile(np.float32(BOX), (count, 1)), SIZE)
        for name, count in (("5", 3), ("6", 2), ("7", 2))
    ]


def opened(folder, out):
    notes = convert(folder, out)
    return Split.open(out, "dev"), notes


def check_detected(folder, records, out, size=SIZE):
    split, notes = opened(folder, out)
    assert list(split.ids) == ["7.jpg", "5"]
    assert split.image_of_text.tolist() == [0, 0, 1, 1]
    images = split.images([0, 1])
    assert images.mask.sum(1).tolist() == [2, 3]
    np.testing.assert_allclose(images.features[0, :2], records[2][1], atol=2e-3)
    np.testing.assert_allclose(images.features[1], records[0][1], atol=2e-3)
    assert not images.features[0, 2].any()
    if size:
        np.testing.assert_allclose(images.boxes[1], [FRACTIONS] * 3, atol=1e-3)
        assert split.sizes.tolist() == [list(size)] * 2
    return split, notes


def encoded(array):
    return base64.b64encode(array.tobytes()).decode()


def tsv_line(name, features, boxes, size):
    return "\t".join([name, *map(str, size), str(len(boxes)), encoded(boxes), encoded(features)]) + "\n"


def write_tsv(maker, lines):
    (maker.folder / "all.tsv").write_text("".join(lines))


def test_bottom_up_attentions_tsv(detected, tmp_path):
    maker, records = detected
    write_tsv(maker, [tsv_line(*record) for record in records])
    assert check_detected(maker.folder, records, tmp_path / "out")[1] == []
    write_tsv(maker, [tsv_line("5", *records[0][1:])])
    with pytest.raises(InputError, match=r"no record of image '7.jpg', and of 0 others, .* records are called '5'\."):
        convert(maker.folder, tmp_path / "again")
    maker.lines("ids.txt", ["5"] * 4)  # as the message says that records are called
    assert list(opened(maker.folder, tmp_path / "again")[0].ids) == ["5"]
    write_tsv(maker, ["5\t10\n"])
    with pytest.raises(InputError, match=r"no whole record .*line 1: its columns are not .* the columns image_id, im"):
        convert(maker.folder, tmp_path / "third")


def test_lines_that_are_not_records_are_skipped_and_named(detected, tmp_path):
    maker, records = detected
    lines = [tsv_line(*record) for record in records]
    other = tsv_line("7", -records[2][1], *records[2][2:])
    header = "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"
    write_tsv(maker, [header, lines[0][:-30] + lines[1], "\n", other, lines[2], lines[2][:-20] + "\n", lines[0]])
    _, notes = check_detected(maker.folder, records, tmp_path / "out")
    assert notes == [
        "4 lines are skipped (all.tsv, line 1: its columns are not those of a record; all.tsv, line 2: it has 11 "
        "columns; all.tsv, line 3: it is blank; ...)"
    ]
    assert any("4 lines are skipped" in fault.text for fault in check(maker.folder).faults)
    write_tsv(maker, [lines[0], lines[2][:-20]])
    with pytest.raises(InputError, match=r"'7.jpg' has no whole record \(all.tsv, line 2: its features are"):
        convert(maker.folder, tmp_path / "again")


def test_bytes_written_as_text(detected, tmp_path):
    maker, records = detected
    lines = [tsv_line(*record).rstrip().split("\t") for record in records]
    write_tsv(maker, ["\t".join([*line[:4], f"b'{line[4]}'", f"b'{line[5]}'"]) + "\r\n" for line in lines])
    check_detected(maker.folder, records, tmp_path / "out")


def test_lxmerts_ten_columns(detected, tmp_path):
    maker, records = detected
    lines = []
    for name, features, boxes, (width, height) in records:
        classes = encoded(np.arange(len(boxes), dtype="<i8"))
        sure = encoded(np.ones(len(boxes), "f4"))
        row = [f"COCO_val2014_{int(name):012}", height, width, classes, sure, classes, sure, len(boxes)]
        lines.append("\t".join(map(str, [*row, encoded(boxes), encoded(features)])) + "\n")
    write_tsv(maker, lines)
    (maker.folder / "objects_vocab.txt").write_text("yolk\ngoggles,eyewear\n" + "x\n" * 1598)
    split, _ = check_detected(maker.folder, records, tmp_path / "out")
    labels = split.images([0]).labels[0]
    assert [split.classes[label] for label in labels] == ["yolk", "goggles", "none"]


def test_vinvls_two_columns(detected, tmp_path):
    maker, records = detected
    lines = []
    for name, features, boxes, _ in records:
        positions = np.tile(np.float32([*FRACTIONS, 0.4, 0.5]), (len(boxes), 1))
        values = {"num_boxes": len(boxes), "features": encoded(np.concatenate([features, positions], 1))}
        lines.append(f"{name}\t{json.dumps(values)}\n")
    write_tsv(maker, lines)
    split, _ = check_detected(maker.folder, records, tmp_path / "out", size=None)
    np.testing.assert_allclose(split.images([1]).boxes[0], [FRACTIONS] * 3, atol=1e-3)


@pytest.mark.parametrize(("features", "boxes", "what"), [("f2", "f4", "features in float16"),
                                                         ("f8", "f4", "features in float64"),
                                                         ("f8", "f8", "boxes in float64")])  # fmt: skip
def test_other_floats_are_refused_by_name(detected, tmp_path, features, boxes, what):
    maker, records = detected
    lines = [tsv_line(name, own.astype(features), box.astype(boxes), size) for name, own, box, size in records]
    write_tsv(maker, lines)
    with pytest.raises(InputError, match=rf"all.tsv, line 1 has {what}: expected float32"):
        convert(maker.folder, tmp_path / "out")


def test_floats_are_told_apart():
    draw = np.random.default_rng(0)
    for numbers in (
        draw.random(64),
        draw.normal(size=64),
        draw.random(64) * (draw.random(64) > 0.7),
        draw.gamma(0.3, 9, 64),
    ):
        for kind, expected in (("f4", None), ("f2", "float16"), ("f8", "float64")):
            assert other_float(numbers.astype(kind).tobytes()) == expected
    for rounded in (np.arange(64), np.full(64, 0.5), np.zeros(64), draw.random(64).astype("f2")):
        assert other_float(rounded.astype("f4").tobytes()) is None


def npz(maker, records, folder="features", **changes):
    """Write one .npz per image; a change is a function of the record's arrays, or None to leave the array out."""
    (maker.folder / folder).mkdir(exist_ok=True)
    for name, features, boxes, (width, height) in records:
        arrays = {"x": features, "bbox": boxes, "num_bbox": len(boxes), "image_w": width, "image_h": height}
        arrays |= {key: change(arrays) for key, change in changes.items() if change}
        arrays = {key: value for key, value in arrays.items() if changes.get(key, True)}
        np.savez(maker.folder / folder / name, **arrays, info=np.array({"never": "read"}, object))


VARIANTS = {
    "as they are": {},
    "OpenVQA's columns": {"x": lambda own: own["x"].T},
    "one element": {"num_bbox": lambda own: np.array([own["num_bbox"]]), "image_w": lambda own: np.array([50])},
    "padded": {
        "x": lambda own: np.pad(own["x"], ((0, 7), (0, 0))),
        "bbox": lambda own: np.pad(own["bbox"], ((0, 7), (0, 0))),
    },
    "fractions": {"bbox": lambda own: own["bbox"] / np.float32([50, 20, 50, 20])},
    "UNITER's": {
        "x": None,
        "bbox": None,
        "features": lambda own: own["x"].astype("f2"),
        "norm_bb": lambda own: np.tile(np.float16([*FRACTIONS, 0.4, 0.5]), (own["num_bbox"], 1)),
    },
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_folders_of_npz(detected, tmp_path, changes):
    maker, records = detected
    npz(maker, records, **changes)
    assert check_detected(maker.folder, records, tmp_path / "out")[1] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, r"bbox \[2, 4\], .*: expected floats \[region, feature\] in one of x, features"),
        ({"x": lambda own: own["x"][None]}, r"x \[1, 2, 8\].*: expected floats \[region, feature\]"),
        ({"x": lambda own: own["x"].astype(int)}, r"expected floats \[region, feature\]"),
        ({"x": lambda own: np.array([None])}, "contains Python objects: expected plain arrays"),
        ({"bbox": lambda own: own["bbox"].ravel()}, r"boxes \[8\]: expected \[., 4\]"),
        ({"bbox": lambda own: np.pad(own["bbox"], ((0, 0), (0, 1)))}, r"boxes \[2, 5\]: expected \[., 4\]"),
        ({"bbox": lambda own: own["bbox"][:1]}, r"boxes \[1, 4\]: expected \[., 4\]"),
        ({"num_bbox": lambda own: 0}, "has 0 regions of 2 rows: expected 1 or more"),
        ({"num_bbox": lambda own: np.arange(2)}, "num_bbox is int64 .*: expected one finite number"),
        ({"image_w": lambda own: np.nan}, r"image_w is float64 \[\] \[nan\]: expected one finite number"),
        ({"x": lambda own: own["x"].T, "bbox": None, "num_bbox": None}, "unknown whether regions are rows or columns"),
    ],
)
def test_npz_files_that_might_be_misread_are_refused(detected, tmp_path, changes, message):
    maker, records = detected
    if "num_bbox" not in changes:
        changes = changes | {"num_bbox": None}
    npz(maker, records, **changes)
    with pytest.raises(InputError, match=rf"7.npz.* {message}"):
        convert(maker.folder, tmp_path / "out")


def test_a_damaged_npz_is_named(detected, tmp_path):
    maker, records = detected
    npz(maker, records)
    (maker.folder / "features" / "5.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"5.npz is not a complete .npz file"):
        convert(maker.folder, tmp_path / "out")
    np.savez(maker.folder / "features" / "5.npz", pooled=[1.0])
    with pytest.raises(InputError, match=r"5.npz contains 'pooled': expected one of x, features"):
        convert(maker.folder, tmp_path / "out")


def test_an_array_that_is_not_needed_is_not_read(detected, tmp_path):
    """Files may hold what only others need, such as attention maps, or the features in a second form."""
    maker, records = detected
    unread = np.bytes_(b"unread" * 9)
    npz(maker, records, attention=lambda own: unread, feat=lambda own: unread)
    for path in (maker.folder / "features").glob("*.npz"):
        content = path.read_bytes()
        assert content.count(b"unread" * 9) == 2
        path.write_bytes(content.replace(b"unread", b"broken"))  # so that its CRC does not fit
    check_detected(maker.folder, records, tmp_path / "out")


def test_boxes_in_another_folder(detected, tmp_path):
    maker, records = detected
    npz(maker, records, "cocobu_att", feat=lambda own: own["x"], x=None, bbox=None, num_bbox=None)
    (maker.folder / "cocobu_box").mkdir()
    (maker.folder / "cocobu_fc").mkdir()
    for name, features, boxes, _ in records:
        np.save(maker.folder / "cocobu_box" / name, boxes)
        np.save(maker.folder / "cocobu_fc" / name, features[0])
    check_detected(maker.folder, records, tmp_path / "out")
    npz(maker, records, "other")
    with pytest.raises(InputError, match=r"other/5.npz and .*cocobu_att/5.npz are records of one image"):
        convert(maker.folder, tmp_path / "again")


@pytest.mark.parametrize("changes", [{"image_w": None}, {"image_w": lambda own: 0}, {"image_h": lambda own: -5}])
def test_boxes_without_sizes_are_said_to_be_left_out(detected, tmp_path, changes):
    maker, records = detected
    npz(maker, records[1:], **changes)
    npz(maker, records[:1])
    split, notes = opened(maker.folder, tmp_path / "out")
    assert split.fields == set()
    assert notes == [
        "dev: boxes are left out, because 1 of 2 images, such as '7', have no boxes, or boxes in pixels and no image_w "
        "and image_h"
    ]


def test_boxes_of_another_form_are_suspected(detected, tmp_path):
    draw = np.random.default_rng(0)
    corners = np.sort(draw.random((40, 2, 2)), axis=1).reshape(40, 4)
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    unknown, sizes = np.zeros((40, 2)), np.tile([500, 400], (40, 1))
    assert describe_boxes(corners, unknown) == ""
    assert describe_boxes(np.tile([0.0, 0, 1, 1], (40, 1)), unknown) == ""
    assert "these boxes look like x y width height" in describe_boxes(sides, unknown)
    assert describe_boxes(corners * [0.8, 1.25, 0.8, 1.25], sizes).endswith(
        "width and height of the images are exchanged"
    )
    assert describe_boxes(corners * 1.25, sizes).endswith("of the first 40 boxes reach beyond their images")
    maker, records = detected
    npz(maker, [(name, np.tile(x, (5, 1)), np.float32([[30, 5, 10, 4]] * 5 * len(x)), SIZE) for name, x, *_ in records])
    assert "look like x y width height" in opened(maker.folder, tmp_path / "out")[1][0]
    assert any("look like x y width height" in fault.text for fault in check(tmp_path / "out").faults)


@pytest.mark.parametrize(("name", "kind"), [("train36.hdf5", "HDF5"), ("feat.lmdb/data.mdb", "LMDB")])
def test_other_stores_are_named_with_the_way_out(tmp_path, name, kind):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    for call in (lambda: convert(tmp_path, tmp_path / "out"), lambda: check(tmp_path)):
        with pytest.raises(InputError, match=rf"of {kind}, which is not read. Write one .npz per image with x, bbox"):
            call()


def test_every_damage_of_an_npz_is_one_line(detected, tmp_path):
    """Bytes that are changed one after another: zipfile and numpy raise errors of many kinds for these."""
    maker, records = detected
    npz(maker, records)
    path = maker.folder / "features" / "5.npz"
    whole, messages = path.read_bytes(), []
    for place in range(0, len(whole), 7):
        for value in (0, 40, 255):  # 40 opens a bracket in a header, which numpy parses as Python
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                NpzFolder(maker.folder, [path]).read("5")
            except InputError as error:
                messages.append(str(error))
    assert len(messages) > 50
    assert all(message.startswith(str(path)) for message in messages)
