"""Readers of annotated relations: Visual Genome, data folders, and scene graphs with boxes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regard.data.layout import PIXELS
from regard.data.names import normalize_name
from regard.data.scene_graphs import read_scene_graphs
from regard.data.split import Split
from regard.files import InputError
from regard.relations.annotations import Annotations


class AnnotatedImage(NamedTuple):
    """The annotations of one image. A region of class "none" is not an object."""

    id: str
    boxes: np.ndarray  # float32 [region, 4], fractions of the image
    classes: Sequence[str]
    relations: Sequence[tuple[int, str, int]]  # subject, predicate, object


def read_annotations(sources: Sequence[Path], split: str) -> Annotations:
    """Read the images of all sources that have relations, with one numbering of classes and of predicates.

    Relations of a region with itself are skipped. Raises InputError if no image has relations, or if a source cannot be
    read.
    """
    classes: dict[str, int] = defaultdict(lambda: len(classes))
    predicates: dict[str, int] = defaultdict(lambda: len(predicates))
    classes["none"], predicates["none"]  # a look-up adds a name: "none" is number 0 in both
    ids: list[str] = []
    boxes, labels, relations, sizes = [], [], [], [0]
    for image in (image for source in sources for image in read_images(source, split)):
        triples = {(s, predicates[normalize_name(p)], o) for s, p, o in image.relations if s != o}
        if not triples:
            continue
        relations += [(len(ids), s, o, p) for s, p, o in sorted(triples)]
        labels += [classes[normalize_name(name)] for name in image.classes]
        boxes.append(image.boxes)
        ids.append(image.id)
        sizes.append(len(image.boxes))
    if not ids:
        raise InputError(f"{', '.join(map(str, sources))}: no image has annotated relations. See docs/data.md.")
    return Annotations(
        tuple(ids),
        np.cumsum(sizes),
        np.concatenate(boxes),
        np.array(labels, np.int64),
        np.array(relations, np.int64),
        tuple(classes),
        tuple(predicates),
    )


def read_images(source: Path, split: str) -> Iterator[AnnotatedImage]:
    """Yield the images of a split of a data folder, or of a file of scene graphs in any form of `graph_forms`.

    A file is read as a whole (the 0.7 GB of Visual Genome take some GB of memory) and has no splits. Raises
    InputError if the source is missing or malformed.
    """
    if source.is_dir():
        yield from _read_folder(source, split)
        return
    if not source.is_file():
        raise InputError(f"{source} is not there: expected a data folder, or a JSON file of annotated relations.")
    yield from _read_scene_graphs(source)


def _read_folder(folder: Path, split: str) -> Iterator[AnnotatedImage]:
    """Relations below the split's threshold of confidence are skipped."""
    opened = Split.open(folder, split)
    if missing := [name for name in ("boxes", "labels", "relations") if name not in opened.fields]:
        raise InputError(f"{folder} {split} has no {' and no '.join(missing)}: expected regions with all three.")
    assert opened.boxes is not None
    assert opened.labels is not None
    assert opened.relations is not None
    triples = opened.relations
    for rows in opened.boxes.blocks():
        boxes, labels = opened.boxes.read(rows).astype(np.float32), read_labels(opened, rows)
        for row, box, label in zip(rows.tolist(), boxes, labels.tolist(), strict=True):
            count = opened.num_regions if opened.region_counts is None else int(opened.region_counts[row])
            if not np.isfinite(box[:count]).all():
                raise InputError(f"{folder} {split}: image {row} ({opened.ids[row]}) has boxes with NaN or infinity.")
            at = slice(*triples.bounds[row : row + 2])
            columns = (triples.source[at], triples.label[at], triples.target[at], triples.confidence[at])
            relations = [
                (s, triples.names[p], o)  # subject, predicate, object
                for s, p, o, confidence in zip(*(column.tolist() for column in columns), strict=True)
                if confidence >= opened.relation_threshold and max(s, o) < count
            ]
            yield AnnotatedImage(opened.ids[row], box[:count], [opened.classes[k] for k in label[:count]], relations)


def read_labels(split: Split, rows: np.ndarray) -> np.ndarray:
    """Read the class numbers of the images at `rows`: int64 [image, region], zero in padding.

    Raises InputError for a number without a class name.
    """
    assert split.labels is not None
    labels = split.labels.read(rows).astype(np.int64)
    if split.region_counts is not None:
        labels *= np.arange(split.num_regions) < split.region_counts[rows, None]
    if wrong := sorted(set(labels.ravel().tolist()) - set(range(len(split.classes)))):
        raise InputError(
            f"{split.folder} {split.name} has the label {wrong[0]}: expected 0 to {len(split.classes) - 1}, the number "
            f"of class names."
        )
    return labels


def _read_scene_graphs(path: Path) -> Iterator[AnnotatedImage]:
    for name, graph in read_scene_graphs(path).items():
        if not graph.relations:
            continue
        if graph.boxes is None:
            raise InputError(
                f"{path}, record {name!r} has no boxes. Expected `boxes`, x1 y1 x2 y2 of each label, and optionally "
                "`size`, width and height."
            )
        relations = [(s, p, o) for s, p, o, confidence in graph.relations if confidence >= Split.relation_threshold]
        yield AnnotatedImage(name, _to_fractions(graph.boxes, graph.size), graph.labels, relations)


def _to_fractions(boxes: np.ndarray, size: Sequence[Any] | None) -> np.ndarray:
    """Boxes as fractions, which they may be. Pixels of an image of unknown size are divided by its boxes' extent."""
    if not boxes.size or boxes.max() <= PIXELS:
        return boxes
    return boxes / np.maximum(np.tile(boxes.max(0)[2:] if size is None else size, 2), 1).astype(np.float32)
