import torch

import made
from regard.data.augment import drop_regions, drop_words


def test_dropped_regions_are_masked_in_place_and_every_image_keeps_one():
    torch.manual_seed(0)
    images = made.images(200, 6)
    dropped = drop_regions(images, 0.5)
    assert torch.equal(dropped.features, images.features)
    assert not (dropped.mask & ~images.mask).any()
    assert dropped.mask.any(1).all()
    several = images.mask.sum(1) > 1
    kept = dropped.mask[several].sum() / images.mask[several].sum()
    assert 0.45 < kept < 0.62  # a little above a half: some images would have kept none
    assert drop_regions(images, 0.99).mask.any(1).all()
    assert drop_regions(images, 0.0) is images


def test_dropped_words_become_the_unknown_token_and_padding_is_kept():
    torch.manual_seed(0)
    texts = made.texts(200)
    hidden = drop_words(texts, 0.3, made.VOCABULARY)
    changed = hidden.tokens != texts.tokens
    assert not changed[~texts.mask].any()
    assert (hidden.tokens[changed] == made.VOCABULARY.unknown_number).all()
    assert torch.equal(hidden.mask, texts.mask)
    assert 0.25 < changed.sum() / texts.mask.sum() < 0.35
    assert drop_words(texts, 0.0, made.VOCABULARY) is texts


def test_special_tokens_of_word_pieces_are_kept():
    torch.manual_seed(0)
    texts = made.texts(20)
    marks = torch.where(texts.mask, torch.arange(11) % 5, 0)  # every fifth token is of no word
    pieces = type(texts)(texts.tokens, texts.mask, words=marks)
    hidden = drop_words(pieces, 0.9, made.VOCABULARY)
    assert torch.equal(hidden.tokens[marks == 0], texts.tokens[marks == 0])
    assert (hidden.tokens != texts.tokens).sum() > 0.8 * (marks > 0).sum()
