from pathlib import Path

import numpy as np
import pytest
import torch

from regard.batch import Texts
from regard.data import Split
from regard.data.relation_files import IMAGE_FILE, TEXT_FILE, Triples

REAL = Path(__file__).parents[2].parent / "shared" / "real"


class Words:
    """One token per word, at most `most`, between `<start>` and `<end>`."""

    offset = 1

    def __init__(self, most):
        self.most = most

    def __call__(self, captions):
        lengths = torch.tensor([min(self.most, len(caption.split())) + 2 for caption in captions])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return Texts(mask.long(), mask)


@pytest.fixture
def folder(tmp_path):
    """Three images of at most four regions, with every optional file of the compact folder."""
    make = np.random.default_rng(0)
    np.save(tmp_path / "dev_ims.npy", make.normal(size=(3, 4, 5)).astype(np.float16))
    (tmp_path / "dev_ids.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    (tmp_path / "dev_caps.txt").write_text("a man rides a horse\na café\na dog\na cat on a mat\n", "utf-8")
    np.save(tmp_path / "dev_image_of_text.npy", np.array([0, 0, 2, 1], np.int32))
    np.save(tmp_path / "dev_num_regions.npy", np.array([4, 2, 3], np.int16))
    np.save(tmp_path / "dev_boxes.npy", make.uniform(size=(3, 4, 4)).astype(np.float32))
    np.save(tmp_path / "dev_labels.npy", make.integers(0, 3, (3, 4)).astype(np.int16))
    (tmp_path / "labels.txt").write_text("man\nhorse\n")
    columns = [np.array(column, np.int16) for column in ([0, 1, 0, 2, 2], [0, 1, 0, 2, 0], [1, 0, 1, 1, 3])]
    confidence = np.array([0.6, 0.9, 0.8, 0.4, 0.9], np.float16)
    labels = np.array([1, 2, 2, 1, 1], np.int16)
    relations = Triples.of(*columns, labels, ["none", "rides", "on"], 3, confidence)
    relations.save(tmp_path / "dev_relations.npz", IMAGE_FILE)
    heads = Triples.of(
        np.array([0, 0, 3]), np.array([2, 2, 0]), np.array([1, 4, 9]), np.array([1, 2, 1]), ["none", "nsubj", "obj"], 4
    )
    heads.save(tmp_path / "dev_text_relations.npz", TEXT_FILE)
    return tmp_path


def test_the_compact_folder(folder):
    split = Split.open(folder, "dev")
    assert (split.num_images, split.num_texts, split.num_regions, split.feature_dim) == (3, 4, 4, 5)
    assert split.fields == {"boxes", "labels", "relations", "text_relations"}
    assert split.predicates == ("none", "rides", "on")
    assert split.image_of_text.tolist() == [0, 0, 2, 1]
    assert list(split.ids) == ["a.jpg", "b.jpg", "c.jpg"]
    assert split.captions[1] == "a café"

    images = split.images([2, 0, 2])
    stored = torch.from_numpy(np.load(folder / "dev_ims.npy"))
    assert images.mask.sum(1).tolist() == [3, 4, 3]
    assert torch.equal(images.features[1], stored[0])
    assert torch.equal(images.features[0, :3], stored[2, :3])
    assert not images.features[0, 3:].any()


def test_the_relation_of_highest_confidence_counts(folder):
    relations = Split.open(folder, "dev").images(range(3)).relations
    assert relations[0, 0, 1] == 2  # 0.8 over 0.6
    assert relations[1, 1, 0] == 2
    assert not relations[2].any()  # 0.4 is below the threshold, and region 3 is padding
    assert Split.open(folder, "dev", relation_threshold=0.3).images([2]).relations[0, 2, 1] == 1


def test_text_relations_are_moved_behind_the_start_and_dropped_beyond_the_end(folder):
    relations = Split.open(folder, "dev").texts([3, 0], Words(10)).relations
    assert relations.shape == (2, 7, 7)
    assert (relations[1, 3, 2], relations[1, 3, 5]) == (1, 2)
    assert relations.count_nonzero() == 2
    assert Split.open(folder, "dev").texts([0], Words(4)).relations.nonzero().tolist() == [[0, 3, 2]]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_the_real_set():
    split = Split.open(REAL / "f8k", "dev")
    assert (split.num_images, split.num_texts, split.num_regions, split.feature_dim) == (500, 2500, 20, 320)
    assert split.fields == {"boxes", "labels"}
    assert split.image_of_text[[4, 5]].tolist() == [0, 1]
    images = split.images([499, 0])
    assert torch.equal(images.features[0], torch.from_numpy(np.load(REAL / "f8k" / "dev_ims.npy")[499]))
    assert split.classes[images.labels[1, 1]] == "person"
    assert split.classes == Split.open(REAL / "f8k", "test").classes
