"""Twins on matrices made by hand, and files of twins that cannot be."""

import numpy as np
import pytest
import torch

import made
from regard.data import Split
from regard.data.twins import Twins
from regard.evaluation.twin_accuracy import CHANCE, TwinAnswers, twin_accuracy, twin_answers
from regard.files import InputError


@pytest.fixture
def split(tmp_path):
    """Twelve images with two sentences each; images 0 and 7, 3 and 4 are twins."""
    np.savez(
        made.folder(tmp_path / "data") / "train_twins.npz",
        first=np.array([0, 3]),
        second=np.array([7, 4]),
        kind=np.array(["relation", "attribute"]),
    )
    return Split.open(tmp_path / "data", "train")


def diagonal(split):
    return (np.arange(split.num_images)[:, None] == split.image_of_text).astype(np.float32)


def test_a_perfect_a_constant_and_a_turned_matrix(split):
    assert twin_accuracy(diagonal(split), split) == {"attribute": 100.0, "relation": 100.0}
    assert twin_accuracy(np.zeros((12, 24)), split) == {"attribute": 0.0, "relation": 0.0}  # a tie is wrong
    assert twin_accuracy(-diagonal(split), split) == {"attribute": 0.0, "relation": 0.0}
    assert twin_accuracy(torch.from_numpy(diagonal(split)), split) == {"attribute": 100.0, "relation": 100.0}


def test_ties_are_counted_and_half_right(split):
    assert twin_answers(np.zeros((12, 24)), split)["relation"] == TwinAnswers(0.0, 50.0, 100.0, 4)
    scores = diagonal(split)
    first, second = np.flatnonzero(split.image_of_text == 0)
    scores[7, first], scores[7, second] = 1, 2  # of the four sentences of images 0 and 7, one is a tie, one is wrong
    answers = twin_answers(scores, split)
    assert answers == {"attribute": TwinAnswers(100.0, 100.0, 0.0, 4), "relation": TwinAnswers(50.0, 62.5, 25.0, 4)}
    assert {kind: own.correct for kind, own in answers.items()} == twin_accuracy(scores, split)


def test_a_sentence_counts_for_the_kind_of_its_twins_alone(split):
    scores = diagonal(split)
    text = int(np.flatnonzero(split.image_of_text == 7)[0])
    scores[0, text] = 2  # one of the four sentences of the relation twins prefers the other picture
    assert twin_accuracy(scores, split) == {"attribute": 100.0, "relation": 75.0}
    scores[5, :] = 3  # a picture that is nobody's twin
    assert twin_accuracy(scores, split) == {"attribute": 100.0, "relation": 75.0}


def test_a_bag_of_things_is_at_chance(split):
    """Scores that see an image's own noise, but not whose sentence it is: one of each two twins wins."""
    scores = np.random.default_rng(0).normal(size=12)[:, None].repeat(24, 1)
    assert twin_accuracy(scores, split) == {"attribute": CHANCE, "relation": CHANCE}


def test_nan_is_no_answer(split):
    scores = diagonal(split)
    scores[2, 1] = np.nan
    with pytest.raises(InputError, match="1 scores are NaN, the first at image 2, text 1"):
        twin_accuracy(scores, split)


def test_a_split_without_twins_or_with_damaged_ones(split):
    path = split.folder / "train_twins.npz"
    (split.folder / "dev_twins.npz").unlink(missing_ok=True)
    with pytest.raises(
        InputError, match=r"dev_twins\.npz is not there: `regard data scenes`, `regard data spatial` and"
    ):
        twin_accuracy(np.zeros((12, 24)), Split.open(split.folder, "dev"))
    whole = path.read_bytes()
    for damaged in (whole[:-30], b"PK", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"train_twins\.npz is damaged: make the data folder again"):
            Twins.of(split)
    np.savez(path, first=np.array([0]), second=np.array([12]), kind=np.array(["relation"]))
    with pytest.raises(InputError, match=r"train_twins\.npz contains image row 12, but train has 12 images"):
        Twins.of(split)
    np.savez(path, first=np.array([0, 1]), second=np.array([2, 2]), kind=np.array(["relation"] * 2))
    with pytest.raises(InputError, match=r"train_twins\.npz has an image that is in two pairs"):
        Twins.of(split)
    np.savez(path, first=np.array([0]), second=np.array([1]), kind=np.array(["relation"] * 2))
    with pytest.raises(InputError, match="is damaged"):
        Twins.of(split)
    np.savez(path, first=np.array([0]))
    with pytest.raises(InputError, match="is damaged"):
        Twins.of(split)
