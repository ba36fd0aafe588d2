"""Encode a split: its images and texts in batches, on the model's device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from regard.batch import Images
from regard.data import Split
from regard.files import InputError
from regard.matcher import Matcher

BATCH = 128  # items encoded at a time


def encode(model: Matcher, split: Split) -> tuple[Any, Any]:
    """The encodings of all images and all texts of a split, on the model's device."""
    return encode_images(model, split), encode_texts(model, split, np.arange(split.num_texts))


def encode_images(model: Matcher, split: Split, kept: Callable[[Any], Any] = lambda encoding: encoding) -> Any:
    """The encodings of all images of a split, on the model's device, or what is `kept` of each batch of them."""
    device = next(model.parameters()).device
    read = (_finite(split, rows).to(device).to(torch.float32) for rows in batches(split.num_images))
    parts = [kept(model.encode_images(images)) for images in read]
    return type(parts[0]).cat(parts)


def encode_texts(model: Matcher, split: Split, rows: np.ndarray) -> Any:
    """The encodings of some texts of a split, on the model's device. Raises InputError where there are none."""
    if not len(rows):
        raise InputError(f"{split.folder} {split.name} has no sentences: there is nothing to measure.")
    device = next(model.parameters()).device
    parts = [model.encode_texts(split.texts(rows[part], model.tokenizer).to(device)) for part in batches(len(rows))]
    return type(parts[0]).cat(parts)


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


def batches(count: int) -> list[np.ndarray]:
    return np.split(np.arange(count), range(BATCH, count, BATCH))


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
