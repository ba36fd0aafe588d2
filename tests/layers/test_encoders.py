import pytest
import torch

from regard.batch import Texts
from regard.layers.encoders import GRUEncoder
from regard.words import Vocabulary

CAPTIONS = ["a dog runs in the snow", "", "the dog's bone", "A t-shirt"]


@pytest.fixture
def vocabulary():
    return Vocabulary.build(CAPTIONS, min_count=1)


def gru(vocabulary, **options):
    torch.manual_seed(0)
    return GRUEncoder(vocabulary, 8, word_dim=6, **options)


def widened(texts: Texts, by: int, token: int) -> Texts:
    """The same texts with more padding, and with `token` lying in all of it."""
    pad = torch.nn.functional.pad
    mask = pad(texts.mask, (0, by))
    words = None if texts.words is None else pad(texts.words, (0, by))
    return Texts(pad(texts.tokens, (0, by)).masked_fill(~mask, token), mask, words)


def check_fragments(encoder, captions):
    """Shape, padding and independence, for any text encoder in eval mode."""
    encoder.eval()
    texts = encoder.tokenizer(captions)
    whole = encoder(texts)
    lengths = [len(encoder.tokenizer.words(caption)) for caption in captions]
    assert whole.mask.sum(1).tolist() == whole.lengths().tolist() == lengths
    assert whole.vectors.shape[1] == max(lengths)
    assert not whole.vectors[~whole.mask].any()
    assert whole.vectors[whole.mask].any(1).all()
    wide = encoder(widened(texts, 5, token=3))
    assert torch.equal(wide.mask, whole.mask)
    torch.testing.assert_close(wide.vectors, whole.vectors)
    for at, caption in enumerate(captions):
        alone = encoder(encoder.tokenizer([caption])).vectors[0]
        torch.testing.assert_close(alone, whole.vectors[at, : lengths[at]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(encoder(texts[[at]]).vectors[0], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_gru_fragments(vocabulary, num_layers):
    check_fragments(gru(vocabulary, num_layers=num_layers), CAPTIONS)


def test_gru_is_the_mean_of_two_directions(vocabulary):
    encoder = gru(vocabulary)
    texts = vocabulary(CAPTIONS[:1])
    both, _ = encoder.gru(encoder.embedding(texts.tokens))
    torch.testing.assert_close(encoder(texts).vectors, (both[..., :8] + both[..., 8:]) / 2)


def test_gru_gradients_reach_every_parameter_but_no_padding(vocabulary):
    encoder = gru(vocabulary)
    encoder(vocabulary(CAPTIONS)).vectors.sum().backward()
    assert all(parameter.grad.any() for parameter in encoder.parameters())
    assert not encoder.embedding.weight.grad[0].any()
    assert encoder.pretrained_parameters() == []


def test_gru_starts_from_given_vectors(vocabulary):
    given = torch.randn(len(vocabulary), 6)
    weight = gru(vocabulary, vectors=given).embedding.weight
    assert torch.equal(weight[1:], given[1:])
    assert not weight[0].any()
    assert weight.requires_grad
    start = gru(vocabulary).embedding.weight
    assert start.abs().max() <= 0.1
    assert torch.equal(start, gru(vocabulary).embedding.weight)


def test_gru_dropout_only_trains(vocabulary):
    encoder = gru(vocabulary, dropout=0.5)
    texts = vocabulary(CAPTIONS)
    assert not torch.equal(encoder(texts).vectors, encoder(texts).vectors)
    encoder.eval()
    assert torch.equal(encoder(texts).vectors, encoder(texts).vectors)
