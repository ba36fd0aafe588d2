"""Score every pair of a split, and measure."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from regard.data import Split
from regard.encode import batches, encode_images, encode_texts, missing
from regard.matcher import Matcher
from regard.metrics import Protocol, Recalls, recalls
from regard.runtime import Precision
from regard.score import score_all

Held = Literal["float32", "float16"]
AT_ONCE = 2048  # texts scored against all images


def evaluate(model: Matcher, split: Split, protocol: Protocol = "full") -> Recalls:
    """The seven metrics (and the median and mean ranks) of a model on a split."""
    return recalls(scores_of(model, split).numpy(), split.image_of_text, protocol)


@torch.inference_mode()
def scores_of(
    model: Matcher,
    split: Split,
    out: np.ndarray | None = None,
    block: tuple[int, int] | None = None,
    progress: Any = None,
    precision: Precision = "float32",
    held: Held = "float32",
) -> torch.Tensor:
    """The score of every image and text of a split: float32 [image, text], into `out` where it is given.

    The model is put into eval mode, and back. Texts of like length are encoded and scored together, some at a time, so
    that the encodings of the images, `held` in that type, and the scores are what memory holds. Products of pairs are
    of `precision`. Raises InputError where the split lacks what the model needs.
    """
    missing(model, split)
    was_training = model.training
    model.eval()
    try:
        images = encode_images(model, split, lambda found: model.scored(found).to(getattr(torch, held)))
        scores = np.empty((split.num_images, split.num_texts), np.float32) if out is None else out
        for rows in np.array_split(_by_length(model, split), max(1, split.num_texts // AT_ONCE)):
            texts = encode_texts(model, split, rows)
            scores[:, rows] = score_all(model, images, texts, block, progress=progress, precision=precision).numpy()
        return torch.from_numpy(scores)
    finally:
        model.train(was_training)


def _by_length(model: Matcher, split: Split) -> np.ndarray:
    """The texts' rows, shortest first."""
    tokens = replace(split, text_relations=None)
    lengths = [tokens.texts(rows, model.tokenizer).mask.sum(1).numpy() for rows in batches(split.num_texts)]
    return np.concatenate(lengths).argsort(kind="stable")
