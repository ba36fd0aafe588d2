"""The scores of all pairs, computed in blocks: `score_batch` for training, `score_all` for everything else."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regard.batch import Batch, to_device
from regard.layers.normalisation import Moments
from regard.matcher import Matcher
from regard.runtime import Precision, fast_products

B = TypeVar("B", bound=Batch)
T = TypeVar("T")

# Float32 numbers that the pairs of a block may take: on a CPU, what fits into its caches; on a GPU, what keeps it busy.
NUMBERS = {"cpu": 2**20, "cuda": 2**27}
TRAINING_BLOCK = 64, 128  # images and texts of a block with gradients
MIN_PAIRS = 1024  # per block: matrix products of fewer pairs are slow


def score_batch(
    model: Matcher, images: Any, texts: Any, block: tuple[int, int] = TRAINING_BLOCK
) -> Float[Tensor, "image text"]:
    """Return the scores of all pairs of a training batch, with gradients, `block` images by texts at a time.

    If there is more than one block, each block is computed again in the backward pass, so that memory holds the
    intermediate tensors of one block only. A batch normalisation inside `score` uses the statistics of the whole batch,
    which takes one more pass over the blocks.
    """
    rows, columns = block
    if len(images) <= rows and len(texts) <= columns:
        return model.score(images, texts)
    parts = [[(i, t) for t in _cut(texts, columns)] for i in _cut(images, rows)]
    score = _score_of_parts(model, [part for row in parts for part in row])
    return torch.cat([torch.cat([_recomputed(score, i, t) for i, t in row], 1) for row in parts])


def score_pairs(
    model: Matcher, images: Any, texts: Any, pairs: Bool[Tensor, "image text"]
) -> Float[Tensor, "image text"]:
    """Return the scores of some pairs of a training batch, with gradients, and 0 elsewhere. Each text is in a pair.

    Each image is scored with its texts in one call, and an image without texts in none. A batch normalisation inside
    `score` uses the statistics of all pairs.
    """
    places = {image: row.nonzero()[:, 0] for image, row in enumerate(pairs.cpu()) if row.any()}
    parts = {image: (images[image : image + 1], texts[some]) for image, some in places.items()}
    score = _score_of_parts(model, list(parts.values()))
    found: dict[int, Tensor] = {image: score(*part)[0] for image, part in parts.items()}
    nothing = next(iter(found.values())).new_zeros(len(texts))
    rows = [nothing] * len(images)
    for image, scores in found.items():
        rows[image] = nothing.index_put((to_device(places[image], scores.device),), scores)
    return torch.stack(rows)


def _score_of_parts(model: Matcher, parts: list[tuple[Any, Any]]) -> Callable[[Any, Any], Tensor]:
    """The model's `score` of each part of a training batch, normalised by the statistics of all parts and processes."""
    norm = model.pair_norm if model.training else None
    if norm is None:
        return model.score
    observed = [_recomputed(partial(norm.moments_in, model.score), i, t) for i, t in parts]
    moments = Moments.combined(observed).over_ranks()
    norm.record(moments)
    return partial(norm.with_moments, moments, model.score)


@torch.no_grad()
def score_all(
    model: Matcher,
    images: Any,
    texts: Any,
    *,
    block: tuple[int, int] | None = None,
    out: np.ndarray | None = None,
    progress: Callable[[int], object] | None = None,
    precision: Precision = "float32",
) -> Float[Tensor, "image text"]:
    """Return the scores of all pairs of two encodings, without gradients, as a float32 tensor on the CPU.

    Texts of equal length share a block, so that little padding is computed. Encodings that are stored in float16 are
    converted to float32 block by block.

    `block` is about the number of images and of texts scored at a time; by default, as many as the processor's caches
    hold. The scores are written to `out`, a float32 array of [image, text] such as a memory map, if it is given.
    `progress(count)` is called with the number of pairs of each block that has been scored. `precision` is the type
    that matrix products are computed in.
    """
    images, texts = model.for_scoring(images), model.for_scoring(texts)
    device = next(iter(texts.tensors().values())).device
    rows, columns = block or block_of(model, images, texts, _numbers(device))
    scores = torch.empty(len(images), len(texts)) if out is None else torch.from_numpy(out)
    with fast_products(precision, device.type):
        for places in _by_length(texts, columns):
            some_texts = _at_least_float32(texts[places]).trimmed()
            found = torch.empty(len(images), len(some_texts), device=device)
            for first in range(0, len(images), rows):
                some_images = _at_least_float32(images[first : first + rows])
                found[first : first + rows] = model.score(some_images, some_texts)
                if progress:
                    progress(len(some_images) * len(some_texts))
            scores[:, places] = found.cpu()
    return scores


def _numbers(device: torch.device) -> int:
    """How many float32 numbers the pairs of a block may take: the same for each call on one kind of machine."""
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else math.inf
    return int(min(NUMBERS[device.type], memory / 256))  # four bytes per number, and several such tensors exist at once


def block_of(model: Matcher, images: Any, texts: Any, numbers: int) -> tuple[int, int]:
    """Return how many images and texts share a block whose pairs take about `numbers` float32 numbers.

    The block has about as many regions as words, if there are enough of both.
    """
    regions, words = images.width, texts.width
    pairs = max(MIN_PAIRS, numbers // max(1, model.pair_size(regions, words)))
    columns = max(1, min(len(texts), round(math.sqrt(pairs * regions / words))))
    rows = max(1, min(len(images), pairs // columns))
    return rows, max(columns, min(len(texts), pairs // rows))


def _at_least_float32(encoding: B) -> B:
    """The encoding in float32 if it is stored in half precision, and unchanged otherwise."""
    halves = (torch.float16, torch.bfloat16)
    return encoding.map(lambda tensor: tensor.float() if tensor.dtype in halves else tensor)


def _by_length(texts: Any, columns: int) -> list[Tensor | slice]:
    """The places of the texts in blocks of about `columns`, each of texts of one length: no padding is computed."""
    if texts.width == 1:
        return [slice(first, first + columns) for first in range(0, len(texts), columns)]
    lengths, order = texts.lengths().sort()
    groups = order.split(lengths.unique_consecutive(return_counts=True)[1].tolist())
    return [part for group in groups for part in group.tensor_split(max(1, round(len(group) / columns)))]


def _recomputed(function: Callable[[Any, Any], T], images: Batch, texts: Batch) -> T:
    return checkpoint(function, images, texts, use_reentrant=False)


def _cut(items: Batch, size: int) -> list[Batch]:
    return [items[first : first + size] for first in range(0, len(items), size)]
