"""Score every pair of a split, and compute the retrieval metrics."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from regard.data import Split
from regard.encode import batch_rows, check_inputs, encode_images, encode_texts, read_texts
from regard.matcher import Matcher
from regard.metrics import Protocol, Recalls, recalls
from regard.runtime import Precision
from regard.score import score_all

EncodingType = Literal["float32", "float16"]
AT_ONCE = 2048  # texts scored against all images


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
    `out`, `block`, `progress` and `precision` are those of `score_all`. Raises InputError if the split lacks what the
    model needs.
    """
    check_inputs(model, split)
    was_training = model.training
    model.eval()
    try:
        exact = encodings == "float32" and next(model.parameters()).dtype == torch.float64
        stored = torch.float64 if exact else getattr(torch, encodings)
        images = encode_images(model, split, lambda batch: model.for_scoring(batch).to(stored))
        scores = np.empty((split.num_images, split.num_texts), np.float32) if out is None else out
        for rows in np.array_split(_shortest_first(model, split), max(1, split.num_texts // AT_ONCE)):
            texts = encode_texts(model, split, rows)
            scores[:, rows] = score_all(
                model, images, texts, block=block, progress=progress, precision=precision
            ).numpy()
        return torch.from_numpy(scores)
    finally:
        model.train(was_training)


def _shortest_first(model: Matcher, split: Split) -> np.ndarray:
    """The rows of the texts, shortest text first."""
    without_relations: Any = replace(split, text_relations=None)
    read = (read_texts(without_relations, rows, model.tokenizer) for rows in batch_rows(split.num_texts))
    lengths = [texts.lengths().numpy() for texts in read]
    return np.concatenate(lengths).argsort(kind="stable")
