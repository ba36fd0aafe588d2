import numpy as np
import pytest
import torch

import made
from regard.layers.encoders import GRUEncoder
from regard.models import MODELS
from regard.models.scan import SCAN
from regard.score import score_all, score_batch, score_pairs


class Counting(SCAN):
    """SCAN, with how often and on what it was asked for scores."""

    def score(self, images, texts):
        self.asked.append((len(images), len(texts), texts.mask.shape[1]))
        return super().score(images, texts)


def encoded(count=5, sentences=7):
    """A model, encodings and the scores at once."""
    torch.manual_seed(0)
    model = Counting(SCAN.Config(dim=made.DIM), made.FEATURE_DIM, GRUEncoder(made.VOCABULARY, made.DIM))
    model = model.eval().double()
    images, texts = model.encode_images(made.images(count).to(torch.float64)), model.encode_texts(made.texts(sentences))
    model.asked = []
    return model, images, texts, SCAN.score(model, images, texts).detach()


@torch.no_grad()
def test_texts_of_one_length_share_a_block_without_padding():
    model, images, texts, whole = encoded(sentences=30)
    scores = score_all(model, images, texts, block=(5, 3))
    torch.testing.assert_close(scores.double(), whole, **made.ROUNDED)
    lengths = texts.lengths().bincount().tolist()
    for length, count in enumerate(lengths):
        widths = [columns for _, columns, words in model.asked if words == length]
        assert sum(widths) == count
        assert len(widths) == (max(1, round(count / 3)) if count else 0)
        assert not widths or max(widths) - min(widths) <= 1


@torch.no_grad()
def test_scores_go_into_a_memory_map(tmp_path):
    model, images, texts, whole = encoded()
    out = np.lib.format.open_memmap(tmp_path / "scores.npy", "w+", np.float32, (5, 7))
    progress = []
    score_all(model, images, texts, block=(2, 3), out=out, progress=progress.append)
    out.flush()
    found = torch.from_numpy(np.load(tmp_path / "scores.npy"))
    torch.testing.assert_close(found.double(), whole, **made.ROUNDED)
    assert sum(progress) == 35


def test_with_gradients_small_work_is_done_at_once_and_large_work_again_backward():
    model, images, texts, _ = encoded()
    score_batch(model, images, texts, (5, 7))
    assert len(model.asked) == 1
    model.asked.clear()
    score_batch(model, images, texts, (3, 4)).sum().backward()
    assert len(model.asked) == 2 * 4  # each block once forward, once backward


@torch.no_grad()
def test_no_image_or_no_text_gives_an_empty_matrix():
    model, images, texts, _ = encoded()
    assert score_all(model, images[:0], texts).shape == (0, 7)
    assert score_all(model, images, texts[:0]).shape == (5, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_encodings_in_half_precision_are_scored_in_float32(name, dtype):
    model = made.model(name)
    images, texts = model.encode_images(made.images()), model.encode_texts(made.texts())
    for stored in ((images.to(dtype), texts.to(dtype)), (images.to(dtype), texts)):
        expected = model.score(*(side.to(torch.float32) for side in stored))
        torch.testing.assert_close(score_all(model, *stored), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_without_texts_is_not_scored(name):
    """As on a process of several whose texts are no candidates of some images."""
    pairs = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    model = made.model(name).double()
    images, texts = made.images(3).to(torch.float64), made.texts(3).to(torch.float64)
    images, texts = model.encode_images(images), model.encode_texts(texts)
    scores = score_pairs(model, images, texts, pairs)
    torch.testing.assert_close(scores, model.score(images, texts) * pairs, **made.EXACT)
    scores.sum().backward()


@pytest.mark.parametrize("name", ["scan", "sgraf"])
def test_some_pairs_have_the_scores_and_gradients_of_all(name):
    """In training mode. SAF normalises over all pairs; if every pair is listed, its statistics are those of all."""
    every = torch.ones(5, 7, dtype=torch.bool)
    some = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    for pairs in (every, some) if name == "scan" else (every,):
        found = []
        for one_by_one in (False, True):
            model = made.model(name, **({"reasoning": "saf"} if name == "sgraf" else {})).double().train()
            images = model.encode_images(made.images(5).to(torch.float64))
            texts = model.encode_texts(made.texts(7).to(torch.float64))
            scores = score_pairs(model, images, texts, pairs) if one_by_one else model.score(images, texts) * pairs
            (scores * scores).sum().backward()
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            found.append([scores.detach(), *gradients, *model.buffers()])
        for first, second in zip(*found, strict=True):
            torch.testing.assert_close(first, second, **made.EXACT)
