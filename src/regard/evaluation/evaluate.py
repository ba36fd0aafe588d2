"""Score every pair of a split, in one process or divided over several, and compute the retrieval metrics."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from regard import ranks
from regard.data import Split
from regard.encode import batch_rows, check_inputs, encode_images, encode_texts, read_texts
from regard.matcher import Matcher
from regard.metrics import Protocol, Recalls, recalls
from regard.runtime import Precision
from regard.score import score_all

EncodingType = Literal["float32", "float16"]
AT_ONCE = 128  # texts scored against all images: so few that processes have nearly equal shares


def evaluate(model: Matcher, split: Split, protocol: Protocol = "full") -> Recalls:
    """Return the seven metrics of a model on a split, with the median and mean ranks."""
    return recalls(scores_of(model, split).numpy(), split.image_of_text, protocol)


@torch.inference_mode()
def scores_of(
    model: Matcher,
    split: Split,
    *,
    out: np.ndarray | None = None,
    block: tuple[int, int] | None = None,
    progress: Callable[[int], object] | None = None,
    precision: Precision = "float32",
    encodings: EncodingType = "float32",
) -> torch.Tensor:
    """Return the score of each image with each text of a split: float32 [image, text].

    The model is put into eval mode for the call. Texts of similar length are encoded and scored together, AT_ONCE at a
    time, so that memory holds the encodings of the images (stored as `encodings`), those of some texts, and the scores.
    With several processes (`regard.ranks`), each encodes some images and scores some texts, and all return the whole
    matrix, equal to that of one process to the last bit. `out`, `block`, `progress` and `precision` are those of
    `score_all`. Raises InputError if the split lacks what the model needs.
    """
    ranks.together(lambda: check_inputs(model, split))
    was_training = model.training
    model.eval()
    try:
        images = encode_divided(lambda rows: stored_images(model, split, rows, encodings), split.num_images)
        return score_divided(
            model,
            images,
            lambda rows: encode_texts(model, split, rows),
            shortest_first(model, split),
            out=out,
            block=block,
            progress=progress,
            precision=precision,
        )
    finally:
        model.train(was_training)


def score_divided(
    model: Matcher,
    images: Any,
    texts_at: Callable[[np.ndarray], Any],
    order: np.ndarray,
    *,
    out: np.ndarray | None = None,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return the score of each image with each text, divided over the processes by texts: float32 [image, text].

    `texts_at(rows)` returns the encodings of the texts at `rows`, and `order` has all rows, those of similar length
    together. The other arguments are those of `score_all`.
    """
    scores = np.empty((len(images), len(order)), np.float32) if out is None else out
    parts = text_parts(order)[::-1]  # the longest texts first: in the last round, some processes may have none
    for first in range(0, len(parts), ranks.world()):
        some = parts[first : first + ranks.world()]

        def own_scores(some: list[np.ndarray] = some) -> torch.Tensor:
            if ranks.rank() >= len(some):
                return torch.empty(len(images), 0)
            return score_all(model, images, texts_at(some[ranks.rank()]), progress=progress, **options)

        own, rows = ranks.together(own_scores), np.concatenate(some)
        scores[:, rows] = ranks.gather_columns(own).numpy()
        if progress and len(rows) > own.shape[1]:
            progress(len(own) * (len(rows) - own.shape[1]))  # pairs that the other processes scored
    return torch.from_numpy(scores)


def text_parts(order: np.ndarray) -> list[np.ndarray]:
    """Return the rows of texts that are encoded and scored together, at most AT_ONCE in each part.

    They are the same for any number of processes: a sum in a matrix product may depend on how many rows the matrix has.
    """
    return np.array_split(order, max(1, -(-len(order) // AT_ONCE)))


def stored_images(model: Matcher, split: Split, rows: np.ndarray, encodings: EncodingType = "float32") -> Any:
    """Return the encodings of the images at `rows` as they are kept for scoring."""
    exact = encodings == "float32" and next(model.parameters()).dtype == torch.float64
    stored = torch.float64 if exact else getattr(torch, encodings)
    return encode_images(model, split, rows, lambda batch: model.for_scoring(batch).to(stored))


def encode_divided(encode_rows: Callable[[np.ndarray], Any], count: int) -> Any:
    """Return `encode_rows` of the rows 0 to `count` - 1, divided over the processes in whole batches.

    The processes must call this together. Raises InputError on all of them if one does.
    """
    batches = batch_rows(count)
    if len(batches) < ranks.world():  # a process without a batch would have no encoding to begin with
        return ranks.together(lambda: encode_rows(np.arange(count)))
    first, end = (len(batches) * place // ranks.world() for place in (ranks.rank(), ranks.rank() + 1))
    return ranks.gather(ranks.together(lambda: encode_rows(np.concatenate(batches[first:end]))))


def shortest_first(model: Matcher, split: Split) -> np.ndarray:
    """Return the rows of the texts, shortest text first."""
    without_relations: Any = replace(split, text_relations=None)
    read = (read_texts(without_relations, rows, model.tokenizer) for rows in batch_rows(split.num_texts))
    lengths = [texts.lengths().numpy() for texts in read]
    return np.concatenate(lengths).argsort(kind="stable")
