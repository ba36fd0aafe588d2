"""Folders with one .npz file per image: bottom-up-attention.pytorch, OpenVQA, MILVLG, UNITER, self-critical.pytorch."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.ids import show_ids
from regard.data.records import Record, Records
from regard.files import InputError

FEATURES = ("x", "features", "feat", "feature", "arr_0")
BOXES = ("bbox", "boxes", "norm_bb", "box")
BOX_FOLDERS = ("box", "boxes", "bbox")
COUNT, SIDES = "num_bbox", ("image_w", "image_h")

# What numpy and zipfile raise for bytes that were changed: RuntimeError for flags of encryption and of other versions.
DAMAGES = (ValueError, EOFError, OSError, KeyError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
           tokenize.TokenError, MemoryError)  # fmt: skip


class NpzFolder(Records):
    """One .npz file per image, named by its id. Boxes may be in another folder, as `cocobu_box` beside `cocobu_att`."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        super().__init__()
        self._paths: dict[str, Path] = {}
        self._boxes: dict[str, Path] = {}
        for path in paths:
            is_boxes = path.parent != folder and path.parent.name.rpartition("_")[2] in BOX_FOLDERS
            own = self._boxes if is_boxes else self._paths
            if path.suffix == ".npy" and not is_boxes:  # cocobu_fc
                continue
            if (other := own.setdefault(path.stem, path)) is not path:
                raise InputError(
                    f"{path} and {other} are records of one image: expected one. Give each folder its own data folder."
                )

    def ids(self) -> Collection[str]:
        return self._paths.keys()

    def read(self, name: str) -> Record:
        path = self._paths[name]
        other = self._boxes.get(name)
        arrays = _load(path, FEATURES, () if other else BOXES, (COUNT,), *((side,) for side in SIDES))
        features = _first(arrays, FEATURES)
        if features is None or features.ndim != 2 or features.dtype.kind != "f":
            have = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items())
            raise InputError(f"{path} has {have}: expected floats [region, feature] in one of {', '.join(FEATURES)}.")
        boxes = _first(_load(other, (*BOXES, *FEATURES)), (*BOXES, *FEATURES)) if other else _first(arrays, BOXES)
        count = _number(arrays, COUNT, path)
        features = _by_region(features, boxes, count, path)
        count = len(features) if count is None else count
        if not 1 <= count <= len(features):
            raise InputError(
                f"{path} has {count} regions of {len(features)} rows: expected 1 or more. Extract it again."
            )
        width, height = (_number(arrays, side, path) for side in SIDES)
        size = (width, height) if width and height and min(width, height) > 0 else None
        return Record(features[:count], None if boxes is None else _checked(boxes, features, path)[:count], size)


def _load(path: Path, *choices: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the first array that is there of each choice of names. Others are not decompressed."""
    with open(path, "rb") as file:
        try:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):  # a .npy file
                return {"arr_0": loaded}
            first = (next((key for key in keys if key in loaded.files), None) for keys in choices)
            if arrays := {key: loaded[key] for key in first if key}:
                return arrays
        except DAMAGES as error:
            if "Object arrays" in str(error):
                raise InputError(f"{path} contains Python objects: expected plain arrays. Extract it again.") from None
            raise InputError(f"{path} is not a complete .npz file ({error}). Copy it again.") from None
    raise InputError(f"{path} contains {show_ids(loaded.files, 9)}: expected one of {', '.join(FEATURES)}.")


def _first(arrays: dict[str, np.ndarray], keys: Sequence[str]) -> np.ndarray | None:
    return next((arrays[key] for key in keys if key in arrays), None)


def _number(arrays: dict[str, np.ndarray], key: str, path: Path) -> int | None:
    """A number that is stored alone or as an array of one element."""
    if key not in arrays:
        return None
    if arrays[key].size != 1 or arrays[key].dtype.kind not in "iuf" or not np.isfinite(arrays[key]).all():
        have = f"{arrays[key].dtype} {list(arrays[key].shape)} {arrays[key].ravel()[:1]}"
        raise InputError(f"{path}: {key} is {have}: expected one finite number.")
    return int(arrays[key].reshape(-1)[0])


def _by_region(features: np.ndarray, boxes: np.ndarray | None, count: int | None, path: Path) -> np.ndarray:
    """Features with one row per region. OpenVQA stores one column per region."""
    rows, columns = features.shape
    regions = len(boxes) if boxes is not None and boxes.ndim == 2 else count
    if regions is not None and regions == columns != rows:
        return features.T
    if regions is None and rows > columns:
        raise InputError(
            f"{path} has features [{rows}, {columns}] and neither bbox nor num_bbox, so it is unknown whether regions "
            f"are rows or columns. Add num_bbox to each file."
        )
    return features


def _checked(boxes: np.ndarray, features: np.ndarray, path: Path) -> np.ndarray:
    """The boxes [region, 4]; UNITER's have width, height and sometimes area behind them."""
    if boxes.ndim != 2 or len(boxes) != len(features) or boxes.shape[1] not in (4, 6, 7):
        raise InputError(
            f"{path} has boxes {list(boxes.shape)}: expected [{len(features)}, 4], x1 y1 x2 y2 of each region."
        )
    return boxes[:, :4].astype(np.float32)
