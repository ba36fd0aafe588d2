"""Relations from boxes: each box's place seen from each other, and nothing where there is no object."""

import numpy as np
import pytest

import made
from regard.boxes import RELATION_CLASSES
from regard.data import Split
from regard.data.relation_files import IMAGE_FILE, Triples
from regard.files import InputError
from regard.relations.from_boxes import write_box_relations

# A small box inside a large one, one to the right of both, and one in the far corner.
BOXES = [[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.3, 0.3], [0.6, 0.1, 0.9, 0.5], [0.9, 0.9, 1.0, 1.0]]


@pytest.fixture
def folder(make):
    maker = make()
    maker.features(2, num_regions=4)
    maker.array("boxes.npy", [BOXES, BOXES], np.float32)
    maker.array("num_regions.npy", [4, 2], np.int16)
    maker.lines("ids.txt", ["first", "second"])
    maker.lines("caps.txt", ["one", "two"])
    return maker.folder


def said(folder, image):
    split = Split.open(folder, "dev")
    relations = split.images([image]).relations[0].numpy()
    return {(int(s), int(o)): split.predicates[relations[s, o]] for s, o in zip(*relations.nonzero(), strict=True)}


def test_each_near_pair_has_the_class_of_its_boxes(folder):
    degree = write_box_relations(folder, "dev")
    assert said(folder, 0) == {
        (0, 1): "covers",
        (1, 0): "inside",
        (0, 2): "right",
        (2, 0): "left",
        (1, 2): "right",
        (2, 1): "left",
        (2, 3): "below",
        (3, 2): "above",
    }
    assert said(folder, 1) == {(0, 1): "covers", (1, 0): "inside"}  # of two real regions
    assert degree == (8 + 2) / (4 + 2)
    assert Split.open(folder, "dev").predicates == RELATION_CLASSES
    with np.load(folder / "dev_relations.npz") as file:
        assert [file[name].dtype for name in IMAGE_FILE[:4]] == [np.int32, np.int16, np.int16, np.int16]


def test_a_region_without_a_label_is_no_object(folder):
    np.save(folder / "dev_labels.npy", np.array([[1, 0, 1, 1], [1, 1, 0, 0]], np.int16))
    (folder / "labels.txt").write_text("thing\n")
    write_box_relations(folder, "dev")
    assert set(said(folder, 0)) == {(0, 2), (2, 0), (2, 3), (3, 2)}


def test_many_images_are_those_of_one_after_another(tmp_path):
    """More than are read at once, with and without relations among them."""
    folder = made.folder(tmp_path / "data")
    rows = np.arange(600) % 12
    for name in ("ims", "boxes", "labels", "num_regions"):
        np.save(folder / f"dev_{name}.npy", np.load(folder / f"dev_{name}.npy")[rows])
    np.save(folder / "dev_image_of_text.npy", np.arange(600, dtype=np.int32))
    for name in ("ids", "caps"):
        (folder / f"dev_{name}.txt").write_text("".join(f"{row}\n" for row in range(600)))
    for name in ("relations", "text_relations"):
        (folder / f"dev_{name}.npz").unlink()
    write_box_relations(folder, "dev")
    found = Triples.load(folder / "dev_relations.npz", 600, 5).dense(np.arange(600), 5)
    assert found.any()
    for start in range(12, 600, 12):
        np.testing.assert_array_equal(found[start : start + 12], found[:12])


def test_relations_that_are_there_are_kept(folder):
    write_box_relations(folder, "dev")
    before = (folder / "dev_relations.npz").read_bytes()
    with pytest.raises(InputError, match=r"dev_relations\.npz already exists: remove it to make relations from the"):
        write_box_relations(folder, "dev")
    assert (folder / "dev_relations.npz").read_bytes() == before


def test_without_boxes_there_is_nothing_to_make_them_of(folder):
    (folder / "dev_boxes.npy").unlink()
    with pytest.raises(InputError, match="data dev has no boxes to make relations from"):
        write_box_relations(folder, "dev")
    assert not (folder / "dev_relations.npz").exists()
