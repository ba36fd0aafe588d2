"""Encode a split, score every pair of it, and measure."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from regard.batch import Images
from regard.checkpoint import names_of, recipe_of
from regard.data import Split
from regard.files import InputError
from regard.matcher import Matcher
from regard.metrics import Protocol, Recalls, recalls
from regard.products import Precision
from regard.recipe import Recipe
from regard.score import score_all

BATCH = 128  # encoded at a time
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


def encode(model: Matcher, split: Split) -> tuple[Any, Any]:
    """The encodings of all images and all texts of a split, on the model's device."""
    return encode_images(model, split), encode_texts(model, split, np.arange(split.num_texts))


def encode_images(model: Matcher, split: Split, kept: Callable[[Any], Any] = lambda encoding: encoding) -> Any:
    """The encodings of all images of a split, on the model's device, or what is `kept` of each batch of them."""
    device = next(model.parameters()).device
    read = (_finite(split, rows).to(device).to(torch.float32) for rows in _batches(split.num_images))
    parts = [kept(model.encode_images(images)) for images in read]
    return type(parts[0]).cat(parts)


def encode_texts(model: Matcher, split: Split, rows: np.ndarray) -> Any:
    """The encodings of some texts of a split, on the model's device. Raises InputError where there are none."""
    if not len(rows):
        raise InputError(f"{split.folder} {split.name} has no sentences: there is nothing to measure.")
    device = next(model.parameters()).device
    parts = [model.encode_texts(split.texts(rows[part], model.tokenizer).to(device)) for part in _batches(len(rows))]
    return type(parts[0]).cat(parts)


def _batches(count: int) -> list[np.ndarray]:
    return np.split(np.arange(count), range(BATCH, count, BATCH))


def _by_length(model: Matcher, split: Split) -> np.ndarray:
    """The texts' rows, shortest first."""
    tokens = replace(split, text_relations=None)
    lengths = [tokens.texts(rows, model.tokenizer).mask.sum(1).numpy() for rows in _batches(split.num_texts)]
    return np.concatenate(lengths).argsort(kind="stable")


def _finite(split: Split, rows: np.ndarray) -> Images:
    """The images at `rows`. Raises InputError where their features hold NaN or infinity: so would every score."""
    images = split.images(rows)
    wrong = ~images.features.isfinite().flatten(1).all(1).numpy()
    if wrong.any():
        row = int(rows[wrong][0])
        raise InputError(
            f"{split.folder} {split.name}: the features of image {row} ({split.ids[row]}) hold NaN or infinity; "
            f"`regard data check {split.folder}` lists all such rows."
        )
    return images


def open_split(recipe: Recipe, data: str | os.PathLike[str], split: str) -> Split:
    """A split of a data folder, read as the recipe says."""
    settings = recipe.data
    opened = Split.open(
        data,
        split,
        captions_per_image=settings.captions_per_image,
        relation_threshold=settings.relation_threshold,
    )
    if settings.corrupted_relations and opened.relations is not None:
        everything = np.full(opened.num_images, opened.num_regions)
        lengths = everything if opened.region_counts is None else opened.region_counts
        opened = replace(opened, relations=opened.relations.corrupted(settings.corrupted_relations, lengths))
    return opened


def open_for(run: Path, data: str | os.PathLike[str], split: str) -> Split:
    """A split of a data folder, read as the run in folder `run` read its own; classes and relations go by name."""
    opened, names = open_split(recipe_of(run), data, split), names_of(run)
    return opened.renumbered(names) if names else opened


def missing(model: Matcher, split: Split) -> None:
    """Raises InputError where the split lacks something that the model needs, saying what makes it."""
    if split.feature_dim != model.feature_dim:
        raise InputError(
            f"{split.folder} {split.name} has regions of {split.feature_dim} features; "
            f"the model was made for {model.feature_dim}: want features of the same detector."
        )
    absent = sorted(model.needs() - split.fields)
    if absent:
        name = type(model).__name__
        hint = {
            "boxes": "boxes come with the region features: see docs/data.md",
            "labels": "labels come with the region features: see docs/data.md",
            "relations": f"`regard data relations {split.folder}` makes them from the boxes",
            "text_relations": f"`regard data parse {split.folder}` makes them from the sentences",
            "roles": f"`regard data parse {split.folder}` makes them from the sentences",
        }
        how = "; ".join(hint.get(field, "see docs/data.md") for field in absent)
        raise InputError(
            f"{name} as configured needs {' and '.join(absent)}; {split.folder} {split.name} has none: {how}."
        )
