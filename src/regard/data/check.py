"""Check a data folder: its layout, the inputs it has for each model, and every fault in its files."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from regard.checksums import check_arrays
from regard.data.box_forms import TOLERANCE, are_swapped, describe_boxes
from regard.data.convert import open_splits
from regard.data.layout import PHOTOGRAPHS, Files, data_folder, extraction_of, features_of, splits_of
from regard.data.lines import Lines, NamedLines
from regard.data.rows import Column, Rows, ScaledColumn, Shards, check_array
from regard.data.sources import records_of
from regard.data.split import Split
from regard.files import InputError
from regard.words import tokenize
from regard.words.scripts import describe_sentences, is_english

USES = (
    ("vse_infinity, scan, sgraf", None),
    ("cmsei, hire: spatial graph", "boxes"),
    ("cmsei, hire: semantic graph", "relations"),
    ("tvrn: graph of regions", "boxes"),
    ("tvrn: graph of words", "text_relations"),
    ("resg: concepts by label", "labels"),
    ("resg: relations between regions", "relations"),
    ("resg: relations between words", "roles"),
)


@dataclass(frozen=True)
class Fault:
    """A fault in a file, perhaps at a row. Rows of arrays count from 0, lines of text files from 1."""

    severity: Literal["error", "warning"]
    file: str
    row: int | None
    text: str

    def __str__(self) -> str:
        unit = "line" if self.file.endswith(".txt") else "row"
        return f"{self.file}, {unit} {self.row}: {self.text}" if self.row is not None else f"{self.file}: {self.text}"


@dataclass(frozen=True)
class Summary:
    """The sizes of one split, and the optional fields that it has."""

    name: str
    num_images: int
    num_texts: int
    num_regions: int
    feature_dim: int
    dtype: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class DataReport:
    """The result of `check`. The command line prints `str(report)`."""

    folder: str
    layout: str
    splits: tuple[Summary, ...]
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> list[Fault]:
        """The faults that must be corrected before training."""
        return [fault for fault in self.faults if fault.severity == "error"]

    def uses(self) -> dict[str, list[str]]:
        """Return, for each part of a model that reads optional inputs, the splits that have its inputs."""
        return {
            use: [split.name for split in self.splits if field is None or field in split.fields] for use, field in USES
        }

    def __str__(self) -> str:
        head = ("split", "images", "sentences", "regions", "features", "optional inputs")
        rows = [
            (s.name, s.num_images, s.num_texts, s.num_regions, f"{s.feature_dim} {s.dtype}", ", ".join(s.fields) or "-")
            for s in self.splits
        ]
        names = [split.name for split in self.splits]
        uses = [(use, "yes" if having == names else ", ".join(having) or "no") for use, having in self.uses().items()]
        count = Counter(fault.severity for fault in self.faults)
        total = " and ".join(f"{count[kind]} {kind}{'s' * (count[kind] != 1)}" for kind in ("error", "warning"))
        lines = [f"{self.folder}: {self.layout}"]
        lines += ["", *_table([head, *rows])] if rows else []
        lines += ["", "Model parts that this data supports:", *_table(uses)] if rows else []
        lines += ["", f"{total}{':' * bool(self.faults)}", *_table([(f.severity, str(f)) for f in self.faults])]
        return "\n".join(lines)


def _table(rows: Sequence[Sequence[object]]) -> list[str]:
    widths = [max(len(str(value)) for value in column) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{value!s:{w}}" for value, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def check(folder: str | os.PathLike[str], *, captions_per_image: int | None = None, deep: bool = False) -> DataReport:
    """Check every file of a data folder, reading a few megabytes at a time; if `deep`, the checksums of arrays too.

    Faults of the files are in the report. Raises InputError only if the folder contains no data at all.
    """
    at = data_folder(folder)
    names = splits_of(at)
    faults: list[Fault] = []
    splits: list[Split] = []
    if names:
        for name in names:
            files = Files(at, name)
            faults += _check_lines(files)
            try:
                splits.append(Split.open(at, name, captions_per_image=captions_per_image))
            except InputError as error:
                faults.append(_to_fault(error, at, name))
                faults += _check_features_of_broken_split(files)
    elif records_of(at):
        try:
            splits, notes = open_splits(at, captions_per_image)
            faults += [Fault("warning", "records", None, f"{note}.") for note in notes]
        except InputError as error:
            faults.append(_to_fault(error, at, ""))
    else:
        raise InputError(f"{at} contains no *_ims.npy, *.tsv or *.npz: expected a folder of a layout in docs/data.md.")
    for split in splits:
        name = {Rows: "_ims.npy", Shards: "_rows.npy"}.get(type(split.features), "'s records")
        features = _check_features(split.features, f"{split.name}{name}", split.num_images == split.num_texts)
        others = (_check_ids(split), _check_boxes(split), _check_labels(split), _check_text_relations(split))
        for part in (features, *others):
            faults += _with_read_errors(part, split)
    faults += _check_across_splits(splits)
    faults += _check_checksums(at) if deep else ()
    return DataReport(str(folder), _layout(at, splits), tuple(map(_summary, splits)), tuple(faults))


def _check_checksums(folder: Path) -> Iterator[Fault]:
    """Check the arrays against the checksums that `regard data convert` and `extract` wrote with them."""
    arrays = sorted(path for pattern in ("*.np[yz]", f"{PHOTOGRAPHS}/*.np[yz]") for path in folder.glob(pattern))
    without = 0
    for path in arrays:
        name = str(path.relative_to(folder))
        try:
            if path.suffix == ".npy":
                without += not check_array(path)
            else:
                check_arrays(path)
        except InputError as error:
            yield Fault("error", name, None, str(error).removeprefix(f"{path} "))
    if without:
        have = _count(without, "array has", "arrays have")
        yield Fault(
            "warning", "*.npy", None, f"{have} no checksum; `regard data convert` writes arrays with checksums."
        )


def _with_read_errors(faults: Iterator[Fault], split: Split) -> Iterator[Fault]:
    """Yield the faults of a check of a split. An InputError that ends the check becomes a fault too."""
    try:
        yield from faults
    except InputError as error:
        yield _to_fault(error, split.folder, split.name)


def _to_fault(error: InputError, folder: Path, split: str) -> Fault:
    """Convert an error to a fault of the file that it names, without the path of the folder."""
    text = str(error).replace(f"{folder}{os.sep}", "")
    file, _, rest = text.partition(" ")
    names_file = "_" in file and file.startswith(split)
    return Fault("error", file.strip(",:") if names_file else f"{split}_*", None, rest if names_file else text)


def _summary(split: Split) -> Summary:
    sizes = (split.num_images, split.num_texts, split.num_regions, split.feature_dim)
    return Summary(split.name, *sizes, str(split.features.dtype), tuple(sorted(split.fields)))


def _layout(folder: Path, splits: Sequence[Split]) -> str:
    def has(name: str) -> bool:
        return any(folder.glob(f"*_{name}"))

    stored = [split.features for split in splits if isinstance(split.features, Rows)]
    repeated = any(features.index is not None for features in stored)
    if not splits_of(folder):
        kind = ".tsv records" if any(folder.glob("**/*.tsv")) else "one .npz per image"
        return f"{kind}; `regard data convert` makes a folder to train on"
    if has("rows.npy"):
        kind = "photographs, extracted by `regard extract`" if extraction_of(folder) else "rows of linked feature files"
    elif has("ims_bbx.npy"):
        kind = "GSMN's layout"
    elif has("img_sizes.npy"):
        kind = "CAMERA's layout"
    elif folder.name == "precomp" or (folder / "id_mapping.json").exists():
        kind = "VSE-infinity's layout"
    elif repeated or any(features.dtype != np.float16 for features in stored):
        kind = "SCAN's layout"
    else:
        kind = "the compact layout"
    notes = []
    if repeated:
        names = ", ".join(split.name for split in splits if getattr(split.features, "index", None) is not None)
        notes.append(f"{names} with one row per sentence")
    if any(isinstance(split.boxes, ScaledColumn) for split in splits):
        notes.append("boxes in pixels")
    if has("caps.json"):
        notes.append("dependency lists, which `regard data convert` converts to relations between words")
    return "; ".join([kind, *notes])


def _check_lines(files: Files) -> Iterator[Fault]:
    """Check the lines of the files of sentences and ids."""
    for name, what in (("caps.txt", "sentence"), ("ids.txt", "id")):
        path = files.path(name)
        if not path.exists():
            continue
        lines = Lines(path)
        empty, wrong = [], []
        for row in range(len(lines)):
            try:
                if not lines[row]:
                    empty.append(row + 1)
            except InputError:
                wrong.append(row + 1)
        if wrong:
            have = _count(len(wrong), "line is", "lines are")
            yield Fault("error", path.name, wrong[0], f"{have} not UTF-8; this is the first. Save the file as UTF-8.")
        if empty:
            have = _count(len(empty), f"empty {what}", f"empty {what}s")
            yield Fault("error", path.name, empty[0], f"{have}. Remove the line, or write the {what}.")
        if name == "caps.txt" and not wrong:
            if suspicion := describe_sentences(lines):
                yield Fault("warning", path.name, None, f"{suspicion}.")
            repeats = np.setdiff1d(_repeats(lines.keys()), np.array(empty, int) - 1)
            if len(repeats):
                have = _count(len(repeats), "sentence repeats an earlier one", "sentences repeat earlier ones")
                text = f"{have}; this is the first ({lines[repeats[0]]!r}). Their scores are always equal."
                yield Fault("warning", path.name, int(repeats[0]) + 1, text)


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def _repeats(keys: np.ndarray) -> np.ndarray:
    """The positions of keys that occur at an earlier position too."""
    _, first = np.unique(keys, return_index=True)
    return np.delete(np.arange(len(keys)), first)


def _check_ids(split: Split) -> Iterator[Fault]:
    if not isinstance(split.ids, NamedLines):
        yield Fault(
            "warning",
            f"{split.name}_ids.txt",
            None,
            "missing: images are identified by their row, and leaks between splits cannot be found.",
        )
        return
    repeats = _repeats(split.ids.keys())
    if len(repeats):
        name = split.ids[int(repeats[0])]
        text = f"{_count(len(repeats), 'image repeats', 'images repeat')} an earlier id; this is the first ({name!r})."
        yield Fault("error", f"{split.name}_ids.txt", split.ids.line(int(repeats[0])) + 1, text)


def _check_features_of_broken_split(files: Files) -> Iterator[Fault]:
    """Check the features of a split that cannot be opened, so that one fault does not hide another."""
    try:
        yield from _check_features(features_of(files), files.path("ims.npy").name)
    except InputError:
        return  # the features are the reason, which is reported already


def _check_features(features: Column, file: str, is_one_each: bool = False) -> Iterator[Fault]:
    if features.dtype == np.float64:
        yield Fault(
            "warning",
            file,
            None,
            "float64 takes four times the space of float16. `regard data convert` writes float16.",
        )
    wrong = zero = 0
    first_wrong = first_zero = 0
    hashes: list[int] = []
    for rows in features.blocks():
        block = features.read(rows)
        hashes += [hash(row.tobytes()) for row in block]
        with np.errstate(invalid="ignore"):  # a damaged number may be a NaN that signals
            bad, empty = ~np.isfinite(block).all((1, 2)), ~block.any((1, 2))
        first_wrong = int(rows[bad.argmax()]) if bad.any() and not wrong else first_wrong
        first_zero = int(rows[empty.argmax()]) if empty.any() and not zero else first_zero
        wrong, zero = wrong + int(bad.sum()), zero + int(empty.sum())
    if wrong:
        have = _count(wrong, "image contains", "images contain")
        yield Fault("error", file, first_wrong, f"{have} NaN or infinity; this is the first. Extract them again.")
    if zero:
        have = _count(zero, "image is", "images are")
        yield Fault("error", file, first_zero, f"{have} all zero; this is the first. Extract them again.")
    if is_one_each and not zero:
        yield from _check_stored_again(np.array(hashes), file)


def _check_stored_again(keys: np.ndarray, file: str) -> Iterator[Fault]:
    """Check whether each image has the features of the one before: SCAN's rows, under ids that differ."""
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    lengths = np.diff(starts, append=len(keys))
    if again := len(keys) - len(starts):
        first = int(starts[(lengths > 1).argmax()]) + 1
        have = _count(again, "image has", "images have")
        is_regular = (lengths == lengths[0]).all()
        advice = f" If each is stored {lengths[0]} times, pass captions_per_image={lengths[0]}." if is_regular else ""
        text = f"{have} the features of the image before, under another id; this is the first.{advice}"
        yield Fault("warning", file, first, text)


def _check_boxes(split: Split) -> Iterator[Fault]:
    if split.boxes is None:
        return
    flat: list[int] = []
    broken: list[int] = []
    outside: list[tuple[int, np.ndarray]] = []  # the first thousand
    num_outside = 0
    counts = split.counts
    for rows in split.boxes.blocks():
        boxes = split.boxes.read(rows).astype(np.float32)
        real = np.arange(split.num_regions) < counts[rows][:, None]
        finite = np.asarray(np.isfinite(boxes).all(2))
        broken += rows[(real & ~finite).any(1)].tolist()
        boxes, real = np.where(finite[..., None], boxes, 0), real & finite
        out = real & (np.abs(boxes - 0.5) > 0.5 + TOLERANCE).any(2)
        flat += rows[(real & ~out & ((boxes[..., 2:] <= boxes[..., :2]).any(2))).any(1)].tolist()
        num_outside += int(out.any(1).sum())
        for place in np.flatnonzero(out.any(1))[: 1000 - len(outside)]:
            outside.append((int(rows[place]), boxes[place][real[place]]))
    path = Files(split.folder, split.name).found("boxes.npy", "ims_bbx.npy")
    file = path.name if path else f"{split.name} boxes"
    if path and not num_outside and (suspicion := _describe_first_boxes(split, counts)):
        yield Fault("warning", file, None, f"{suspicion}.")
    if broken:
        have = _count(len(broken), "image has", "images have")
        yield Fault("error", file, broken[0], f"{have} boxes with NaN or infinity; this is the first.")
    if flat:
        have = _count(len(flat), "image has", "images have")
        yield Fault("warning", file, flat[0], f"{have} boxes without area; this is the first.")
    if outside:
        row, boxes = outside[0]
        have = _count(num_outside, "image has", "images have")
        text = f"{have} boxes outside the image; this is the first"
        if split.sizes is not None:
            size = split.sizes[row]
            reach = " x ".join(f"{side:.0f}" for side in (boxes.reshape(-1, 2, 2).max((0, 1)) * size))
            fits = all(are_swapped(boxes, split.sizes[at][None]) for at, boxes in outside)
            cause = "Width and height seem to be swapped" if fits else "The sizes seem to be those of other images"
            text += f": they reach {reach} in an image of {size[0]} x {size[1]}. {cause}"
        yield Fault("error", file, row, f"{text}.")


def _describe_first_boxes(split: Split, counts: np.ndarray) -> str:
    assert split.boxes is not None
    rows = next(split.boxes.blocks(), np.zeros(0, np.int64))[:1000]
    real = np.arange(split.num_regions) < counts[rows][:, None]
    boxes = split.boxes.read(rows).astype(np.float32)[real]
    return describe_boxes(boxes, np.zeros((len(boxes), 2)))


def _check_labels(split: Split) -> Iterator[Fault]:
    if split.labels is None:
        return
    for rows in split.labels.blocks():
        labels = split.labels.read(rows)
        wrong = ((labels < 0) | (labels >= len(split.classes))).any(1)
        if wrong.any():
            last = len(split.classes) - 1
            have = f"class numbers are between {labels.min()} and {labels.max()}"
            text = f"{have}; expected 0 to {last}, because labels.txt names {last} classes."
            yield Fault("error", f"{split.name}_labels.npy", int(rows[wrong.argmax()]), text)
            return


def _check_text_relations(split: Split) -> Iterator[Fault]:
    relations = split.text_relations
    if relations is None:
        return
    if "roles" in split.fields and not is_english(split.captions):
        why = "the sentences do not look like English, for which the parser is made. Remove the file."
        yield Fault("warning", f"{split.name}_text_relations.npz", None, why)
    beyond = []
    for text in np.flatnonzero(np.diff(relations.bounds)).tolist():
        at = slice(relations.bounds[text], relations.bounds[text + 1])
        last = max(relations.source[at].max(), relations.target[at].max())
        if last >= len(tokenize(split.captions[text])):
            beyond.append(text)
    if beyond:
        have = _count(len(beyond), "sentence has", "sentences have")
        message = f"{have} relations beyond the last word; sentence {beyond[0]} is the first. Tokenized differently?"
        yield Fault("warning", f"{split.name}_text_relations.npz", None, message)


def _check_across_splits(splits: Sequence[Split]) -> Iterator[Fault]:
    """Check pairs of splits: images in both, and features or names that differ."""
    ids = {split.name: split.ids for split in splits if isinstance(split.ids, NamedLines)}
    for one, other in combinations(ids, 2):
        shared = np.flatnonzero(np.isin(ids[other].keys(), ids[one].keys()))
        if len(shared) and {one, other} != {"test", "testall"}:  # COCO's test split is part of its testall
            place = int(shared[0])
            text = f"{_count(len(shared), 'image is', 'images are')} also in {one} (a leak); this is the first."
            yield Fault("error", f"{other}_ids.txt", ids[other].line(place) + 1, text)
    for field, file, name in (
        ("feature_dim", "ims.npy", "the feature dimension"),
        ("predicates", "relations.npz", "the list of predicates"),
        ("text_labels", "text_relations.npz", "the list of labels"),
    ):
        having = [split for split in splits if getattr(split, field)]
        for split in having[1:]:
            if getattr(split, field) != getattr(having[0], field):
                difference = f"{name} differs from that of {having[0].name}, so no model can use both"
                yield Fault("error", f"{split.name}_{file}", None, f"{difference}. Make the splits together.")
