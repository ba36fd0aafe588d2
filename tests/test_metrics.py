from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from regard import metrics
from regard.files import InputError
from regard.metrics import Direction, check_image_of_text, galleries, ranks, recalls, render


def test_ranks_of_a_matrix_by_hand():
    scores = np.array(
        [
            [0.9, 0.1, 0.8, 0.7],  # image 0 has the texts 0 and 1: the better one is first
            [0.2, 0.3, 0.6, 0.1],  # image 1 has text 2: first
            [0.5, 0.6, 0.9, 0.4],  # image 2 has text 3: behind all three others
        ]
    )
    found = ranks(scores, np.array([0, 0, 1, 2]))
    assert found.i2t.tolist() == [1, 1, 4]
    assert found.t2i.tolist() == [1, 3, 3, 2]
    assert found.ties == 0


def test_another_text_of_the_same_image_never_counts_against_it():
    found = ranks(np.array([[1.0, 1.0, 0.5], [0.0, 0.0, 1.0]]), np.array([0, 0, 1]))
    assert found.i2t.tolist() == [1, 1]
    assert found.ties == 0


def test_a_perfect_matrix():
    found = recalls(np.repeat(np.eye(4), [1, 2, 3, 4], axis=1), np.repeat(np.arange(4), [1, 2, 3, 4]))
    assert found.i2t == found.t2i == Direction(100.0, 100.0, 100.0, 1.0, 1.0)
    assert found.rsum == 600


def test_a_constant_score_gets_the_last_place():
    image_of_text = np.repeat(np.arange(20), 5)
    found = ranks(np.zeros((20, 100), np.float32), image_of_text)
    assert set(found.i2t) == {96}  # behind the 95 texts of other images
    assert set(found.t2i) == {20}
    assert found.ties == 120
    assert recalls(np.zeros((20, 100)), image_of_text).rsum == 0


def test_infinities_are_scores():
    scores = np.array([[np.inf, -np.inf], [-np.inf, -np.inf]])
    found = ranks(scores, np.array([0, 1]))
    assert found.i2t.tolist() == [1, 2]
    assert found.t2i.tolist() == [1, 2]
    assert found.ties == 2


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_ranks_agree_with_plain_loops(data):
    num_images = data.draw(st.integers(1, 6))
    more = data.draw(st.lists(st.integers(0, num_images - 1), max_size=8))
    image_of_text = np.array(data.draw(st.permutations([*range(num_images), *more])))
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, np.inf])  # few, so that they tie
    scores = data.draw(hnp.arrays(np.float32, (num_images, len(image_of_text)), elements=values))

    found = ranks(scores, image_of_text)
    i2t, t2i, ties = ranks_in_loops(scores, image_of_text)
    assert found.i2t.tolist() == i2t
    assert found.t2i.tolist() == t2i
    assert found.ties == ties


def ranks_in_loops(scores, image_of_text):
    num_images, num_texts = scores.shape
    i2t, t2i, ties = [], [], 0
    for image in range(num_images):
        best = max(scores[image, text] for text in range(num_texts) if image_of_text[text] == image)
        others = [scores[image, text] for text in range(num_texts) if image_of_text[text] != image]
        i2t.append(1 + sum(other >= best for other in others))
        ties += best in others
    for text in range(num_texts):
        match = scores[image_of_text[text], text]
        others = [scores[image, text] for image in range(num_images) if image != image_of_text[text]]
        t2i.append(1 + sum(other >= match for other in others))
        ties += match in others
    return i2t, t2i, ties


def test_blocks_and_kinds_of_arrays_change_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    scores, image_of_text = rng.integers(0, 9, (30, 100)).astype(np.float32), rng.permutation(np.arange(100) % 30)
    whole = ranks(scores, image_of_text)
    np.save(tmp_path / "scores.npy", scores)
    monkeypatch.setattr(metrics, "BLOCK", 700)  # seven rows at a time
    for kind in (
        scores,
        torch.from_numpy(scores),
        np.load(tmp_path / "scores.npy", mmap_mode="r"),
        scores.astype("f2"),
    ):
        found = ranks(kind, image_of_text)
        assert (found.i2t == whole.i2t).all()
        assert (found.t2i == whole.t2i).all()
        assert found.ties == whole.ties
    assert recalls(torch.from_numpy(scores), torch.from_numpy(image_of_text), "5fold") == recalls(
        scores, image_of_text, "5fold"
    )


def test_median_rank_is_the_fields():
    scores = with_ranks([1, 2, 4, 1], [1, 1, 1, 1])
    found = recalls(scores, np.arange(4))
    assert found.i2t.medr == 1  # the ranks from 0 are 0 0 1 3: their median 0.5 is rounded down
    assert found.i2t.meanr == 2
    assert found.i2t.r1 == 50


def test_five_folds_are_five_galleries_of_one_matrix():
    rng = np.random.default_rng(1)
    scores, image_of_text = rng.normal(size=(20, 45)), rng.permutation(np.arange(45) % 20)
    found = recalls(scores, image_of_text, "5fold")
    alone = []
    for first in range(0, 20, 4):
        of_fold = np.isin(image_of_text, range(first, first + 4))
        alone.append(recalls(scores[first : first + 4][:, of_fold], image_of_text[of_fold] - first))
    assert found.folds == tuple(alone)
    assert found.i2t.r1 == pytest.approx(np.mean([fold.i2t.r1 for fold in alone]))
    assert found.t2i.meanr == pytest.approx(np.mean([fold.t2i.meanr for fold in alone]))
    assert found.rsum == pytest.approx(np.mean([fold.rsum for fold in alone]))


def test_the_summary_of_the_folds_is_labelled_right():
    # Much of the field's code prints six times the mean i2t recall as rSum: a true 508.0 shows as 530.4.
    i2t = np.repeat([1, 5, 10, 20], [200, 25, 13, 12]).reshape(50, 5).T
    t2i = np.repeat([1, 5, 10, 20], [180, 27, 13, 30]).reshape(50, 5).T
    scores = np.full((250, 250), -1.0)
    for fold in range(5):
        at = slice(50 * fold, 50 * fold + 50)
        scores[at, at] = with_ranks(i2t[fold].tolist(), t2i[fold].tolist())
    found = recalls(scores, np.arange(250), "5fold")
    assert found.i2t.r1 + found.i2t.r5 + found.i2t.r10 == pytest.approx(530.4 / 2)
    assert found.rsum == pytest.approx(508.0)
    assert found.to_dict()["rsum"] == found.rsum
    assert "508.0" in render(found)
    assert "530.4" not in render(found)


def with_ranks(i2t, t2i):
    """Scores of one text an image with these ranks: matches have distinct scores, and what beats one beats only it."""
    size = len(i2t)
    match = np.array(sorted(range(size), key=lambda k: (-max(i2t[k], t2i[k]), k))).argsort() + 1.0
    scores = np.diag(match)
    for k in range(size):
        higher = np.flatnonzero(match > match[k])  # between the two matches: above this one, below the other
        scores[k, higher[: i2t[k] - 1]] = match[k] + 0.5
        scores[higher[: t2i[k] - 1], k] = match[k] + 0.5
    return scores


def test_the_dictionary_has_the_seven_keys_and_the_medians():
    found = recalls(np.eye(3), np.arange(3)).to_dict()
    assert list(found) == ["i2t", "t2i", "rsum"]
    assert list(found["i2t"]) == list(found["t2i"]) == ["r1", "r5", "r10", "medr", "meanr"]


def test_the_table_tells_ties():
    assert render(recalls(np.eye(2), np.arange(2))) == (
        "                  R@1    R@5   R@10  median    mean\n"
        "image to text   100.0  100.0  100.0     1.0     1.0\n"
        "text to image   100.0  100.0  100.0     1.0     1.0\n"
        "rSum            600.0"
    )
    assert render(recalls(np.ones((2, 2)), np.arange(2))).endswith(
        "4 queries tie with a wrong answer; ties count against the model."
    )


@pytest.mark.parametrize("protocol", ["full", "5fold"])
def test_nan_is_refused(protocol):
    scores = np.zeros((10, 10))
    scores[7, 2] = scores[9, 9] = np.nan
    with pytest.raises(InputError, match="2 scores are NaN, the first at image 7, text 2"):
        galleries(scores, np.arange(10), protocol)


@pytest.mark.parametrize(
    ("shape", "image_of_text", "message"),
    [
        ((3, 4), [0, 1, 2], "3 by 4 and image_of_text has 3 entries: .*; the scores look transposed"),
        ((3, 4), [0, 1], "expected scores of .image, text. and one image row for each text[.]"),
        ((3, 4), [0, 1, 2, 3], r"1 texts point outside the 3 images, first text 3 \(to image 3\)"),
        ((3, 4), [-1, 1, 2, 2], r"first text 0 \(to image -1\)"),
        ((3, 4), [0, 0, 2, 2], r"1 of 3 images have no text \(first: row 1\)"),
        ((0, 0), [], "each image needs at least one"),
    ],
)
def test_texts_and_images_must_correspond(shape, image_of_text, message):
    with pytest.raises(InputError, match=message):
        check_image_of_text(shape, np.array(image_of_text, int))


def test_folds_must_be_equal():
    with pytest.raises(InputError, match="12 images cannot be divided into 5 equal folds"):
        recalls(np.eye(12), np.arange(12), "5fold")


def test_a_notebook_shows_the_numbers_of_the_table():
    scores = np.random.default_rng(0).normal(size=(10, 20)).round(1)  # with ties
    for protocol in metrics.FOLDS:
        measured = recalls(scores, np.arange(20) // 2, protocol)
        page = ElementTree.fromstring(f"<body>{measured._repr_html_()}</body>")
        shown = ["".join(row.itertext()) for row in page.iter("tr")] + [note.text for note in page.iter("p")]
        assert measured.ties
        assert ["".join(line.split()) for line in shown] == [
            "".join(line.split()) for line in render(measured).splitlines()
        ]
        assert [cell.get("scope") for cell in page.iter("th")] == ["col"] * 5 + ["row"] * 2
