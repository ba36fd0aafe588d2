"""Compute what is shown of one image of a data folder: regions, relations, sentences. `image_page` draws it."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from regard.batch import Images
from regard.boxes import RELATION_CLASSES, iou, relation_classes
from regard.data.layout import check_splits, extraction_of
from regard.data.split import Split
from regard.explain.disjoint_sets import DisjointSets
from regard.files import InputError, nearest
from regard.photographs import find_photograph_named, load_photograph
from regard.words.parser import Parse, own_parser

MAX_DEGREE = 2  # relations per region, if not all relations are shown
SAME_THING_IOU = 0.7  # boxes with a larger IoU are taken for one thing
# A geometric class says where the object is, seen from the subject. This maps it to what the subject is to the object.
SUBJECT_PREDICATE = {
    "right": "left of",
    "below right": "above left of",
    "below": "above",
    "below left": "above right of",
    "left": "right of",
    "above left": "below right of",
    "above": "below",
    "above right": "below left of",
}

Relation = tuple[int, str, int]  # subject region, predicate, object region
Photograph = Image.Image | str | os.PathLike[str] | None


@dataclass(frozen=True)
class ImageContents:
    """What is shown of one image. Regions are given by their number in the data."""

    id: str
    split: str
    regions: tuple[int, ...]  # those shown
    labels: tuple[str, ...]  # class name of each shown region; "" if it has none
    boxes: Float[np.ndarray, "region 4"] | None  # of each shown region: x1 y1 x2 y2, fractions of the image
    relations: tuple[Relation, ...]  # those shown, most confident first
    is_geometric: bool  # the relations shown are computed from the boxes
    num_regions: int  # of the image, shown or not
    num_relations: int  # stored for the image, shown or not
    sentences: tuple[str, ...]
    parses: tuple[Parse, ...]  # of each sentence
    has_roles: bool  # the edges of `parses` are read from the data
    photograph: Image.Image | None
    aspect: float  # width / height

    @classmethod
    def of(
        cls,
        split: Split,
        row: int,
        photograph: Photograph = None,
        *,
        regions: int = 12,
        relations: int = 12,
        sentences: int = 5,
    ) -> "ImageContents":
        """Select what to show of the image at `row`.

        `regions`, `relations` and `sentences` are the largest numbers to show. Relations are read from the data. If the
        data contain none for this image, or only geometric ones, they are computed from the boxes. Raises InputError
        if a number is negative or the photograph cannot be read.
        """
        for name, number in (("regions", regions), ("relations", relations), ("sentences", sentences)):
            if number < 0:
                raise InputError(f"Expected 0 or more {name}, got {number}.")
        photograph = load_photograph(photograph)
        images = split.images([row])
        labels = _labels(split, images)
        stored = stored_relations(split, row, len(labels))
        is_geometric = images.boxes is not None and (not stored or split.predicates == RELATION_CLASSES)
        if is_geometric:
            shown = select_regions(images, labels, regions)
            chosen = relations_of_nearest_pairs(images, shown)[:relations]
        else:
            chosen = select_relations(stored, labels, _overlap(images), regions, relations)
            related = dict.fromkeys(end for subject, _, object_ in chosen for end in (subject, object_))
            shown = select_regions(images, labels, regions, related)

        width, height = split.sizes[row].tolist() if split.sizes is not None else (4, 3)
        if photograph is not None:
            width, height = photograph.size
        texts = np.flatnonzero(split.image_of_text == row)[:sentences].tolist()
        return cls(
            id=split.ids[row],
            split=split.name,
            regions=tuple(shown),
            labels=tuple(labels[region] for region in shown),
            boxes=None if images.boxes is None else images.boxes[0, shown].numpy(),
            relations=tuple(chosen),
            is_geometric=is_geometric,
            num_regions=len(labels),
            num_relations=len(stored),
            sentences=tuple(split.captions[text] for text in texts),
            parses=tuple(_parses(split, texts)),
            has_roles="roles" in split.fields,
            photograph=photograph,
            aspect=width / height,
        )

    def summary(self) -> str:
        """Return one line: the split, how many regions and relations are shown, and where the relations come from."""
        shown = f"{len(self.regions)} of {self.num_regions} regions"
        if self.is_geometric:
            relations = f"{len(self.relations)} relations, computed from the boxes of the nearest pairs"
        else:
            relations = f"{len(self.relations)} of {self.num_relations} relations in the data, most confident first"
        return f"{self.split}   ·   {shown}   ·   {relations}"


# Finding an image and its photograph ----------------------------------------------------------------------------------


def find_image(folder: str | os.PathLike[str], image_id: str, split: str | None = None) -> tuple[Split, int]:
    """Return the split that contains an image, and the image's row. Without `split`, search all splits of the folder.

    Raises InputError if no split or more than one contains the id, or if the folder has no splits.
    """
    splits = [Split.open(folder, name) for name in ([split] if split else check_splits(folder))]
    ids_of_splits = [(each, list(each.ids)) for each in splits]
    matches = [(each, ids.index(image_id)) for each, ids in ids_of_splits if image_id in ids]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = " and ".join(each.name for each, _ in matches)
        raise InputError(f"{image_id} is in {names} of {folder}: choose one with --split.")
    where = f"{folder} {split}" if split else str(folder)
    raise _unknown(image_id, where, (name for _, ids in ids_of_splits for name in ids))


def find_row(split: Split, image_id: str) -> int:
    """Return the row of an image. Raises InputError if the split does not contain it."""
    ids = list(split.ids)
    if image_id not in ids:
        raise _unknown(image_id, f"{split.folder} {split.name}", ids)
    return ids.index(image_id)


def _unknown(image_id: str, where: str, ids: Iterable[str]) -> InputError:
    return InputError(f"{where} has no image {image_id!r}. {nearest(image_id, ids)}")


def find_photograph(
    split: Split, row: int, folder: str | os.PathLike[str] | None = None, *, follows_links: bool = False
) -> Path | None:
    """Return the path of an image's photograph.

    Without `folder`, look in the folder that the data folder's extraction settings name, then in the pictures that
    `regard data scenes` keeps, and return None if it is in neither. A photograph that is not within its folder is not
    found (`find_photograph_named`); `follows_links` also finds links in the folder that was extracted. Raises
    InputError if `folder` is given and does not contain the photograph.
    """
    name = split.ids[row]
    if folder is None:
        source = extraction_of(split.folder).get("photographs")
        path = find_photograph_named(Path(source), name, follows_links=follows_links) if source else None
        return path or find_photograph_named(split.folder / f"{split.name}_pictures", name)
    if path := find_photograph_named(Path(folder), name):
        return path
    if link := find_photograph_named(Path(folder), name, follows_links=True):
        real = os.path.realpath(link)
        raise InputError(f"{link} is a link out of {folder}. Give the folder of the file, {os.path.dirname(real)}.")
    raise InputError(f"{folder} contains no photograph of {name}: expected {name}, or {name}.jpg or the like.")


# Selecting regions and relations --------------------------------------------------------------------------------------


def select_relations(
    relations: Sequence[Relation],
    labels: Sequence[str],
    overlap: Float[np.ndarray, "region region"],
    max_regions: int,
    max_relations: int,
) -> list[Relation]:
    """Return the first `relations` that make a readable graph: at most `max_relations` among `max_regions` regions.

    If not all fit, a relation is skipped if one of its regions has MAX_DEGREE relations already, if its pair of regions
    or its names ("man wearing shirt") occurred before, or if one of its boxes shows a thing that another box shows
    already (their `overlap`, an IoU, is above SAME_THING_IOU).
    """
    ends = {end for subject, _, object_ in relations for end in (subject, object_)}
    is_crowded = len(relations) > max_relations or len(ends) > max_regions
    chosen: list[Relation] = []
    degree: Counter[int] = Counter()
    known: set[object] = set()
    for subject, predicate, object_ in relations:
        pair = subject, object_
        keys = [frozenset(pair), (labels[subject] or subject, predicate, labels[object_] or object_)]
        is_repeated = not known.isdisjoint(keys) or any(
            overlap[end, shown] > SAME_THING_IOU for end in pair for shown in degree if shown not in pair
        )
        if is_crowded and (is_repeated or max(degree[subject], degree[object_]) >= MAX_DEGREE):
            continue
        if len(chosen) < max_relations and len(degree.keys() | {*pair}) <= max_regions:
            chosen.append((subject, predicate, object_))
            degree.update(pair)
            known.update(keys)
    return chosen


def relations_of_nearest_pairs(images: Images, regions: Sequence[int]) -> list[Relation]:
    """Return the geometric relations of the nearest pairs of regions, the smaller region as the subject.

    Each region has at most MAX_DEGREE relations, and no relation closes a cycle.
    """
    assert images.boxes is not None
    boxes = images.boxes.float()
    classes, area = relation_classes(boxes)[0].tolist(), _areas(images)
    centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
    pairs = sorted(combinations(regions, 2), key=lambda pair: float((centres[pair[0]] - centres[pair[1]]).norm()))
    chosen: list[Relation] = []
    degree: Counter[int] = Counter()
    connected = DisjointSets(len(centres))
    for pair in pairs:
        subject, object_ = sorted(pair, key=lambda region: area[region])
        number = classes[subject][object_]
        if number and max(degree[subject], degree[object_]) < MAX_DEGREE and connected.join(subject, object_):
            name = RELATION_CLASSES[number]
            chosen.append((subject, SUBJECT_PREDICATE.get(name, name), object_))
            degree.update(pair)
    return chosen


def select_regions(images: Images, labels: Sequence[str], limit: int, first: Iterable[int] = ()) -> list[int]:
    """Return the regions in `first`, all of them, and then the largest others, up to `limit`.

    Of the others, skip a region whose box shows the same thing as one already selected and, if some regions have a
    label, a region without one.
    """
    chosen, area, has_labels = list(first), _areas(images), any(labels)
    overlap = _overlap(images)
    for region in sorted(range(len(labels)), key=lambda region: -area[region]):
        is_repeated = any(overlap[region, other] > SAME_THING_IOU for other in chosen)
        if len(chosen) < limit and region not in chosen and not is_repeated and (labels[region] or not has_labels):
            chosen.append(region)
    return chosen


def _areas(images: Images) -> list[float]:
    if images.boxes is None:
        return [0.0] * images.mask.shape[1]
    return (images.boxes[0, :, 2:] - images.boxes[0, :, :2]).clamp(min=0).prod(1).tolist()


def _overlap(images: Images) -> Float[np.ndarray, "region region"]:
    """Return the IoU of each pair of boxes; zeros without boxes."""
    boxes = torch.zeros(1, images.mask.shape[1], 4) if images.boxes is None else images.boxes.float()
    return iou(boxes)[0].numpy()


# Reading from the split -----------------------------------------------------------------------------------------------


def _labels(split: Split, images: Images) -> list[str]:
    """Return the class name of each real region; "" if it has none."""
    if images.labels is None:
        return [""] * int(images.mask.sum())
    return [split.classes[number] if number else "" for number in images.labels[images.mask].tolist()]


def stored_relations(split: Split, row: int, num_regions: int) -> list[Relation]:
    """Return the relations of an image in the data, most confident first, and only the most confident of each pair."""
    stored = split.relations
    if stored is None:
        return []
    own = slice(*stored.bounds[row : row + 2].tolist())
    order = np.argsort(-stored.confidence[own].astype(np.float32), kind="stable") + own.start
    predicate_of: dict[tuple[int, int], str] = {}
    for at in order.tolist():
        pair = int(stored.source[at]), int(stored.target[at])
        if stored.confidence[at] >= split.relation_threshold and max(pair) < num_regions and pair[0] != pair[1]:
            predicate_of.setdefault(pair, stored.names[stored.label[at]])
    return [(subject, predicate, object_) for (subject, object_), predicate in predicate_of.items()]


def _parses(split: Split, texts: Sequence[int]) -> list[Parse]:
    """Parse sentences with Regard's own parser. If the data contain roles of words, use those as the edges."""
    parses = own_parser()([split.captions[text] for text in texts])
    stored = split.text_relations
    if stored is None or "roles" not in split.fields:
        return parses
    for number, text in enumerate(texts):
        own = slice(*stored.bounds[text : text + 2].tolist())
        edges = zip(stored.source[own].tolist(), stored.target[own].tolist(), stored.label[own].tolist(), strict=True)
        limit = len(parses[number].words)
        kept = tuple(edge for edge in edges if max(edge[:2]) < limit and edge[0] != edge[1])
        parses[number] = replace(parses[number], edges=kept)
    return parses
