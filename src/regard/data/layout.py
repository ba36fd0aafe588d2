"""The layouts of data folders: which files belong to a split, and which of their rows belong to which image.

The pairing of images and sentences comes from the ids, from a map, or from the caller. It is never guessed from the
number of rows, as common loaders do.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from regard.data.ids import sentence_number
from regard.data.lines import Lines, NamedLines
from regard.data.pickles import read_pickle
from regard.data.rows import ArrayColumn, Column, Rows, ScaledColumn, Shards, read_numbers
from regard.files import InputError, nearest

PHOTOGRAPHS = "photographs"  # folder of the regions that `regard extract` stored, beside the splits
SETTINGS = "settings.json"  # in that folder: the options of the extraction
MANY = 1000  # images of which a property of all is judged
PIXELS = 2.0  # a box coordinate above this is in pixels, not a fraction of the image


@dataclass(frozen=True)
class Files:
    """The files of one split: `{folder}/{split}_{name}`."""

    folder: Path
    split: str

    def path(self, name: str) -> Path:
        """Return the path of a file, whether it exists or not."""
        return self.folder / f"{self.split}_{name}"

    def found(self, *names: str) -> Path | None:
        """Return the path of the first of these files that exists, or None."""
        return next((self.path(name) for name in names if self.path(name).exists()), None)


def data_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the folder of the arrays: `folder`, or its `precomp/` (VSE-infinity's layout). Raises InputError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder that contains train_ims.npy and similar files.")
    inner = folder / "precomp"
    return inner if inner.is_dir() and not _names(folder) else folder


def splits_of(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the splits in a folder, train first."""
    return sorted(_names(data_folder(folder)), key=lambda name: (name != "train", name))


def check_splits(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the splits in a folder, train first. Raises InputError if there are none."""
    splits = splits_of(folder)
    if not splits:
        raise InputError(
            f"{folder} contains no *_ims.npy: expected a data folder, such as `regard data convert` writes."
        )
    return splits


def _names(folder: Path) -> set[str]:
    """The splits with features of their own, or with rows of the store of `regard extract`."""
    endings = ("_ims.npy", "_rows.npy")
    return {path.name.removesuffix(ending) for ending in endings for path in folder.glob(f"*{ending}")}


def files_of(folder: str | os.PathLike[str], split: str) -> Files:
    """Return the files of a split. Raises InputError that names the nearest split, or the command that makes one."""
    files = Files(data_folder(folder), split)
    if files.found("ims.npy", "rows.npy"):
        return files
    splits = splits_of(folder)
    if splits:
        rows = any(files.folder.glob("*_rows.npy"))  # of photographs that were extracted
        raise InputError(f"{files.path('rows.npy' if rows else 'ims.npy')} is not there. {nearest(split, splits)}")
    if raw := next((path for kind in ("*.tsv", "*.npz", "*/*.npz") for path in files.folder.glob(kind)), None):
        raise InputError(f"{folder} contains {raw.suffix} files: run `regard data convert {folder} --out DIR` first.")
    raise InputError(
        f"{files.path('ims.npy')} is not there, nor any other *_ims.npy. Give the folder that contains them."
    )


def features_of(files: Files) -> Rows | Shards:
    """Return the region features as stored: the split's file, or its rows of the store of `regard extract`."""
    path = files.path("ims.npy")
    if not path.exists() and (rows := files.found("rows.npy")):
        return Shards(sorted((files.folder / PHOTOGRAPHS).glob("*.npy")), read_numbers(rows, 1).all().astype(np.int64))
    features = Rows(path)
    if len(features.shape) != 3 or features.dtype.kind != "f":
        have = f"{features.dtype} {list(features.shape)}"
        advice = {
            2: " Save one vector per image as [image, 1, feature]; pad regions of all images in one list to [image, "
            "region, feature], and write num_regions.npy.",
            4: " Save the cells of a grid [image, feature, row, column] as regions: "
            "a.reshape(*a.shape[:2], -1).transpose(0, 2, 1).",
        }.get(len(features.shape), "")
        raise InputError(f"{features.path} is {have}: expected floats [image, region, feature].{advice}")
    return features


@dataclass(frozen=True)
class Pairing:
    """The stored row of each image, and the image of each text."""

    num_rows: int
    image_of_text: np.ndarray  # int64 [text]
    rows: np.ndarray | None = None  # the feature row of each image; None = one row per image
    lines: np.ndarray | None = None  # the line of each image in the ids file; None = one line per image
    numbered: bool = False  # ids end with the number of a sentence, such as `#0`, which is no part of them
    repeats: int = 1  # rows that are said to store each image, which their content must confirm

    @property
    def num_images(self) -> int:
        return self.num_rows if self.rows is None else len(self.rows)

    def align(self, stored: Rows) -> Rows:
        """Return an array with one row per image, stored once per image, per feature row, or per text."""
        if len(stored) == self.num_images:
            return stored
        if len(stored) == self.num_rows:
            return stored.take(self.rows)
        texts, first = np.unique(self.image_of_text, return_index=True)
        if len(stored) == len(self.image_of_text) and len(texts) == self.num_images:
            return stored.take(first)
        raise InputError(f"{stored.path} has {len(stored)} rows: expected one for each of {self.num_images} images.")


def pair(
    files: Files, num_rows: int, num_texts: int, ids: Lines | None, captions_per_image: int | None = None
) -> Pairing:
    """Determine the pairing from the map, or else from the ids, or else from `captions_per_image`.

    If all ids differ, each image has the same number of consecutive sentences. If consecutive rows repeat ids and there
    is one sentence per row, consecutive rows with the same id are one image (SCAN's dev and test). If there is one id
    per sentence and one row per run of equal ids, the runs are the images. Raises InputError in every other case, and
    if `captions_per_image` contradicts the files.
    """
    features, captions, per_image = files.path("ims.npy"), files.path("caps.txt"), captions_per_image
    if path := files.found("image_of_text.npy"):
        return Pairing(num_rows, _stored_map(path, num_rows, num_texts, ids))
    if per_image is not None and per_image < 1:
        raise InputError(f"captions_per_image is {per_image}: expected 1 or more.")
    once = np.arange(num_rows).repeat(per_image) if per_image else np.zeros(0, np.int64)
    counts = f"{features} has {num_rows} rows and {captions} {num_texts} lines"

    if ids is None:
        if not per_image:
            raise InputError(
                f"{files.path('ids.txt')} is not there, so it is unknown which of {num_rows} rows each of "
                f"{num_texts} sentences belongs to. Pass captions_per_image (SCAN's data has 5)."
            )
        if num_texts == num_rows * per_image:
            return Pairing(num_rows, once)
        if num_texts == num_rows and num_rows % per_image == 0:
            return Pairing(num_rows, np.arange(num_rows) // per_image, rows=np.arange(0, num_rows, per_image))
        raise InputError(f"{counts}: with captions_per_image={per_image}, expected {num_rows * per_image} lines.")

    numbered = _are_numbered(ids, num_texts)
    keys = ids.keys(numbered)
    starts = _run_starts(keys)
    if len(ids) != num_rows:
        if len(ids) == num_texts and len(starts) == num_rows and _first_repeat(keys[starts]) is None:
            if per_image:
                _check_runs(ids, keys, per_image)
            runs = np.diff(starts, append=num_texts)
            return Pairing(num_rows, np.arange(num_rows).repeat(runs), lines=starts, numbered=numbered)
        stored = num_rows // len(ids) if len(ids) and num_rows == num_texts and num_rows % len(ids) == 0 else 0
        if per_image and stored == per_image:
            image_of_text = np.arange(len(ids)).repeat(per_image)
            return Pairing(num_rows, image_of_text, rows=np.arange(0, num_rows, per_image), repeats=per_image)
        advice = ", or one per sentence"
        if stored and not per_image:
            advice = f". If each image is stored {stored} times, pass captions_per_image={stored}"
        raise InputError(f"{features} has {num_rows} rows, {ids.path} has {len(ids)}: expected one id per row{advice}.")

    repeat = _first_repeat(keys[starts])
    if repeat is not None:
        first, second = starts[repeat[0]] + 1, starts[repeat[1]] + 1
        raise InputError(
            f"{ids.path} has {ids[second - 1]!r} on lines {first} and {second} with other ids between them: "
            "expected ids that are all different, or equal ids on consecutive lines."
        )
    if len(starts) == num_rows:
        if num_rows and num_texts % num_rows == 0 and num_texts == num_rows * (per_image or num_texts // num_rows):
            return Pairing(num_rows, np.arange(num_rows).repeat(num_texts // num_rows))
        if per_image and num_texts == num_rows and num_rows % per_image == 0:
            rows = np.arange(0, num_rows, per_image)
            return Pairing(num_rows, np.arange(num_rows) // per_image, rows=rows, lines=rows, repeats=per_image)
        want = f"{num_rows * per_image} lines" if per_image else f"a whole multiple of {num_rows}"
        raise InputError(f"{counts}: expected {want}, or {files.path('image_of_text.npy').name}.")
    if num_texts != num_rows:
        line = int(np.flatnonzero(np.diff(starts, append=num_rows) > 1)[0])
        raise InputError(
            f"{counts}, and {ids.path} repeats {ids[int(starts[line])]!r} on line {starts[line] + 2}. Repeated ids "
            "mean one row per sentence: expected as many lines as rows, or ids that are all different."
        )
    if per_image:
        _check_runs(ids, keys, per_image)
    image_of_text = np.repeat(np.arange(len(starts)), np.diff(starts, append=num_rows))
    return Pairing(num_rows, image_of_text, rows=starts, lines=starts, numbered=numbered)


def check_repeats(features: Column, pairing: Pairing, path: Path) -> None:
    """Raise InputError if rows that are said to store one image differ: the first and last of the first images."""
    if pairing.rows is None or pairing.repeats < 2:
        return
    first = pairing.rows[:MANY]
    differ = (features.read(first) != features.read(first + pairing.repeats - 1)).any((1, 2))
    if differ.any():
        row = int(first[differ.argmax()])
        raise InputError(
            f"{path}: rows {row} and {row + pairing.repeats - 1} differ, so they are not one image, as "
            f"captions_per_image={pairing.repeats} says. Leave it out."
        )


def _are_numbered(ids: Lines, num_texts: int) -> bool:
    """Return whether there is one id per sentence, and the ids of each image are numbered from 0: `a#0`, `a#1`."""
    if len(ids) != num_texts or not num_texts or sentence_number(ids[0]) != 0:
        return False
    starts = _run_starts(ids.keys(numbered=True))
    wanted = np.arange(num_texts) - np.repeat(starts, np.diff(starts, append=num_texts))
    return all(sentence_number(name) == number for name, number in zip(ids, wanted.tolist(), strict=True))


def _stored_map(path: Path, num_rows: int, num_texts: int, ids: Lines | None) -> np.ndarray:
    """Read and check `image_of_text.npy`."""
    image_of_text = read_numbers(path, 1).all().astype(np.int64)
    if image_of_text.shape != (num_texts,):
        raise InputError(
            f"{path} has shape {image_of_text.shape}: expected an image row for each of {num_texts} sentences."
        )
    wrong = (image_of_text < 0) | (image_of_text >= num_rows)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{path}, row {row} is {image_of_text[row]}: expected an image row from 0 to {num_rows - 1}.")
    if ids is not None and len(ids) != num_rows:
        raise InputError(f"{ids.path} has {len(ids)} lines: expected one id for each of {num_rows} images.")
    return image_of_text


def _check_runs(ids: Lines, keys: np.ndarray, per_image: int) -> None:
    """Check that every id is on `per_image` consecutive lines."""
    starts = _run_starts(keys)
    lengths = np.diff(starts, append=len(keys))
    wrong = np.flatnonzero(lengths != per_image)
    if len(wrong):
        line, length = int(starts[wrong[0]]), int(lengths[wrong[0]])
        raise InputError(
            f"{ids.path} has {ids[line]!r} {length} times from line {line + 1}: captions_per_image={per_image} expects "
            f"{per_image}. Leave captions_per_image out, or correct the ids."
        )


def _run_starts(keys: np.ndarray) -> np.ndarray:
    """The positions at which runs of equal keys start."""
    return np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])


def _first_repeat(keys: np.ndarray) -> tuple[int, int] | None:
    """The first position whose key occurs earlier, as (earlier position, position)."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(same):
        return None
    place = same[order[same + 1].argmin()]
    return int(order[place]), int(order[place + 1])


def image_ids(files: Files, pairing: Pairing, ids: Lines | None) -> Sequence[str]:
    """Return the id of each image: its line in the ids file, or its row number if there is no such file.

    Lines that VSE-infinity's `id_mapping.json` lists are replaced by the file names of the pictures.
    """
    if ids is None:
        return [str(row) for row in range(pairing.num_images)]
    places = (files.folder / "id_mapping.json", files.folder.parent / "id_mapping.json")
    path = next(filter(Path.exists, places), None)
    names = {str(key): str(name) for key, name in read_json(path, dict[str, Any]).items()} if path else {}
    return NamedLines(ids, pairing.lines, names, pairing.numbered)


def read_json(path: Path, kind: Any = Any) -> Any:
    """Read a JSON file of a type that pydantic knows. Raises InputError if it is not JSON in UTF-8, or of another type.

    The message contains the line, or the place in the file.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise InputError(f"{path} is not JSON in UTF-8 ({first['msg']}). Save it again.") from None
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}{', ' if place else ''}{place}: {first['msg']}. Save it again.") from None


def stamp_of(folder: Path, split: str) -> str:
    """Return a hash of the names, sizes and times of the files that a split is read from: it changes if they do."""
    patterns = (f"{split}_*", "labels.txt", "*.json", f"{PHOTOGRAPHS}/*.npy")
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:32]


class _Extraction(TypedDict, total=False):
    """The types of the settings of an extraction that are read."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic's way for a TypedDict

    photographs: str
    captions: str | None
    split: str | None
    relations: str | None
    options: dict[str, Any]
    classes: list[str]
    models: dict[str, str]


def extraction_of(folder: Path) -> dict[str, Any]:
    """Return the settings of the extraction that made a data folder; empty if it was not made by `regard extract`."""
    path = folder / PHOTOGRAPHS / SETTINGS
    if not path.exists():
        return {}
    read_json(path, _Extraction)  # checks the types; pydantic would change the order
    settings: dict[str, Any] = read_json(path, dict[str, Any])
    return settings


def sizes_of(files: Files, pairing: Pairing) -> np.ndarray | None:
    """Return width and height in pixels, int32 [image, 2], from our file, CAMERA's or GSMN's; None without a file."""
    if path := files.found("sizes.npy", "img_sizes.npy"):
        sizes = pairing.align(read_numbers(path, 2)).all()
    elif path := files.found("ims_size.npy"):
        sizes = _pickled_sizes(path)
        kept = pairing.rows if len(sizes) == pairing.num_rows else None
        sizes = sizes if kept is None else sizes[kept]
    else:
        return None
    if sizes.shape != (pairing.num_images, 2):
        raise InputError(f"{path} has shape {sizes.shape}: expected [{pairing.num_images}, 2], width and height.")
    if (sizes <= 0).any():
        row = int((sizes <= 0).any(1).argmax())
        raise InputError(f"{path}, row {row} is {sizes[row].tolist()}: expected a width and a height above 0.")
    return sizes.astype(np.int32)


def _pickled_sizes(path: Path) -> np.ndarray:
    """Read GSMN's sizes: an array of numbers, or dictionaries with image_w and image_h."""
    with open(path, "rb") as file:
        pickled = file.read(6) != b"\x93NUMPY"
    if not pickled:
        try:
            return read_numbers(path, 2).all()
        except InputError:
            pass  # an array of Python objects
    rows = []
    for number, entry in enumerate(read_pickle(path)):
        try:
            pair = (entry["image_w"], entry["image_h"]) if isinstance(entry, dict) else tuple(entry)
            rows.append([float(side) for side in pair])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}, row {number} is {entry!r}: expected image_w and image_h.") from None
    return np.array(rows).reshape(len(rows), -1)


def boxes_of(files: Files, pairing: Pairing, num_regions: int, sizes: np.ndarray | None) -> Column | None:
    """Return boxes as fractions of the image, float32 [image, region, 4]; pixels are divided by the sizes."""
    path = files.found("boxes.npy", "ims_bbx.npy")
    if not path:
        return None
    stored = Rows(path)
    if stored.dtype.kind not in "iuf":
        raise InputError(f"{path} contains {stored.dtype}: expected numbers, x1 y1 x2 y2 of each region.")
    if len(stored.shape) != 3 or stored.shape[1:] != (num_regions, 4):
        other = " Keep only these four columns; if it is PFAN's file of grid cells and weights, move it away."
        raise InputError(
            f"{path} has shape {stored.shape}: expected [image, {num_regions}, 4], x1 y1 x2 y2 of each region."
            + (other if len(stored.shape) > 3 or stored.shape[-1] != 4 else "")
        )
    boxes = pairing.align(stored)
    if not in_pixels(boxes):
        return boxes
    if sizes is None:
        raise InputError(
            f"{path} contains pixels, and no file says how large the images are: expected "
            f"{files.path('sizes.npy').name}, int32 [image, 2] of width and height, or boxes as fractions."
        )
    return ScaledColumn(boxes, np.tile(sizes, 2))


def in_pixels(boxes: Rows) -> bool:
    """Return whether boxes are in pixels, as GSMN's and CAMERA's are, judged by the first rows."""
    some = boxes.read(np.arange(min(MANY, len(boxes))))
    return bool(some.size) and float(np.nanmax(some)) > PIXELS


def counts_of(files: Files, pairing: Pairing, num_regions: int) -> np.ndarray | None:
    """Return the number of real regions per image, int64 [image], from `num_regions.npy`; None without that file."""
    if not (path := files.found("num_regions.npy")):
        return None
    counts = pairing.align(read_numbers(path, 1)).all().astype(np.int64)
    if (counts < 1).any() or (counts > num_regions).any():
        raise InputError(
            f"{path} contains {counts.min()} to {counts.max()}: expected 1 to {num_regions} for each image."
        )
    return counts


def labels_of(files: Files, pairing: Pairing, num_regions: int) -> tuple[Column | None, tuple[str, ...]]:
    """Return class numbers [image, region] and class names, "none" first; (None, ()) without a file of labels.

    They come from `labels.npy` and `labels.txt`, or from `labels.json`.
    """
    shape = (pairing.num_images, num_regions)
    if path := files.found("labels.npy"):
        labels = pairing.align(read_numbers(path, 2))
        if labels.shape != shape:
            raise InputError(f"{path} has shape {labels.shape}: expected {shape}, a class number for each region.")
        return labels, ("none", *Lines(files.folder / "labels.txt"))
    if path := files.found("labels.json"):
        return _json_labels(path, shape)
    return None, ()


def _json_labels(path: Path, shape: tuple[int, int]) -> tuple[Column, tuple[str, ...]]:
    """Labels from a list of [region, class, confidence] per image.

    Classes are numbered over all splits of the folder, so that the numbers agree between splits.
    """
    kind = list[list[tuple[int, str, Any]]]
    lists: dict[Path, list] = {other: read_json(other, kind) for other in path.parent.glob("*_labels.json")}
    names = sorted({name for images in lists.values() for image in images for _, name, _ in image})
    number = {name: position for position, name in enumerate(names, 1)}
    labels = np.zeros(shape, np.int16)
    if len(lists[path]) != len(labels):
        raise InputError(f"{path} has {len(lists[path])} lists: expected one for each of {len(labels)} images.")
    for row, image in enumerate(lists[path]):
        for region, name, _ in image:
            if not 0 <= region < shape[1]:
                raise InputError(f"{path}, image {row} labels region {region}: expected 0 to {shape[1] - 1}.")
            labels[row, region] = number[name]
    return ArrayColumn(labels), ("none", *names)
