"""Every pair's score, in blocks: the one path of training, evaluation and search."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regard.batch import Batch, Fragments
from regard.matcher import Matcher
from regard.runtime import Precision, fast_products

# How many float32 numbers a block may hold for its pairs: on a CPU what its caches keep, on a GPU what keeps it busy.
NUMBERS = {"cpu": 2**20, "cuda": 2**27}
TRAINED = 64, 128  # a block with gradients
LEAST = 1024  # pairs of a block: with fewer, the products of pairs are slow


def score_all(
    model: Matcher,
    images: Any,
    texts: Any,
    block: tuple[int, int] | None = None,
    out: np.ndarray | None = None,
    progress: Any = None,
    precision: Precision = "float32",
) -> Float[Tensor, "image text"]:
    """The scores of all pairs of two encodings, `block` images by texts at a time: by default as many as caches hold.

    With gradients on, each block of several is recomputed in the backward pass, so that memory is one block's. Without,
    texts of like length share a block, so that little padding is computed. `out`, a float32 array of [image, text] (a
    memory map, say), receives the scores; `progress(done)` is told how many pairs each block scored. Encodings held in
    float16 are widened block by block, and products are of `precision`: without gradients alone.
    """
    if torch.is_grad_enabled():
        rows, columns = block or TRAINED
        if len(images) <= rows and len(texts) <= columns:
            return model.score(images, texts)
        parts = [[_recomputed(model, i, t) for t in _cut(texts, columns)] for i in _cut(images, rows)]
        return torch.cat([torch.cat(row, 1) for row in parts])

    images, texts = model.scored(images), model.scored(texts)
    device = next(iter(texts.tensors().values())).device
    rows, columns = block or block_of(model, images, texts, _numbers(device))
    scores = torch.empty(len(images), len(texts), device=device) if out is None else torch.from_numpy(out)
    with fast_products(precision, device.type):
        for at in _alike(texts, columns):
            some_texts = texts[at].map(_widened)
            if isinstance(some_texts, Fragments):
                some_texts = some_texts.trimmed()
            for first in range(0, len(images), rows):
                some_images = images[first : first + rows].map(_widened)
                found = model.score(some_images, some_texts).float()
                scores[first : first + rows, at] = found if out is None else found.cpu()
                if progress:
                    progress(found.numel())
    return scores.cpu()


def _numbers(device: torch.device) -> int:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    return int(min(NUMBERS[device.type], free / 64))  # a number is four bytes, and steps of a score live together


def block_of(model: Matcher, images: Any, texts: Any, numbers: int) -> tuple[int, int]:
    """The images and texts of a block of `numbers` float32 for its pairs: as many regions as words, where it can."""
    regions, words = (side.mask.shape[1] if isinstance(side, Fragments) else 1 for side in (images, texts))
    pairs = max(LEAST, numbers // max(1, model.pair_size(regions, words)))
    columns = max(1, min(len(texts), round(math.sqrt(pairs * regions / words))))
    rows = max(1, min(len(images), pairs // columns))
    return rows, max(columns, min(len(texts), pairs // rows))


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _alike(texts: Any, columns: int) -> list[Tensor | slice]:
    """The texts in blocks of about `columns`, each of texts of one length: nothing is computed for padding."""
    if not isinstance(texts, Fragments):
        return [slice(first, first + columns) for first in range(0, len(texts), columns)]
    lengths, order = texts.lengths().sort()
    groups = order.split(lengths.unique_consecutive(return_counts=True)[1].tolist())
    return [part for group in groups for part in group.tensor_split(max(1, round(len(group) / columns)))]


def _recomputed(model: Matcher, images: Batch, texts: Batch) -> Tensor:
    kinds, names = (type(images), type(texts)), (list(images.tensors()), list(texts.tensors()))

    def score(*tensors: Tensor) -> Tensor:
        cut = len(names[0])
        first = kinds[0](**dict(zip(names[0], tensors[:cut], strict=True)))
        second = kinds[1](**dict(zip(names[1], tensors[cut:], strict=True)))
        return model.score(first, second)

    return checkpoint(score, *images.tensors().values(), *texts.tensors().values(), use_reentrant=False)


def _cut(items: Batch, size: int) -> list[Batch]:
    return [items[first : first + size] for first in range(0, len(items), size)]
