"""Geometric relations from boxes, for data without scene graphs: `regard data relations DIR`."""

from pathlib import Path

import torch

from regard.batch import Images
from regard.boxes import RELATION_CLASSES, relation_classes
from regard.data.relation_files import IMAGE_FILE, Triples
from regard.data.split import Split
from regard.files import InputError


def write_box_relations(folder: Path, split: str) -> float:
    """Write `{split}_relations.npz` with the geometric class of each near pair of regions.

    Returns the mean number of relations per region. If regions have labels, only labelled regions are related, because
    windows of a grid are not objects. These relations are positions, not predicates of a scene-graph model: mention
    that with every number that depends on them. Raises InputError for a split that has no boxes, or already has
    relations.
    """
    opened = Split.open(folder, split)
    path = opened.folder / f"{split}_relations.npz"
    if path.exists():
        raise InputError(f"{path} already exists: remove it to make relations from the boxes instead.")
    if "boxes" not in opened.fields:
        raise InputError(f"{folder} {split} has no boxes to make relations from: see docs/data.md.")
    parts, num_regions = [], 0
    for start in range(0, opened.num_images, 256):
        images = opened.images(range(start, min(start + 256, opened.num_images)))
        classes = _relation_classes(images)
        image, subject, target = classes.nonzero(as_tuple=True)
        label = classes[image, subject, target]
        # Small integers: MS-COCO has more than a hundred million of these relations.
        parts.append([(image + start).int(), *(column.short() for column in (subject, target, label))])
        num_regions += int(images.mask.sum())
    item, source, goal, kind = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    Triples.of(item, source, goal, kind, RELATION_CLASSES, opened.num_images).save(path, IMAGE_FILE)
    return len(item) / num_regions


def _relation_classes(images: Images) -> torch.Tensor:
    """The relation class of each (subject, object) of each image: 0 unless both are objects."""
    assert images.boxes is not None
    objects = images.mask if images.labels is None else images.mask & (images.labels > 0)
    return relation_classes(images.boxes.float()) * (objects[:, :, None] & objects[:, None, :])
