"""Wrong sentences of a split as negatives and as pairs; and a split without pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import made
from regard.data import Split
from regard.data.loader import Loader
from regard.data.swapped import SwappedSentences
from regard.evaluation.evaluate import scores_of
from regard.files import InputError
from regard.losses import triplet
from regard.training.loop import Objective
from regard.training.weights import build_model
from regard.words import Vocabulary

CAPTIONS = ["A man rides a horse.", "A horse rides a man", "a red car", "A dog chases a cat"]


@pytest.fixture
def folder(tmp_path):
    """Images whose sentences are a relation; those of image 0 are the swaps of each other."""
    folder = made.folder(tmp_path / "data")
    lines = (CAPTIONS * 6)[:24]
    (folder / "train_caps.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return folder


@pytest.fixture
def split(folder):
    return Split.open(folder, "train")


def test_a_swap_that_describes_the_image_too_is_not_used(split):
    found = SwappedSentences(split).of(np.array([0, 1, 2, 3]))
    assert [[(swap.kind, swap.sentence) for swap in own] for own in found] == [
        *([], [], []),
        [("relation", "a cat chases a dog")],
    ]


def test_a_swap_that_describes_another_image_of_the_batch_is_not_drawn(folder):
    """As in data with twins: the swap of a sentence is the sentence of the twin."""
    lines = ["A dog chases a cat.", "a red car", "A cat chases a dog", "a blue car"] * 6
    (folder / "train_caps.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    swapped = SwappedSentences(Split.open(folder, "train"))
    assert swapped.drawn(np.array([0]), np.array([0]), seed=0, step=0) == {0: "A cat chases a dog."}
    assert swapped.drawn(np.array([0]), np.array([0, 1]), seed=0, step=0) == {}
    batch = Loader(swapped.split, Vocabulary.build(lines, 1), 2, swapped=True).read(np.array([0, 3]))
    assert batch.matches.shape == (2, 2)


def test_pairs_have_every_swap_by_its_kind(split):
    table = SwappedSentences(split).pairs()
    probe = table.probes[0]
    assert len(table.probes) == 6
    assert probe.captions == ("a dog chases a cat", "a cat chases a dog")
    assert (probe.images, probe.category) == (("train1",), "relation")


def test_a_split_without_parts_to_exchange_is_refused(folder):
    (folder / "train_caps.txt").write_text("words\n" * 24, "utf-8")
    with pytest.raises(InputError, match="no sentence has parts that can be exchanged"):
        SwappedSentences(Split.open(folder, "train")).pairs()


@pytest.mark.parametrize("name", ["scan", "resg", "tvrn"])
def test_swapped_sentences_are_negatives_of_every_image(split, name):
    """Those of ResG and TVRN have relations between words as well."""
    recipe = made.recipe(f"{name}-f8k", "words.dropout=0", "train.negatives=sum")
    tokenizer = Vocabulary.build(split.captions, 1)
    pairs = Loader(split, tokenizer, 8, swapped=True).read(np.arange(8))
    assert pairs.matches.shape == (4, 10)  # two of the eight sentences have a swap
    assert not pairs.matches[:, 8:].any()
    expected = tokenizer(["a cat chases a dog"]).tokens[0]
    assert torch.equal(pairs.texts.tokens[8][: len(expected)], expected)
    if name != "scan":
        assert pairs.texts.relations[8].any()
    model = build_model(recipe, split.feature_dim, tokenizer).eval()
    losses, scores, _ = Objective(model, recipe.train)(pairs.to("cpu"), "sum")
    plain = triplet(scores[:, :8], pairs.matches[:, :8], negatives="sum")
    images, texts = pairs.matches.nonzero(as_tuple=True)
    extra = (0.2 + scores[images][:, 8:] - scores[images, texts][:, None]).relu().sum()
    torch.testing.assert_close(losses["triplet"].detach(), plain + extra)
    assert extra > 0


def test_swaps_are_drawn_by_the_seed_and_the_rows(split):
    tokenizer = Vocabulary.build(split.captions, 1)
    first, again = (Loader(split, tokenizer, 8, seed=1, swapped=True).read(np.arange(8)).texts.tokens for _ in "ab")
    assert torch.equal(first, again)
    swapped = SwappedSentences(split)
    images = np.arange(4)
    whole = swapped.drawn(np.arange(8), images, seed=1, step=3)
    halves = [swapped.drawn(np.array(half), images, 1, 3) for half in (range(4), range(4, 8))]
    assert whole == halves[0] | halves[1]
    long = replace(split, captions=["a red dog chases a small cat under a big table near a blue car"] * split.num_texts)
    drawn = [SwappedSentences(long).drawn(np.arange(8), images, seed, step) for seed, step in ((1, 3), (2, 3), (1, 4))]
    assert drawn[0] == SwappedSentences(long).drawn(np.arange(8), images, 1, 3)
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize("name", ["cmsei", "tvrn"])
def test_a_blind_model_scores_all_images_alike(folder, name):
    recipe = made.recipe(f"{name}-f8k", "data.blind=true")
    split = recipe.open_split(folder, "train")
    model = build_model(recipe, split.feature_dim, Vocabulary.build(split.captions, 1))
    scores = scores_of(model, split)
    torch.testing.assert_close(scores, scores[:1].expand_as(scores), rtol=1e-6, atol=1e-6)
    assert scores[0].std() > 1e-4
