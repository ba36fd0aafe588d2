"""Geometric relations from boxes, for data without scene graphs: `regard data relations DIR`."""

from pathlib import Path

import torch

from regard.batch import Images
from regard.boxes import RELATION_CLASSES, relation_classes
from regard.data.relation_files import IMAGE_FILE, Triples
from regard.data.split import Split
from regard.files import InputError


def relate(folder: Path, split: str) -> float:
    """Write `{split}_relations.npz` with the geometric class of each near pair of regions; return their mean degree.

    If regions have labels, only labelled regions are related, because windows of a grid are not objects. These
    relations are positions, not predicates of a scene-graph model: mention that with every number that depends on them.
    Raises InputError for a split without boxes, or with relations of its own.
    """
    opened = Split.open(folder, split)
    path = opened.folder / f"{split}_relations.npz"
    if path.exists():
        raise InputError(f"{path} is there already: remove it to make relations from the boxes instead.")
    if "boxes" not in opened.fields:
        raise InputError(f"{folder} {split} has no boxes, from which relations would be made: see docs/data.md.")
    found, num_regions = [], 0
    for start in range(0, opened.num_images, 256):
        images = opened.images(range(start, min(start + 256, opened.num_images)))
        real = _related(images)
        image, subject, target = real.nonzero(as_tuple=True)
        label = relation_classes(_boxes(images))[real]
        # Small integers: MS-COCO has more than a hundred million of these relations.
        found.append([(image + start).int(), *(column.short() for column in (subject, target, label))])
        num_regions += int(images.mask.sum())
    item, source, goal, kind = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    Triples.of(item, source, goal, kind, RELATION_CLASSES, opened.num_images).save(path, IMAGE_FILE)
    return len(item) / num_regions


def _related(images: Images) -> torch.Tensor:
    """The relation classes between an image's regions."""
    objects = images.mask if images.labels is None else images.mask & (images.labels > 0)
    return (relation_classes(_boxes(images)) > 0) & objects[:, :, None] & objects[:, None, :]


def _boxes(images: Images) -> torch.Tensor:
    assert images.boxes is not None
    return images.boxes.float()
