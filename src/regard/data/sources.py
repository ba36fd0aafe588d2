"""Open the records of detectors in a folder as splits: find their files, and match them to the ids of a split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regard.data.box_forms import describe_boxes
from regard.data.ids import match_ids, show_ids
from regard.data.layout import Files, image_ids, pair
from regard.data.lines import Lines
from regard.data.npz_records import NpzFolder
from regard.data.records import Record, Records
from regard.data.rows import Column
from regard.data.split import Split
from regard.data.tsv_records import Tsv
from regard.files import InputError

VOCABULARY = "objects_vocab.txt"  # names of the classes, beside the records
MANY = 1000  # images whose boxes are examined
NUM_CLASSES = 1600  # of bottom-up attention
FOREIGN = {".hdf5": "HDF5", ".h5": "HDF5", ".mdb": "LMDB", ".lmdb": "LMDB"}
_SIDES = ("_relations.npz", "_regions.npz", "_twins.npz")  # files of our own


def records_of(folder: Path) -> Records | None:
    """Return the records in a folder or its subfolders, or None if there are none.

    Raises InputError that names the way out if there are only files of HDF5 or LMDB.
    """
    if paths := sorted([*folder.glob("*.tsv"), *folder.glob("*/*.tsv")]):
        return Tsv(paths)
    found = [path for kind in ("*.npz", "*/*.npz") for path in folder.glob(kind) if not path.name.endswith(_SIDES)]
    if found:
        return NpzFolder(folder, sorted([*found, *folder.glob("*/*.npy")]))
    if foreign := next((path for path in sorted(folder.rglob("*")) if path.suffix.lower() in FOREIGN), None):
        kind = FOREIGN[foreign.suffix.lower()]
        raise InputError(
            f"{foreign} is a file of {kind}, which is not read. Write one .npz per image with x, bbox, image_w and "
            f"image_h, as docs/data.md shows, beside *_ids.txt and *_caps.txt."
        )
    return None


class _RecordColumn(Column):
    """One field of every record, padded with zero to the largest number of regions."""

    def __init__(self, records: Records, names: Sequence[str], field: str, shape: tuple[int, ...]) -> None:
        self._records, self._names, self._field = records, names, field
        self.shape, self.dtype = shape, np.dtype(np.int16 if field == "labels" else np.float32)

    def read(self, rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        for place, row in enumerate(rows.tolist()):
            values = _field(self._records.read(self._names[row]), self._field)
            assert values is not None  # open_records has found it in every record
            if values.shape[1:] != self.shape[2:]:
                raise InputError(
                    f"The record of image {self._names[row]} has {values.shape[1]} values per region in {self._field}, "
                    f"the first image of its split has {self.shape[2]}: expected the output of one detector."
                )
            out[place, : len(values)] = values
        return out


def _field(record: Record, name: str) -> np.ndarray | None:
    if name == "labels":
        return None if record.labels is None else record.labels + 1  # 0 is no class
    return record.features if name == "features" else record.fractions()


def open_records(records: Records, files: Files, captions_per_image: int | None = None) -> Split:
    """Open the split of records that `{split}_ids.txt` and `{split}_caps.txt` select.

    Ids are matched as by `match_ids`. What is left out is added to the notes of the records. Raises InputError if an id
    has no record.
    """
    captions, lines = Lines(files.path("caps.txt")), Lines(files.path("ids.txt"))
    pairing = pair(files, len(lines), len(captions), lines, captions_per_image)
    ids = image_ids(files, pairing, lines)
    keys = _find_keys(records, ids, lines.path)
    outlines = map(records.outline, keys)
    counts, sizes = np.zeros(len(keys), np.int64), np.zeros((len(keys), 2), np.int32)
    boxes: list[np.ndarray] = []
    without: dict[str, list[str]] = {"boxes": [], "labels": []}  # images whose boxes or labels are not known
    has_pixels = has_labels = False
    for row, (key, record) in enumerate(zip(keys, outlines, strict=True)):
        counts[row], sizes[row] = len(record.features), record.size or (0, 0)
        has_pixels, has_labels = has_pixels or record.boxes is not None, has_labels or record.labels is not None
        fractions = record.fractions()
        if fractions is None:
            without["boxes"].append(key)
        elif row < MANY:
            boxes.append(fractions)
        if record.labels is None:
            without["labels"].append(key)
    for name, is_stored in (("boxes", has_pixels), ("labels", has_labels)):
        if is_stored and without[name]:
            how = "no boxes, or boxes in pixels and no image_w and image_h" if name == "boxes" else "no labels"
            records.notes.append(
                f"{files.split}: {name} are left out, because {len(without[name])} of {len(keys)} images, such as "
                f"{without[name][0]!r}, have {how}"
            )
    own_sizes = np.repeat(sizes[:MANY], counts[:MANY], 0)
    if not without["boxes"] and (suspicion := describe_boxes(np.concatenate(boxes), own_sizes)):
        records.notes.append(f"{files.split}: {suspicion}")
    widest, width = int(counts.max()), records.read(keys[0]).features.shape[1]
    return Split(
        files.folder,
        files.split,
        _RecordColumn(records, keys, "features", (len(keys), widest, width)),
        ids,
        captions,
        pairing.image_of_text,
        region_counts=None if (counts == widest).all() else counts,
        boxes=None if without["boxes"] else _RecordColumn(records, keys, "boxes", (len(keys), widest, 4)),
        sizes=sizes if sizes.all() else None,
        labels=None if without["labels"] else _RecordColumn(records, keys, "labels", (len(keys), widest)),
        classes=() if without["labels"] else _classes(files.folder),
    )


def _find_keys(records: Records, ids: Sequence[str], path: Path) -> list[str]:
    """The id of the record of each image. Raises InputError for an image without a record."""
    matches = match_ids(ids, records.ids())
    if missing := [name for name in ids if name not in matches]:
        if broken := records.why_missing(missing[0]):
            raise InputError(
                f"{path}: image {missing[0]!r} has no whole record ({broken}). Extract it again, or leave it out."
            )
        raise InputError(
            f"{path}: no record of image {missing[0]!r}, and of {len(missing) - 1} others, in {path.parent}, whose "
            f"records are called {show_ids(records.ids())}. Write the ids so, or leave these images out."
        )
    return [matches[name] for name in ids]


def _classes(folder: Path) -> tuple[str, ...]:
    """The names of the classes: the first name of each line of the vocabulary, or numbers if there is no such file."""
    path = folder / VOCABULARY
    names = [line.split(",")[0] for line in Lines(path)] if path.exists() else map(str, range(NUM_CLASSES))
    return ("none", *names)
