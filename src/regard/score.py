"""Every pair's score, in blocks: the one path of training, evaluation and search."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regard.batch import Batch, Fragments
from regard.matcher import Matcher


def score_all(
    model: Matcher,
    images: Any,
    texts: Any,
    block: tuple[int, int] = (64, 128),
    out: np.ndarray | None = None,
    progress: Any = None,
) -> Float[Tensor, "image text"]:
    """The scores of all pairs of two encodings, `block` images by texts at a time.

    With gradients on, each block of several is recomputed in the backward pass, so that memory is one block's. Without,
    texts of like length share a block, so that little padding is computed. `out`, a float32 array of [image, text] (a
    memory map, say), receives the scores; `progress(done)` is told how many pairs each block scored.
    """
    rows, columns = block
    if torch.is_grad_enabled():
        if len(images) <= rows and len(texts) <= columns:
            return model.score(images, texts)
        parts = [[_recomputed(model, i, t) for t in _cut(texts, columns)] for i in _cut(images, rows)]
        return torch.cat([torch.cat(row, 1) for row in parts])

    scores = torch.empty(len(images), len(texts)) if out is None else torch.from_numpy(out)
    order = texts.lengths().argsort() if isinstance(texts, Fragments) else torch.arange(len(texts))
    for at in order.split(columns):
        some_texts = texts[at]
        if isinstance(some_texts, Fragments):
            some_texts = some_texts.trimmed()
        for first in range(0, len(images), rows):
            some_images = images[first : first + rows]
            scores[first : first + rows, at.cpu()] = model.score(some_images, some_texts).float().cpu()
            if progress:
                progress(len(some_images) * len(at))
    return scores


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
