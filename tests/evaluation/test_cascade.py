"""The cascade: what is listed, how both stages make one ranking, and that a whole list is all pairs."""

import numpy as np
import pytest
import torch

import made
from regard.data import Split
from regard.evaluation.cascade import (
    cascade,
    coverage,
    exact_scores,
    merged_scores,
    seven,
    shortlisted_pairs,
    smallest_shortlist,
)
from regard.files import InputError
from regard.training.weights import build_model
from regard.words import Vocabulary

SUMMARIES = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.3, 0.8, 0.4, 0.7]])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Split.open(made.folder(tmp_path_factory.mktemp("cascade") / "data"), "dev")


def model_for(split, name="cmsei"):
    torch.manual_seed(0)
    return build_model(made.recipe(f"{name}-f8k"), split.feature_dim, Vocabulary.build(split.captions, 1)).eval()


def test_the_best_of_each_image_and_of_each_text_are_listed():
    assert shortlisted_pairs(SUMMARIES, 1).tolist() == [[True, False, True, False], [False, True, False, True]]
    assert shortlisted_pairs(SUMMARIES, 9).all()


def test_what_is_listed_ranks_above_all_else_by_its_exact_score():
    exact = torch.tensor([[-5.0, 0, -7, 0], [0, -6, 0, -4]])
    found = merged_scores(SUMMARIES, exact, shortlisted_pairs(SUMMARIES, 1))
    assert found.argsort(1, descending=True).tolist() == [[0, 2, 3, 1], [3, 1, 2, 0]]
    assert found[0, 0] == -5
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    assert torch.equal(merged_scores(SUMMARIES, exact, nothing), SUMMARIES)


def test_coverage_counts_images_and_texts_with_a_match_on_their_list():
    image_of_text = np.array([0, 0, 1, 1])
    pairs = torch.tensor([[False, False, True, False], [True, False, True, True]])
    assert coverage(pairs, image_of_text) == (50.0, 50.0)  # image 1 has texts 2 and 3
    assert coverage(~pairs, image_of_text) == (50.0, 50.0)  # image 0 has texts 0 and 1
    assert coverage(torch.ones_like(pairs), image_of_text) == (100.0, 100.0)
    assert coverage(pairs, np.array([1, 1, 1, 1])) == (100.0, 75.0)  # image 0 has no text, and does not count


@pytest.mark.parametrize("name", ["scan", "cmsei", "sgraf", "tvrn", "resg", "vse-infinity"])
@torch.no_grad()
def test_exact_scores_are_those_of_all_pairs(name, split):
    model, rows = model_for(split, name).double(), np.arange
    images = model.encode_images(split.images(rows(12)).to(torch.float64))
    texts = model.encode_texts(split.texts(rows(24), model.tokenizer))
    pairs = torch.rand(12, 24, generator=torch.Generator().manual_seed(0)) < 0.3
    expected = torch.where(pairs, model.score(images, texts), 0.0)
    torch.testing.assert_close(exact_scores(model, images, texts, pairs).double(), expected, **made.ROUNDED)


def test_a_list_of_everything_gives_the_exhaustive_recalls(split):
    found = cascade(model_for(split), split, 24)
    assert seven(found.recalls) == seven(found.exhaustive)
    assert (found.work, found.shortlist_i2t, found.shortlist_t2i) == (1.0, 100.0, 100.0)


def test_the_smallest_list_keeps_every_recall(split):
    model = model_for(split, "vse-infinity")  # its summary is its score: any list that contains the best 10 does
    count = smallest_shortlist(model, split)
    assert count <= 10
    found = cascade(model, split, count)
    assert seven(found.recalls) == pytest.approx(seven(found.exhaustive), abs=0.1)
    assert found.work < 1
    with pytest.raises(InputError, match="give at least 1"):
        cascade(model, split, 0)


def test_without_the_exhaustive_scores_nothing_is_said_of_them(split):
    found = cascade(model_for(split), split, 3, exhaustive=False)
    assert found.exhaustive is None
    assert found.speedup is None
    assert "all pairs" not in found.render()
    assert found.to_dict()["rsum"] == found.recalls.to_dict()["rsum"]
