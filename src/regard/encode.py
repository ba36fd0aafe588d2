"""Encode a split: its images and texts in batches, on the model's device."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from regard.batch import Images
from regard.data import Split
from regard.files import InputError
from regard.joint import JointTokenizer
from regard.matcher import Matcher

BATCH = 128  # items encoded at a time

# For each optional input of a model, how to get it for the data folder {folder}.
REMEDIES = {
    "boxes": "boxes come with the region features: see docs/data.md",
    "labels": "labels come with the region features: see docs/data.md",
    "relations": "`regard data relations {folder}` makes them from the boxes",
    "text_relations": "`regard data parse {folder}` makes them from the sentences",
    "roles": "`regard data parse {folder}` makes them from the sentences",
    "embeddings": "`regard extract PHOTOGRAPHS --out {folder} --embeddings NAME` stores them",
}


def encode(model: Matcher, split: Split) -> tuple[Any, Any]:
    """Return the encodings of all images and of all texts of a split, on the model's device."""
    return encode_images(model, split, np.arange(split.num_images)), encode_texts(
        model, split, np.arange(split.num_texts)
    )


def encode_images(
    model: Matcher, split: Split, rows: np.ndarray, keep: Callable[[Any], Any] = lambda encoding: encoding
) -> Any:
    """Return the encodings of the images at `rows`, on the model's device.

    `keep` is applied to the encoding of each batch, to keep less than all of it. Raises InputError if features contain
    NaN or infinity.
    """
    parts = [keep(model.encode_images(read_images(model, split, rows[part]))) for part in batch_rows(len(rows))]
    return type(parts[0]).cat(parts)


def encode_texts(model: Matcher, split: Split, rows: np.ndarray) -> Any:
    """Return the encodings of the texts at `rows`, on the model's device. Raises InputError if there are none."""
    if not len(rows):
        raise InputError(f"{split.folder} {split.name} has no sentences: there is nothing to measure.")
    device = next(model.parameters()).device
    read = (read_texts(split, rows[part], model.tokenizer) for part in batch_rows(len(rows)))
    parts = [model.encode_texts(texts.to(device)) for texts in read]
    return type(parts[0]).cat(parts)


def read_texts(split: Split, rows: np.ndarray, tokenizer: Any) -> Any:
    """Return the texts at `rows` as a model's tokenizer encodes them; for an ensemble, those of each tokenizer."""
    if isinstance(tokenizer, JointTokenizer):
        return tokenizer.kind.of([read_texts(split, rows, own) for own in tokenizer.tokenizers])
    return split.texts(rows, tokenizer)


def check_inputs(model: Matcher, split: Split, present: Collection[str] = ()) -> None:
    """Raise InputError if the split lacks something that the model needs; the message says how to make it.

    Inputs in `present` come from elsewhere.
    """
    if model.feature_dim not in (0, split.feature_dim):  # 0: no regions are read
        raise InputError(
            f"{split.folder} {split.name} has {split.feature_dim} features per region, and the model was trained with "
            f"{model.feature_dim}: use features of the same detector."
        )
    most = split.num_regions
    least = most if split.region_counts is None else int(split.region_counts[:].min(initial=most))
    if model.num_regions and (least, most) != (model.num_regions,) * 2:
        raise InputError(
            f"{split.folder} {split.name} has {least if least == most else f'{least} to {most}'} regions per image, "
            f"and the model was made for {model.num_regions}, with numbers of its own for each: use features of "
            f"{model.num_regions} regions per image."
        )
    absent = sorted(model.needs() - split.fields - set(present))
    if absent:
        how = "; ".join(REMEDIES[name].format(folder=split.folder) for name in absent)
        raise InputError(
            f"{type(model).__name__} as configured needs {' and '.join(absent)}, which {split.folder} {split.name} "
            f"does not have: {how}."
        )


def batch_rows(count: int) -> list[np.ndarray]:
    """Return the rows 0 to `count` - 1 in batches."""
    return np.split(np.arange(count), range(BATCH, count, BATCH))


def read_images(model: Matcher, split: Split, rows: np.ndarray) -> Images:
    """Return the images at `rows` on the model's device, in the dtype of its weights.

    Raises InputError for NaN or infinity in their features or boxes, because it would spread to every score.
    """
    images = split.images(rows)
    read = {"features": images.features}
    if images.boxes is not None and "boxes" in model.needs():
        read["boxes"] = images.boxes
    for name, values in read.items():
        is_wrong = ~values.isfinite().flatten(1).all(1).numpy()
        if is_wrong.any():
            row = int(rows[is_wrong][0])
            raise InputError(
                f"{split.folder} {split.name}: the {name} of image {row} ({split.ids[row]}) contain NaN or infinity; "
                f"`regard data check {split.folder}` lists all such rows."
            )
    weight = next(model.parameters())
    return images.to(weight.device).to(weight.dtype)
