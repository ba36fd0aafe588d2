"""Augmentation in training: VSE-infinity's dropping of regions and words (Chen et al. 2021, section 4)."""

from dataclasses import replace
from typing import Any

import torch

from regard.batch import Images, Texts
from regard.draws import DROPPED, uniform


def drop_regions(images: Images, part: float) -> Images:
    """Return the images with a random `part` of their regions masked out. Every image keeps at least one region."""
    if not part:
        return images
    keep = images.mask & (uniform(images.draws, images.mask, 1, DROPPED)[..., 0] >= part)
    return replace(images, mask=torch.where(keep.any(1, keepdim=True), keep, images.mask))


def drop_words(texts: Texts, part: float, tokenizer: Any) -> Texts:
    """Return the texts with a random `part` of their tokens replaced by the tokenizer's unknown (or mask) token.

    Word pieces such as [CLS] are kept. In our own vocabulary, `<start>` and `<end>` are replaced like any other word.
    """
    if not part:
        return texts
    drop = texts.mask & (uniform(texts.draws, texts.mask, 1, DROPPED)[..., 0] < part)
    if texts.words is not None:
        drop &= (texts.words > 0) & ~torch.isin(texts.tokens, texts.tokens.new_tensor(tokenizer.special_numbers))
    return replace(texts, tokens=texts.tokens.masked_fill(drop, tokenizer.unknown_number))
