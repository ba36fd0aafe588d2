"""Readers of detector outputs with one record per image: bottom-up attention's .tsv files and folders of .npz files.

Records contain features, boxes and sizes under an image id. `{split}_ids.txt` and `{split}_caps.txt` beside them list
the images and sentences of a split. Only `regard data convert` and `regard data check` read records: base64 text and
compressed files are too slow to train on.
"""

import base64
import binascii
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regard.data.layout import Files, image_ids, pair
from regard.data.lines import Lines
from regard.data.rows import Column
from regard.data.split import Split
from regard.files import InputError

TSV_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")


@dataclass(frozen=True)
class Record:
    """One image: features [region, feature]; boxes [region, 4] in pixels, width and height, or None if unknown."""

    features: np.ndarray
    boxes: np.ndarray | None
    size: tuple[int, int] | None

    def fractions(self) -> np.ndarray | None:
        """Return the boxes as fractions of the image, or None if the boxes or the size are unknown."""
        if self.boxes is None or not self.size or min(self.size) < 1:
            return None
        return (self.boxes / np.tile(self.size, 2)).astype(np.float32)


class Records(ABC):
    """The records of a folder, by image id."""

    @abstractmethod
    def ids(self) -> Mapping[str, object]:
        """Return every image id with the place of its record."""

    @abstractmethod
    def read(self, name: str) -> Record:
        """Read the record of an image."""

    def outline(self, name: str) -> tuple[int, tuple[int, int] | None]:
        """Return the number of regions of an image, and its size."""
        record = self.read(name)
        return len(record.features), record.size


class Tsv(Records):
    """Bottom-up attention's .tsv files: image_id, width, height, number of boxes, boxes and features in base64."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._places: dict[str, tuple[Path, int, int]] = {}  # file, byte at which the line starts, line number
        self._outlines: dict[str, tuple[int, tuple[int, int]]] = {}
        for path in paths:
            with open(path, "rb") as file:
                start = 0
                for number, line in enumerate(file, 1):
                    name, width, height, count, *_ = _columns(line, f"{path}, line {number}")
                    if name not in self._places:
                        self._places[name] = path, start, number
                        self._outlines[name] = count, (width, height)
                    start += len(line)

    def ids(self) -> Mapping[str, object]:
        return self._places

    def read(self, name: str) -> Record:
        path, start, number = self._places[name]
        with open(path, "rb") as file:
            file.seek(start)
            _, width, height, count, *texts = _columns(file.readline(), f"{path}, line {number}")
        try:
            boxes, features = (_decoded(text, count) for text in texts)
        except (ValueError, binascii.Error) as error:
            raise InputError(f"{path}, line {number} cannot be read ({error}). Is the file cut short?") from None
        if boxes.shape[1] != 4:
            raise InputError(f"{path}, line {number} has {boxes.size} numbers for {count} boxes: expected four each.")
        return Record(features, boxes, (width, height))

    def outline(self, name: str) -> tuple[int, tuple[int, int] | None]:
        return self._outlines[name]


def _columns(line: bytes, place: str) -> tuple[str, int, int, int, bytes, bytes]:
    values = line.rstrip(b"\r\n").split(b"\t")
    try:
        name, (width, height, count), (boxes, features) = values[0], map(int, map(float, values[1:4])), values[4:]
    except ValueError:
        want = ", ".join(TSV_COLUMNS)
        raise InputError(f"{place} has {len(values)} columns: expected {want}. Is the file cut short?") from None
    return name.decode("utf-8", "replace"), width, height, count, boxes, features


def _decoded(text: bytes, count: int) -> np.ndarray:
    """Decode base64 to float32 [count, values]."""
    content = base64.b64decode(text, validate=True)
    if not count or len(content) % (4 * count):
        raise ValueError(f"{len(content)} bytes for {count} boxes")
    return np.frombuffer(content, "<f4").reshape(count, -1)


class NpzFolder(Records):
    """One .npz file per image, named by its id: x or features, bbox or boxes, image_w, image_h, num_bbox."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = {path.stem: path for path in paths}

    def ids(self) -> Mapping[str, object]:
        return self._paths

    def read(self, name: str) -> Record:
        path = self._paths[name]
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in _NPZ_KEYS if key in file.files}
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a complete .npz file of plain arrays ({error}). Copy it again.") from None
        features, boxes = arrays.get("x", arrays.get("features")), arrays.get("bbox", arrays.get("boxes"))
        if features is None or features.ndim != 2:
            raise InputError(f"{path} has no array x or features [region, feature]. Extract it again.")
        if boxes is not None and len(features) != len(boxes) == features.shape[1]:
            features = features.T  # OpenVQA stores one column per region
        count = int(arrays.get("num_bbox", len(features)))
        has_size = "image_w" in arrays and "image_h" in arrays
        size = (int(arrays["image_w"]), int(arrays["image_h"])) if has_size else None
        return Record(features[:count], None if boxes is None or not has_size else boxes[:count], size)


_NPZ_KEYS = ("x", "features", "bbox", "boxes", "image_w", "image_h", "num_bbox")


def records_of(folder: Path) -> Records | None:
    """Return the records in a folder or its subfolders, or None if there are none."""
    if paths := sorted([*folder.glob("*.tsv"), *folder.glob("*/*.tsv")]):
        return Tsv(paths)
    sides = ("_relations.npz", "_regions.npz", "_twins.npz")
    paths = [path for kind in ("*.npz", "*/*.npz") for path in folder.glob(kind) if not path.name.endswith(sides)]
    return NpzFolder(sorted(paths)) if paths else None


class _RecordColumn(Column):
    """One field of every record, padded with zero to the largest number of regions."""

    def __init__(self, records: Records, names: Sequence[str], field: str, shape: tuple[int, ...]) -> None:
        self._records, self._names, self._field = records, names, field
        self.shape, self.dtype = shape, np.dtype(np.float32)

    def read(self, rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        for place, row in enumerate(rows.tolist()):
            record = self._records.read(self._names[row])
            values = record.features if self._field == "features" else record.fractions()
            if values is None or values.shape[1] != self.shape[2]:
                have = (
                    f"no {self._field}" if values is None else f"{values.shape[1]} values per region in {self._field}"
                )
                raise InputError(
                    f"The record of image {self._names[row]} has {have}, the first image of its split has "
                    f"{self.shape[2]}: expected the output of one detector."
                )
            out[place, : len(values)] = values
        return out


def open_records(records: Records, files: Files, captions_per_image: int | None = None) -> Split:
    """Open the split of records that `{split}_ids.txt` and `{split}_caps.txt` select.

    Raises InputError if an id has no record.
    """
    captions, lines = Lines(files.path("caps.txt")), Lines(files.path("ids.txt"))
    pairing = pair(files, len(lines), len(captions), lines, captions_per_image)
    known = records.ids()
    names = [_key(name, known) for name in image_ids(files, pairing, lines)]
    if None in names:
        row = names.index(None)
        line = row if pairing.lines is None else int(pairing.lines[row])
        raise InputError(f"{lines.path}, line {line + 1}: no record of image {lines[line]!r} in {files.folder}.")
    keys = [name for name in names if name is not None]
    first = records.read(keys[0])
    counts, sizes = np.zeros(len(keys), np.int64), np.zeros((len(keys), 2), np.int32)
    for row, key in enumerate(keys):
        counts[row], size = records.outline(key)
        sizes[row] = size or (0, 0)
    widest = int(counts.max())
    return Split(
        files.folder,
        files.split,
        _RecordColumn(records, keys, "features", (len(keys), widest, first.features.shape[1])),
        image_ids(files, pairing, lines),
        captions,
        pairing.image_of_text,
        region_counts=None if (counts == widest).all() else counts,
        boxes=None if first.fractions() is None else _RecordColumn(records, keys, "boxes", (len(keys), widest, 4)),
        sizes=sizes if first.size else None,
    )


def _key(name: str, known: Mapping[str, object]) -> str | None:
    """The id of an image among the records: as in the ids file, or without the file extension."""
    return next((key for key in (name, name.rsplit(".", 1)[0]) if key in known), None)
