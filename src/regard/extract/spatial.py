"""Make a data folder of sentences of place, in which the twin of each picture is its mirror image.

`regard data spatial DIR --out OUT`. The features of DIR are linked, not copied: a split of OUT is a list of rows of
them, as in a folder of `regard extract`. If the photographs of DIR are at hand, each mirrored photograph is described
anew, at its mirrored boxes. Otherwise a mirror image has the features of its original, at mirrored boxes.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps

from regard.data.layout import PHOTOGRAPHS, Files, check_splits, data_folder, extraction_of, read_json
from regard.data.lines import write_lines
from regard.data.relation_files import IMAGE_FILE, Triples
from regard.data.rows import NpyWriter, Rows, Shards, read_numbers, save_array
from regard.data.split import Split
from regard.data.twins import save_twins
from regard.extract.options import Options
from regard.files import InputError, check_new_folder, replacing
from regard.photographs import decode_photograph
from regard.relations.from_sentences import parse_split
from regard.relations.places import PREDICATES, facts_of, mirrored, state, triples_of

MIRROR = " (mirrored)"  # ends the id of a mirror image
MIRROR_FILE = "mirrored.npy"  # features of mirrored photographs: sorted after the links, whose names are numbers
KIND = "mirror"
BLOCK = 256  # images read at a time
BATCH = 8  # photographs per call of the backbone

# Features of mirrored photographs, by their names and mirrored boxes.
Describe = Callable[[Sequence[str], Sequence[np.ndarray]], list[np.ndarray]]

NOTES = (
    "Twins have the same features at mirrored boxes, because there are no photographs: they test whether positions and "
    "relations are read. A model that reads neither gives both the same score.",
    "Mirrored photographs were described anew at the mirrored boxes: twins test whether left and right are told apart, "
    "by relations, boxes or features.",
)


@dataclass(kw_only=True)
class SpatialReport:
    """The result of `make_spatial`."""

    splits: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # numbers of images, sentences, pairs
    notes: list[str] = field(default_factory=list)  # what decides the meaning of the numbers


@dataclass
class Pictures:
    """The images of a split to write: rows of the source, some of them mirrored, and their sentences."""

    row: list[int] = field(default_factory=list)
    is_mirror: list[bool] = field(default_factory=list)
    sentences: list[list[str]] = field(default_factory=list)
    twins: list[tuple[int, int]] = field(default_factory=list)

    def add(self, row: int, is_mirror: bool, sentences: list[str]) -> int:
        """Add an image, and return its number."""
        self.row.append(row)
        self.is_mirror.append(is_mirror)
        self.sentences.append(sentences)
        return len(self.row) - 1


def make_spatial(
    source: Path,
    out: Path,
    *,
    sure: float = 0.25,
    sentences: int = 5,
    captions: bool = False,
    device: str = "cpu",
    progress: Callable[[int], object] | None = None,
) -> SpatialReport:
    """Write sentences of place about the pictures of a data folder, with mirror images as twins, to the new folder out.

    A picture with a thing clearly left or right of another gets up to `sentences` sentences about them, and its mirror
    image gets the same sentences with left and right exchanged. A sentence that is also true of the mirror image, with
    above, below, inside or larger, is stated of the other pictures only, which have no twin. Things are named if their
    confidence is at least `sure`, and if no other region of half that confidence has their class.

    With `captions`, each split has all pictures and their own sentences. Sentences of place and mirror images are then
    added to `train` only, so that the metrics of the other splits are those of their own sentences. `progress(n)` is
    called with the number of images done.

    Raises InputError if `out` exists and is not empty, if a split has no boxes or labels, or if nothing can be said.
    """
    check_new_folder(out)
    if not 0 < sure <= 1:
        raise InputError(f"--sure is {sure}: expected a confidence above 0 and at most 1.")
    if sentences < 1:
        raise InputError(f"--sentences is {sentences}: expected 1 or more per picture.")
    splits, report = [Split.open(source, name) for name in check_splits(source)], SpatialReport()
    if captions and not any(split.name == "train" for split in splits):
        raise InputError(f"{source} has no split train, to which --captions adds sentences of place. Leave it out.")
    for split in splits:
        if missing := {"boxes", "labels"} - split.fields:
            raise InputError(
                f"{source} {split.name} has no {' and no '.join(sorted(missing))}: sentences of place are made from "
                "the boxes and classes of detections. `regard extract --detector` finds them in photographs."
            )
    describe = _describer(source, device)
    report.notes.append(NOTES[describe is not None])
    with replacing(out) as folder:
        store = FeatureLinks(folder / PHOTOGRAPHS, splits)
        write_lines(folder / "labels.txt", splits[0].classes[1:])
        planned = [
            (split, _plan(split, _confidences(split, report), sure, sentences, captions, progress)) for split in splits
        ]
        if not any(pictures.twins for _, pictures in planned):
            raise InputError(
                f"{source}: no picture has a thing clearly left or right of another, each the only one of its class "
                f"with a confidence of {sure}. Lower --sure, or use a detector with more classes."
            )
        anew: dict[tuple[Split, int], int] = {}  # the stored row of each mirror image that is described anew
        for split, pictures in planned:
            if not pictures.row:
                report.notes.append(f"{split.name} has no picture of which anything can be said, and is left out.")
                continue
            if describe:
                for row in itertools.compress(pictures.row, pictures.is_mirror):
                    anew.setdefault((split, row), store.total + len(anew))
            _write(Files(folder, split.name), split, pictures, sure, store, anew)
            parse_split(folder, split.name)
            num_sentences = sum(map(len, pictures.sentences))
            report.splits[split.name] = len(pictures.row), num_sentences, len(pictures.twins)
        if describe:
            _write_features(folder / PHOTOGRAPHS / MIRROR_FILE, list(anew), describe, progress)
    return report


def render_report(report: SpatialReport, out: Path) -> str:
    """Return the lines that `regard data spatial` prints."""
    lines = [
        f"  {name:12} {images:,} pictures, {texts:,} sentences, {pairs:,} pairs of twins"
        for name, (images, texts, pairs) in report.splits.items()
    ]
    return "\n".join([*lines, *report.notes, f"Next: regard data check {out}"])


# What is said ---------------------------------------------------------------------------------------------------------


def _plan(
    split: Split,
    scores: np.ndarray,
    sure: float,
    count: int,
    captions: bool,
    progress: Callable[[int], object] | None,
) -> Pictures:
    """Decide which images a split gets, and with which sentences."""
    out = Pictures()
    of_image, bounds = split.texts_by_image()
    add_places = not captions or split.name == "train"
    for start in range(0, split.num_images, BLOCK):
        rows = np.arange(start, min(start + BLOCK, split.num_images))
        boxes, labels = _regions(split, rows)
        for place, row in enumerate(rows.tolist()):
            sides, others = facts_of(boxes[place], labels[place], scores[row], sure)
            names = [split.classes[label] for label in labels[place]]
            stated = state(sides or others, names, count, split.ids[row]) if add_places else []
            # They come before the captions, because the loader pairs the sentences of twins in this order.
            sentences = [own for own, _ in stated]
            if captions:
                sentences += [split.captions[text] for text in of_image[bounds[row] : bounds[row + 1]].tolist()]
            if sentences:
                first = out.add(row, False, sentences)
                if sides and stated:
                    out.twins.append((first, out.add(row, True, [other for _, other in stated])))
        if progress:
            progress(len(rows))
    return out


def _confidences(split: Split, report: SpatialReport | None = None) -> np.ndarray:
    """The confidence of each label, [image, region]: from the files beside the labels, or else 1."""
    files, shape = Files(split.folder, split.name), (split.num_images, split.num_regions)
    if path := files.found("scores.npy"):
        scores = read_numbers(path, 2, whole=False).all().astype(np.float32)
        if scores.shape != shape:
            raise InputError(f"{path} has shape {scores.shape}: expected {shape}, a confidence for each region.")
        return scores
    scores = np.ones(shape, np.float32)
    if not files.path("labels.npy").exists() and (path := files.found("labels.json")):
        for row, image in enumerate(read_json(path, list[list[tuple[int, str, Any]]])):
            for region, name, *confidence in image:
                try:
                    scores[row, region] = float(confidence[0])
                except (TypeError, ValueError):
                    raise InputError(
                        f"{path}, image {row}: the confidence of {name!r} is {confidence[0]!r}; expected a number."
                    ) from None
    elif report:
        report.notes.append(f"{split.name} has no confidences: each label is taken for certain.")
    return scores


def _regions(split: Split, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and labels of images, zero beyond their regions. The features are not read."""
    assert split.boxes is not None
    assert split.labels is not None
    boxes, labels = split.boxes.read(rows).astype(np.float32), split.labels.read(rows).astype(np.int64)
    if split.region_counts is not None:
        padding = np.arange(split.num_regions) >= split.region_counts[rows, None]
        boxes[padding], labels[padding] = 0, 0
    return boxes, labels


# Files ----------------------------------------------------------------------------------------------------------------


class FeatureLinks:
    """Links to the feature files of splits, as the shards of a folder of `regard extract`.

    Raises InputError if the splits differ in regions, features or dtype.
    """

    def __init__(self, folder: Path, splits: Sequence[Split]) -> None:
        folder.mkdir(parents=True)
        kinds = {(split.features.shape[1:], split.features.dtype) for split in splits}
        if len(kinds) > 1:
            raise InputError(
                f"The splits of {splits[0].folder} have features of different shapes or types: convert them first, by "
                "`regard data convert`."
            )
        self.total = 0
        self._start: dict[Path, int] = {}
        for split in splits:
            for path in _paths(split):
                if path not in self._start:
                    os.symlink(os.path.abspath(path), folder / f"{len(self._start):06d}.npy")
                    self._start[path] = self.total
                    self.total += len(Rows(path))

    def rows(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """Return the row in the linked files of each image of a split."""
        index = getattr(split.features, "index", None)
        return self._start[_paths(split)[0]] + (rows if index is None else index[rows])


def _paths(split: Split) -> list[Path]:
    features = split.features
    if isinstance(features, Shards):
        return features.paths
    assert isinstance(features, Rows)
    return [features.path]


def _write(
    files: Files,
    split: Split,
    pictures: Pictures,
    sure: float,
    store: FeatureLinks,
    anew: dict[tuple[Split, int], int],
) -> None:
    rows, is_mirror = np.array(pictures.row), np.array(pictures.is_mirror)
    triples, scores = [np.zeros((0, 4), np.int32)], _confidences(split)[rows]
    shape = (len(rows), split.num_regions)
    with (
        NpyWriter(files.path("boxes.npy"), (*shape, 4), "<f4") as boxes_file,
        NpyWriter(files.path("labels.npy"), shape, "<i2") as labels_file,
    ):
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            boxes, labels = _regions(split, rows[part])
            real = (boxes[..., 2:] > boxes[..., :2]).all(-1, keepdims=True)
            boxes = np.where(is_mirror[part, None, None] & real, mirrored(boxes), boxes)
            boxes_file.write_rows(boxes)
            labels_file.write_rows(labels)
            things = (labels > 0) & (scores[part] >= sure / 2)
            triples += [triples_of(start + place, *each) for place, each in enumerate(zip(boxes, things, strict=True))]
    counts = [len(own) for own in pictures.sentences]
    ids = [split.ids[row] + MIRROR * flag for row, flag in zip(pictures.row, pictures.is_mirror, strict=True)]
    write_lines(files.path("ids.txt"), ids)
    write_lines(files.path("caps.txt"), [text for own in pictures.sentences for text in own])
    save_array(files.path("image_of_text.npy"), np.repeat(np.arange(len(rows), dtype=np.int32), counts))
    save_array(files.path("scores.npy"), scores.astype(np.float16))
    if split.region_counts is not None:
        save_array(files.path("num_regions.npy"), split.region_counts[rows].astype(np.int16))
    if split.sizes is not None:
        save_array(files.path("sizes.npy"), split.sizes[rows])
    image, subject, other, label = np.concatenate(triples).T
    Triples.of(image, subject, other, label, PREDICATES, len(rows)).save(files.path("relations.npz"), IMAGE_FILE)
    if pictures.twins:
        save_twins(files.path("twins.npz"), pictures.twins, KIND)
    stored = store.rows(split, rows)
    for place in np.flatnonzero(is_mirror):
        stored[place] = anew.get((split, int(rows[place])), stored[place])
    save_array(files.path("rows.npy"), stored.astype(np.int64))


# Photographs ----------------------------------------------------------------------------------------------------------


def _describer(source: Path, device: str) -> Describe | None:
    """A function that computes the features of mirrored photographs, if the photographs of a folder are at hand."""
    settings = extraction_of(data_folder(source))
    photographs = Path(settings.get("photographs", ""))
    if "options" not in settings or not photographs.is_dir():
        return None
    options = Options.resolve({}, settings["options"], source).with_precision(device)
    backbone = options.extractor(device).backbone

    def describe(names: Sequence[str], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        images = []
        for name in names:
            try:
                data = (photographs / name).read_bytes()
            except OSError as error:
                raise InputError(
                    f"{photographs / name} cannot be read ({error.strerror}): run `regard extract {photographs} --out "
                    f"{source}` again, so that the folder has the photographs that there are."
                ) from None
            images.append(ImageOps.mirror(decode_photograph(name, data, options.side)[0]))
        return backbone(images, boxes)

    return describe


def _write_features(
    path: Path, images: Sequence[tuple[Split, int]], describe: Describe, progress: Callable[[int], object] | None
) -> None:
    """Write the features of mirror images, [image, region, feature]."""
    split = images[0][0]
    shape = split.features.shape[1:]
    with NpyWriter(path, (len(images), *shape), split.features.dtype.str) as writer:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            boxes = [mirrored(_regions(split, np.array([row]))[0][0, : _count(split, row)]) for split, row in batch]
            block = np.zeros((len(batch), *shape), np.float32)
            for place, own in enumerate(describe([split.ids[row] for split, row in batch], boxes)):
                block[place, : len(own)] = own
            writer.write_rows(block)
            if progress:
                progress(len(batch))


def _count(split: Split, row: int) -> int:
    return split.num_regions if split.region_counts is None else int(split.region_counts[row])
