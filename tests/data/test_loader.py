import numpy as np
import pytest
import torch

import made
from regard.data import Split
from regard.data.loader import Loader
from regard.files import InputError
from regard.words import Vocabulary


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Split.open(made.folder(tmp_path_factory.mktemp("loader") / "data"), "train")


@pytest.fixture(scope="module")
def tokenizer(split):
    return Vocabulary.build(split.captions, min_count=1)


def sentences(split, tokenizer, batches):
    """The texts of each batch, identified by their tokens."""
    known = {tuple(split.texts([row], tokenizer).tokens[0].tolist()): row for row in range(split.num_texts)}
    return [[known[tuple(tokens.tolist())] for tokens in pairs.texts.tokens] for pairs in batches]


def test_every_sentence_occurs_once_per_epoch(split, tokenizer):
    seen = sentences(split, tokenizer, Loader(split, tokenizer, 8).epoch(0))
    assert [len(batch) for batch in seen] == [8, 8, 8]
    assert sorted(row for batch in seen for row in batch) == list(range(24))


def test_the_order_depends_only_on_seed_and_epoch(split, tokenizer):
    loader = Loader(split, tokenizer, 6, seed=3)
    list(loader.epoch(0))
    first, again, other, seeded = (
        sentences(split, tokenizer, Loader(split, tokenizer, 6, seed).epoch(epoch))
        for seed, epoch in ((3, 1), (3, 1), (3, 2), (4, 1))
    )
    assert sentences(split, tokenizer, loader.epoch(1)) == first == again
    assert first != other
    assert first != seeded


def test_an_epoch_can_start_at_any_batch(split, tokenizer):
    loader = Loader(split, tokenizer, 5)
    whole = sentences(split, tokenizer, loader.epoch(2))
    assert len(whole) == len(loader) == 4  # the 24th and a part of a batch are left out
    for start in range(5):
        assert sentences(split, tokenizer, loader.epoch(2, start)) == whole[start:]


def test_a_batch_contains_each_image_once_and_the_matches(split, tokenizer):
    for pairs, rows in zip(
        Loader(split, tokenizer, 8).epoch(0),
        sentences(split, tokenizer, Loader(split, tokenizer, 8).epoch(0)),
        strict=True,
    ):
        images = split.image_of_text[rows]
        assert len(pairs.images) == len(set(images))
        assert pairs.matches.shape == (len(pairs.images), 8)
        for text, image in enumerate(images.tolist()):
            place = pairs.matches[:, text].nonzero().item()  # exactly one
            assert torch.equal(pairs.images.features[place], split.images([image]).features[0])
            assert torch.equal(pairs.images.relations[place], split.images([image]).relations[0])


def test_processes_share_a_batch_and_no_sentence(split, tokenizer):
    parts = [sentences(split, tokenizer, Loader(split, tokenizer, 7, rank=rank, world=2).epoch(1)) for rank in range(2)]
    whole = sentences(split, tokenizer, Loader(split, tokenizer, 7).epoch(1))
    # Each process reads a contiguous part, so that twins, which are adjacent, stay in one process.
    assert [one + other for one, other in zip(*parts, strict=True)] == whole
    assert [len(batch) for batch in parts[0] + parts[1]] == [4, 4, 4, 3, 3, 3]


@pytest.mark.parametrize("swapped", [False, True])
def test_the_parts_of_a_batch_are_the_batch(split, tokenizer, swapped):
    """Images, texts, matches, and the random numbers of each item."""
    whole = next(Loader(split, tokenizer, 8, swapped=swapped).epoch(1, 2))
    parts = [next(Loader(split, tokenizer, 8, rank=rank, world=3, swapped=swapped).epoch(1, 2)) for rank in range(3)]
    images = type(whole.images).cat([part.images for part in parts])
    assert all(torch.equal(tensor, images.tensors()[name]) for name, tensor in whole.images.tensors().items())
    texts = type(whole.texts).cat([part.texts for part in parts])
    order, expected = texts.draws.sort()[1], whole.texts.draws.sort()[1]
    assert torch.equal(texts.tokens[order], whole.texts.tokens[expected])
    assert torch.equal(texts.draws[order], whole.texts.draws[expected])
    matches = torch.cat([part.matches for part in parts], 1)
    assert torch.equal(matches[:, order], whole.matches[:, expected])
    alone = [next(Loader(split, tokenizer, 8, rank=rank, world=3, alone=True).epoch(1, 2)) for rank in range(3)]
    for part in alone:
        assert part.matches.shape == (len(part.images), len(part.texts))
        assert part.matches.any(0).all()


def test_more_processes_than_items_of_a_batch_are_refused(split, tokenizer):
    with pytest.raises(InputError, match=r"A batch has 24 sentences \(.* has 24\) for 25 processes: expected at least"):
        Loader(split, tokenizer, 40, world=25)
    with pytest.raises(InputError, match=r"A batch has 3 sentences .* for 4 processes.* or raise train\.batch_size"):
        Loader(split, tokenizer, 3, world=4)
    rows = np.flatnonzero(split.image_of_text == 0)
    with pytest.raises(InputError, match=r"A batch has 1 images for 2 processes: expected at least one for each"):
        Loader(split, tokenizer, len(rows), rank=1, world=2).read(rows)


def test_a_batch_larger_than_the_split_is_the_split(split, tokenizer):
    loader = Loader(split, tokenizer, 1000)
    assert len(loader) == 1
    assert len(next(loader.epoch(0)).texts) == 24


def test_only_floating_fields_become_float32(split, tokenizer):
    pairs = next(Loader(split, tokenizer, 4).epoch(0))
    assert pairs.images.features.dtype == torch.float16  # as stored
    moved = pairs.to("cpu")
    assert moved.images.features.dtype == torch.float32
    assert moved.images.relations.dtype == moved.texts.tokens.dtype == torch.int64
    assert moved.matches.dtype == torch.bool


def test_an_error_in_a_reading_thread_is_raised(tmp_path, tokenizer):
    split = Split.open(made.folder(tmp_path / "data"), "train")
    with open(tmp_path / "data" / "train_ims.npy", "rb+") as file:
        file.truncate(300)
    with pytest.raises(InputError, match="became shorter while being read"):
        list(Loader(split, tokenizer, 4).epoch(0))


# Twins


def test_twins_share_their_batch(split, tokenizer):
    """Sentences of two twins are adjacent, and every sentence occurs once."""
    loader = Loader(split, tokenizer, 4, twins=True)
    for epoch in range(5):
        order = loader.order(epoch).tolist()
        assert sorted(order) == list(range(24))
        images = split.image_of_text[order].tolist()
        for one, other in ((0, 7), (3, 4)):
            places = [place for place, image in enumerate(images) if image == one]
            assert all(other in (images[max(0, place - 1)], images[min(23, place + 1)]) for place in places)
    assert loader.order(0).tolist() != loader.order(1).tolist()


def test_a_split_without_twins_is_refused(tmp_path, tokenizer):
    folder = made.folder(tmp_path / "data")
    (folder / "train_twins.npz").unlink()
    with pytest.raises(
        InputError, match=r"train_twins\.npz is not there: `regard data scenes`, .* set train\.twins=false"
    ):
        Loader(Split.open(folder, "train"), tokenizer, 4, twins=True)
