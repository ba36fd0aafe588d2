"""Which files of a folder are a split's, and which row of them is which image: the field's layouts read as one.

No rule here guesses from `images != captions`, as the field's loaders do: ids decide, or a map, or the caller.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.lines import Lines, Named
from regard.data.pickles import read_pickle
from regard.data.rows import Column, Held, Rows, Scaled, Shards
from regard.files import InputError, nearest

PHOTOGRAPHS = "photographs"  # the folder of what `regard extract` has seen, beside the splits
SETTINGS = "settings.json"  # in it: how that was done
PIXELS = 2.0  # a box coordinate above this is no fraction of an image


@dataclass(frozen=True)
class Files:
    """The files of one split: `{folder}/{split}_{name}`."""

    folder: Path
    split: str

    def path(self, name: str) -> Path:
        return self.folder / f"{self.split}_{name}"

    def found(self, *names: str) -> Path | None:
        """The first of the files that is there."""
        return next((self.path(name) for name in names if self.path(name).exists()), None)


def data_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder that holds the arrays: the given one, or its `precomp/` (VSE-infinity's layout)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Give the one that holds train_ims.npy and its kin.")
    inner = folder / "precomp"
    return inner if inner.is_dir() and not _names(folder) else folder


def splits_of(folder: str | os.PathLike[str]) -> list[str]:
    """The names of the splits that a folder holds, train first."""
    return sorted(_names(data_folder(folder)), key=lambda name: (name != "train", name))


def _names(folder: Path) -> set[str]:
    """Of the splits with features of their own, or with rows of what `regard extract` has seen."""
    endings = ("_ims.npy", "_rows.npy")
    return {path.name.removesuffix(ending) for ending in endings for path in folder.glob(f"*{ending}")}


def files_of(folder: str | os.PathLike[str], split: str) -> Files:
    """The files of a split. Raises InputError that names the nearest split, or the command that makes one."""
    files = Files(data_folder(folder), split)
    if files.found("ims.npy", "rows.npy"):
        return files
    splits = splits_of(folder)
    if splits:
        rows = any(files.folder.glob("*_rows.npy"))  # of photographs that were extracted
        raise InputError(f"{files.path('rows.npy' if rows else 'ims.npy')} is not there. {nearest(split, splits)}")
    if raw := next((path for kind in ("*.tsv", "*.npz", "*/*.npz") for path in files.folder.glob(kind)), None):
        raise InputError(f"{folder} holds {raw.suffix} files: run `regard data convert {folder} --out DIR` first.")
    raise InputError(f"{files.path('ims.npy')} is not there, nor any other *_ims.npy. Give the folder that holds them.")


def features_of(files: Files) -> Rows | Shards:
    """The stored rows of region features: the split's file, or its rows of the photographs that were extracted."""
    path = files.path("ims.npy")
    if not path.exists() and (rows := files.found("rows.npy")):
        return Shards(sorted((files.folder / PHOTOGRAPHS).glob("*.npy")), Rows(rows).all().astype(np.int64))
    features = Rows(path)
    if len(features.shape) != 3 or features.dtype.kind != "f":
        have = f"{features.dtype} {list(features.shape)}"
        raise InputError(f"{features.path} is {have}: want floats [image, region, feature].")
    return features


@dataclass(frozen=True)
class Pairing:
    """Which stored row is which image, and which image each text belongs to."""

    num_rows: int
    image_of_text: np.ndarray  # int64 [text]
    rows: np.ndarray | None = None  # the feature row of each image; None = one row an image
    lines: np.ndarray | None = None  # the line of the ids file of each image; None = one line an image

    @property
    def num_images(self) -> int:
        return self.num_rows if self.rows is None else len(self.rows)

    def align(self, stored: Rows) -> Rows:
        """An array beside the features, one row an image, though stored once or once a text, as it pleases."""
        if len(stored) == self.num_images:
            return stored
        if len(stored) == self.num_rows:
            return stored.taking(self.rows)
        texts, first = np.unique(self.image_of_text, return_index=True)
        if len(stored) == len(self.image_of_text) and len(texts) == self.num_images:
            return stored.taking(first)
        raise InputError(f"{stored.path} has {len(stored)} rows: want one for each of {self.num_images} images.")


def pair(
    files: Files, num_rows: int, num_texts: int, ids: Lines | None, captions_per_image: int | None = None
) -> Pairing:
    """Work out the pairing from the map, else from the ids, else from `captions_per_image`.

    Ids that are all different: each image has the same number of sentences, one after another. Ids that repeat from
    row to row, with a sentence a row: SCAN's dev and test, where equal neighbours are one image. Raises InputError
    where neither holds, or where what was given contradicts what was found.
    """
    features, captions, per_image = files.path("ims.npy"), files.path("caps.txt"), captions_per_image
    if path := files.found("image_of_text.npy"):
        return Pairing(num_rows, _stored_map(path, num_rows, num_texts, ids))
    if per_image is not None and per_image < 1:
        raise InputError(f"captions_per_image is {per_image}: want 1 or more.")
    once = np.arange(num_rows).repeat(per_image) if per_image else np.zeros(0, np.int64)
    counts = f"{features} has {num_rows} rows and {captions} {num_texts} lines"

    if ids is None:
        if not per_image:
            raise InputError(
                f"{files.path('ids.txt')} is not there, so nothing says which of {num_texts} sentences belongs to "
                f"which of {num_rows} rows. Pass captions_per_image (SCAN's data has 5)."
            )
        if num_texts == num_rows * per_image:
            return Pairing(num_rows, once)
        if num_texts == num_rows and num_rows % per_image == 0:
            return Pairing(num_rows, np.arange(num_rows) // per_image, rows=np.arange(0, num_rows, per_image))
        raise InputError(f"{counts}: with captions_per_image={per_image}, want {num_rows * per_image} lines.")

    if len(ids) != num_rows:
        if per_image and len(ids) == num_texts == num_rows * per_image:
            _want_runs(ids, per_image)
            return Pairing(num_rows, once, lines=np.arange(0, num_texts, per_image))
        guess = len(ids) // num_rows if num_rows and len(ids) % num_rows == 0 else 5
        repeats = f" SCAN repeats ids per caption; pass captions_per_image={guess}." if not per_image else ""
        raise InputError(f"{features} has {num_rows} rows, {ids.path} has {len(ids)}: want one id per image.{repeats}")

    keys = ids.keys()
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if num_rows else np.zeros(0, np.int64)
    again = _first_repeat(keys[starts])
    if again is not None:
        first, second = starts[again[0]] + 1, starts[again[1]] + 1
        raise InputError(
            f"{ids.path} has {ids[second - 1]!r} on lines {first} and {second} with others between: want ids that are "
            f"all different, or the rows of an image together."
        )
    if len(starts) == num_rows:
        if num_rows and num_texts % num_rows == 0 and num_texts == num_rows * (per_image or num_texts // num_rows):
            return Pairing(num_rows, np.arange(num_rows).repeat(num_texts // num_rows))
        want = f"{num_rows * per_image} lines" if per_image else f"a whole multiple of {num_rows}"
        raise InputError(f"{counts}: want {want}, or {files.path('image_of_text.npy').name} to say whose each is.")
    if num_texts != num_rows:
        line = int(np.flatnonzero(np.diff(starts, append=num_rows) > 1)[0])
        raise InputError(
            f"{counts}, and {ids.path} repeats {ids[int(starts[line])]!r} on line {starts[line] + 2}: repeated ids "
            f"mean a row for each sentence. Want as many lines as rows, or ids that are all different."
        )
    if per_image:
        _want_runs(ids, per_image)
    image_of_text = np.repeat(np.arange(len(starts)), np.diff(starts, append=num_rows))
    return Pairing(num_rows, image_of_text, rows=starts, lines=starts)


def _stored_map(path: Path, num_rows: int, num_texts: int, ids: Lines | None) -> np.ndarray:
    image_of_text = Rows(path).all().astype(np.int64)
    if image_of_text.shape != (num_texts,):
        raise InputError(
            f"{path} has shape {image_of_text.shape}: want an image row for each of {num_texts} sentences."
        )
    wrong = (image_of_text < 0) | (image_of_text >= num_rows)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{path}, row {row} is {image_of_text[row]}: want an image row from 0 to {num_rows - 1}.")
    if ids is not None and len(ids) != num_rows:
        raise InputError(f"{ids.path} has {len(ids)} lines: want one id for each of {num_rows} images.")
    return image_of_text


def _want_runs(ids: Lines, per_image: int) -> None:
    keys = ids.keys()
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    wrong = np.flatnonzero(np.diff(starts, append=len(keys)) != per_image)
    if len(wrong):
        line = int(starts[wrong[0]])
        have = int(np.diff(starts, append=len(keys))[wrong[0]])
        raise InputError(
            f"{ids.path} has {ids[line]!r} {have} times from line {line + 1}: captions_per_image={per_image} wants "
            f"{per_image}. Leave captions_per_image out, or mend the ids."
        )


def _first_repeat(keys: np.ndarray) -> tuple[int, int] | None:
    """The first place whose key has been before, and where."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(same):
        return None
    place = same[order[same + 1].argmin()]
    return int(order[place]), int(order[place + 1])


def named(files: Files, pairing: Pairing, ids: Lines | None) -> Sequence[str]:
    """An id for each image: its row if there is no file, its picture if VSE-infinity's `id_mapping.json` says it."""
    if ids is None:
        return [str(row) for row in range(pairing.num_images)]
    places = (files.folder / "id_mapping.json", files.folder.parent / "id_mapping.json")
    path = next(filter(Path.exists, places), None)
    return Named(ids, pairing.lines, {str(key): str(name) for key, name in read_json(path).items()} if path else {})


def read_json(path: Path) -> Any:
    """Raises InputError, with the line, where the file is no JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON in UTF-8 ({error}). Save it anew.") from None


def extraction_of(folder: Path) -> dict[str, Any]:
    """How a data folder was extracted from photographs; empty where it was not."""
    path = folder / PHOTOGRAPHS / SETTINGS
    found = read_json(path) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def sizes_of(files: Files, pairing: Pairing) -> np.ndarray | None:
    """int32 [image, 2] width and height in pixels: ours, CAMERA's pairs, or GSMN's pickled dictionaries."""
    if path := files.found("sizes.npy", "img_sizes.npy"):
        sizes = pairing.align(Rows(path)).all()
    elif path := files.found("ims_size.npy"):
        sizes = _pickled_sizes(path)
        kept = pairing.rows if len(sizes) == pairing.num_rows else None
        sizes = sizes if kept is None else sizes[kept]
    else:
        return None
    if sizes.shape != (pairing.num_images, 2):
        raise InputError(f"{path} has shape {sizes.shape}: want [{pairing.num_images}, 2], width and height.")
    if (sizes <= 0).any():
        row = int((sizes <= 0).any(1).argmax())
        raise InputError(f"{path}, row {row} is {sizes[row].tolist()}: want a width and a height above 0.")
    return sizes.astype(np.int32)


def _pickled_sizes(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        pickled = file.read(6) != b"\x93NUMPY"
    if not pickled:
        try:
            return Rows(path).all()
        except InputError:
            pass  # an array of Python objects
    rows = []
    for number, entry in enumerate(read_pickle(path)):
        try:
            pair = (entry["image_w"], entry["image_h"]) if isinstance(entry, dict) else tuple(entry)
            rows.append([float(side) for side in pair])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}, row {number} is {entry!r}: want image_w and image_h.") from None
    return np.array(rows).reshape(len(rows), -1)


def boxes_of(files: Files, pairing: Pairing, num_regions: int, sizes: np.ndarray | None) -> Column | None:
    """float32 [image, region, 4] as fractions: stored so, or in pixels and divided by the sizes."""
    path = files.found("boxes.npy", "ims_bbx.npy")
    if not path:
        return None
    stored = Rows(path)
    if len(stored.shape) != 3 or stored.shape[1:] != (num_regions, 4):
        other = " PFAN's file of this name holds grid cells and weights of each region, not boxes: move it away."
        raise InputError(
            f"{path} has shape {stored.shape}: want [image, {num_regions}, 4], x1 y1 x2 y2 of each region."
            + (other if len(stored.shape) > 3 or stored.shape[-1] != 4 else "")
        )
    boxes = pairing.align(stored)
    if not in_pixels(boxes):
        return boxes
    if sizes is None:
        raise InputError(
            f"{path} holds pixels, and no file says how large the images are: want "
            f"{files.path('sizes.npy').name}, int32 [image, 2] of width and height."
        )
    return Scaled(boxes, np.tile(sizes, 2))


def in_pixels(boxes: Rows) -> bool:
    """Whether boxes are in pixels, as GSMN's and CAMERA's are: told from their first thousand rows."""
    some = boxes.read(np.arange(min(1000, len(boxes))))
    return bool(some.size) and float(np.nanmax(some)) > PIXELS


def counts_of(files: Files, pairing: Pairing, num_regions: int) -> np.ndarray | None:
    """int64 [image]: how many regions are real, from `num_regions.npy`."""
    if not (path := files.found("num_regions.npy")):
        return None
    counts = pairing.align(Rows(path)).all().astype(np.int64)
    if counts.ndim != 1 or (counts < 1).any() or (counts > num_regions).any():
        raise InputError(f"{path} holds {counts.min()} to {counts.max()}: want 1 to {num_regions} for each image.")
    return counts


def labels_of(files: Files, pairing: Pairing, num_regions: int) -> tuple[Column | None, tuple[str, ...]]:
    """Class numbers [image, region] and class names, "none" first: from labels.npy and labels.txt, or labels.json."""
    shape = (pairing.num_images, num_regions)
    if path := files.found("labels.npy"):
        labels = pairing.align(Rows(path))
        if labels.shape != shape:
            raise InputError(f"{path} has shape {labels.shape}: want {shape}, a class number for each region.")
        return labels, ("none", *Lines(files.folder / "labels.txt"))
    if path := files.found("labels.json"):
        return _json_labels(path, shape)
    return None, ()


def _json_labels(path: Path, shape: tuple[int, int]) -> tuple[Column, tuple[str, ...]]:
    """An image is a list of [region, class, confidence]. Numbers are those of the classes of all the folder's splits
    together, so that they agree between splits."""
    lists: dict[Path, list] = {other: read_json(other) for other in path.parent.glob("*_labels.json")}
    names = sorted({name for images in lists.values() for image in images for _, name, _ in image})
    number = {name: position for position, name in enumerate(names, 1)}
    labels = np.zeros(shape, np.int16)
    if len(lists[path]) != len(labels):
        raise InputError(f"{path} has {len(lists[path])} lists: want one for each of {len(labels)} images.")
    for row, image in enumerate(lists[path]):
        for region, name, _ in image:
            if not 0 <= region < shape[1]:
                raise InputError(f"{path}, image {row} labels region {region}: want 0 to {shape[1] - 1}.")
            labels[row, region] = number[name]
    return Held(labels), ("none", *names)
