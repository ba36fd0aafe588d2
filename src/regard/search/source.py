"""What can be added to an index: the splits of a data folder. Photographs are extracted into a data folder first."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from regard.data import Split
from regard.data.captions import Captions
from regard.data.layout import PHOTOGRAPHS, check_splits, extraction_of, splits_of
from regard.explain.image_contents import find_photograph, stored_relations
from regard.extract.extraction import Progress, extract
from regard.extract.store import Store
from regard.files import InputError
from regard.photographs import list_photographs, time_taken
from regard.search.entries import COLUMNS
from regard.training.trained_run import TrainedRun

MAX_CAPTIONS = 5  # sentences per picture that an index shows
OWN_COLUMNS = {"width": "integer", "height": "integer", "objects": "texts", "taken": "text"}
READERS: dict[str, Callable[[str], Any]] = {"integer": int, "number": float, "text": str}
SAME = ("detector", "features", "pool", "pixels", "project", "classes", "regions", "windows", "sure", "overlap", "side")


@dataclass(eq=False)
class Source:
    """A split of a data folder, as several runs read it."""

    folder: Path
    name: str
    run: TrainedRun | None = None
    _opened: dict[Path, Split] = field(default_factory=dict)

    def opened_by(self, run: TrainedRun) -> Split:
        """Return the split with the numbers of classes and relations that a run was trained with."""
        if run.folder not in self._opened:
            self._opened[run.folder] = run.open_split(self.name, self.folder)
        return self._opened[run.folder]

    @property
    def split(self) -> Split:
        """The split, with the classes and relations of the run of the index if there is one."""
        if self.run:
            return self.opened_by(self.run)
        if Path() not in self._opened:
            self._opened[Path()] = Split.open(self.folder, self.name)
        return self._opened[Path()]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each id."""
        return {str(id_): row for row, id_ in enumerate(self.split.ids)}

    def photograph(self, row: int) -> Path | None:
        """Return the path of a picture, if it is there. Links that were extracted are followed."""
        return find_photograph(self.split, row, follows_links=True)


def sources_of(folder: Path, run: TrainedRun | None, split: str | None = None) -> list[Source]:
    """Return the splits of a data folder, or one of them. Raises InputError if there are none, or not this one."""
    names = check_splits(folder)
    if split is not None and split not in names:
        raise InputError(f"{folder} has no split {split!r}: expected {', '.join(names)}.")
    return [Source(folder, name, run) for name in names if split in (None, name)]


def is_data_folder(folder: Path) -> bool:
    """Return whether a folder contains the arrays of a data folder, rather than photographs."""
    return folder.is_dir() and bool(splits_of(folder))


def extract_like(
    photographs: Path,
    out: Path,
    run: TrainedRun | None,
    *,
    captions: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[str]:
    """Extract photographs into the data folder `out`, with the options of the data that a run was trained on.

    Return the files that could not be read. Raises InputError if the run's data were not made by `regard extract`.
    """
    list_photographs(photographs)  # raises InputError for a folder that is absent or empty
    like = None
    if run is not None:
        like = run.data
        if not extraction_of(like):
            raise InputError(
                f"{photographs} contains photographs, and {like}, which {run.folder} was trained on, was not made by "
                f"`regard extract`: it is unknown how to extract them. Give a data folder with the same features."
            )
    report = extract(photographs, out, like=like, captions=captions, device=device, progress=progress)
    return [name for name, why in report.skipped.items() if "is the same photograph as" not in why]


def check_extraction(folder: Path, run: TrainedRun) -> None:
    """Raise InputError if a data folder was extracted with other options than the data that a run was trained on."""
    try:
        expected = extraction_of(run.data).get("options", {})
    except InputError:  # the data are no longer there, so that only the number of features can be compared
        return
    given = extraction_of(folder).get("options", {})
    if not (expected and given):
        return
    for name in SAME:
        if expected.get(name) != given.get(name):
            raise InputError(
                f"{folder} was extracted with --{name} {given.get(name)}, and the data of {run.folder} with "
                f"{expected.get(name)}: extract it again with --like {run.data}."
            )


def extraction_folder(folder: Path, photographs: Path) -> Path:
    """Return the data folder in `folder` of photographs that are added directly.

    A hash tells apart folders of the same name.
    """
    hash_ = hashlib.blake2b(os.fsencode(photographs.resolve()), digest_size=4).hexdigest()
    return folder / f"{photographs.resolve().name}-{hash_}"


def content_keys(split: Split) -> list[str]:
    """Return a hash of the content of each picture.

    It is the hash of the pixels if `regard extract` recorded it, and otherwise of features and boxes.
    """
    if extraction_of(split.folder):
        store = Store(split.folder / PHOTOGRAPHS)
        pixels = {record.hash: record.pixels for record in store.records.values() if record.pixels}
        hashes = (store.records[name].hash if name in store.records else "" for name in split.ids)
        keys = [pixels.get(hash_, "") for hash_ in hashes]
        if all(keys):
            return keys
    return [key for rows in split.features.blocks() for key in _feature_keys(split, rows)]


def _feature_keys(split: Split, rows: np.ndarray) -> Iterator[str]:
    features, boxes = split.features.read(rows), split.boxes.read(rows) if split.boxes is not None else None
    counts = split.region_counts
    for place, row in enumerate(rows.tolist()):
        own = slice(None) if counts is None else slice(int(counts[row]))
        digest = hashlib.blake2b(np.ascontiguousarray(features[place, own]).tobytes(), digest_size=16)
        if boxes is not None:
            digest.update(np.ascontiguousarray(boxes[place, own], np.float32).tobytes())
        yield digest.hexdigest()


def contents_of(split: Split, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return what an index shows of pictures: size, boxes, labels, relations and sentences, as JSON values."""
    contents = []
    texts_of = _texts_of(split, rows)
    images = split.images(rows)
    for place, row in enumerate(rows.tolist()):
        mask = images.mask[place]
        labels = [] if images.labels is None else images.labels[place][mask].tolist()
        boxes = [] if images.boxes is None else images.boxes[place][mask].float().tolist()
        contents.append(
            {
                "boxes": [[round(value, 4) for value in box] for box in boxes],
                "labels": [split.classes[number] if number else "" for number in labels],
                "relations": [list(relation) for relation in stored_relations(split, row, int(mask.sum()))],
                "captions": [str(split.captions[text]) for text in texts_of[place][:MAX_CAPTIONS]],
            }
        )
    return contents


def _texts_of(split: Split, rows: np.ndarray) -> list[list[int]]:
    texts, bounds = split.texts_by_image()
    return [texts[bounds[row] : bounds[row + 1]].tolist() for row in rows.tolist()]


class Payload:
    """The columns to filter by: size, classes, the time of a photograph, and the other columns of the caption table."""

    def __init__(self, source: Source, present: Mapping[str, str]) -> None:
        """Read the caption table of a source. `present` has the types of the columns that the index has.

        Raises InputError if a value does not have the type of its column.
        """
        self.source = source
        self.columns: dict[str, dict[str, str]] = {}  # column -> value of each id
        table = extraction_of(source.folder).get("captions")
        if table and Path(table).is_file():
            captions = Captions.read(Path(table))
            for name, rows in captions.rows_of(list(source.split.ids)).items():
                for column, values in captions.others.items():
                    self.columns.setdefault(_column_name(column), {})[name] = values[rows[0]].strip()
        self.readers = {name: _reader(values, present.get(name), name) for name, values in self.columns.items()}

    @property
    def types(self) -> dict[str, str]:
        """The type of each column."""
        return OWN_COLUMNS | {name: kind for name, (kind, _) in self.readers.items()}

    def of(self, row: int, content: dict[str, Any]) -> dict[str, Any]:
        """Return the values of one picture."""
        split = self.source.split
        id_, path = str(split.ids[row]), self.source.photograph(row)
        width, height = split.sizes[row].tolist() if split.sizes is not None else (None, None)
        own = {"width": width, "height": height, "objects": sorted({name for name in content["labels"] if name})}
        own["taken"] = time_taken(path) if path else None
        for name, values in self.columns.items():
            text = values.get(id_)
            own[name] = self.readers[name][1](text) if text else None
        return own


def _column_name(header: str) -> str:
    """The name of a column of the payload: one word, different from the columns of the store."""
    name = re.sub(r"\W+", "_", header.strip()).strip("_").lower()
    return f"{name}_" if name in (*COLUMNS, *OWN_COLUMNS) else name


def _reader(values: Mapping[str, str], kind: str | None, name: str) -> tuple[str, Callable[[str], Any]]:
    """The type of a column, and the function that reads its values; by default the narrowest type that fits all."""
    for own, read in READERS.items():
        if kind in (own, None):
            try:
                for text in filter(None, values.values()):
                    read(text)
                return own, read
            except ValueError:
                if kind:
                    raise InputError(f"The column {name} of this index is {kind}, and {text!r} is not.") from None
    return "text", str
