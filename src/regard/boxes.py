"""Geometry of boxes: IoU, non-maximum suppression, polar coordinates, relation classes, and features of pairs.

Boxes are x1 y1 x2 y2 as fractions of the image, y downwards. A pair is (subject, object).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Classes 1-11 of `relation_classes`; 0 is none. A direction is that of the object as seen from the subject.
RELATION_CLASSES = (
    "none",
    "inside",
    "covers",
    "overlaps",
    "right",
    "below right",
    "below",
    "below left",
    "left",
    "above left",
    "above",
    "above right",
)
PAIR_FEATURES = 38


def iou(boxes: Float[Tensor, "image region 4"]) -> Float[Tensor, "image region region"]:
    """Return the intersection over union of each pair of an image's boxes; 0 for a box without area."""
    intersection, area = _intersection(boxes)
    union = area[:, :, None] + area[:, None, :] - intersection
    return intersection / union.clamp(min=1e-12)


def to_corners(boxes: Float[np.ndarray, "*item 4"]) -> Float[np.ndarray, "*item 4"]:
    """Convert boxes from (centre x, centre y, width, height) to (x1, y1, x2, y2)."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([centres - halves, centres + halves], -1)


def non_maximum_suppression(
    boxes: Float[np.ndarray, "box 4"], threshold: float, classes: Int[np.ndarray, " box"] | None = None
) -> Int[np.ndarray, " kept"]:
    """Return the positions of the boxes that are kept, in ascending order.

    The boxes are sorted from best to worst. A box is kept if its IoU with each box kept before it is at most
    `threshold`. With `classes`, only boxes of the same class count.
    """
    overlaps = (iou(torch.from_numpy(boxes)[None])[0] > threshold).numpy()
    if classes is not None:
        # Compared, because boxes that are shifted apart by class lose digits of their coordinates.
        overlaps &= classes[:, None] == classes
    kept = np.ones(len(boxes), bool)
    for position in range(len(boxes)):
        if kept[position]:
            kept[position + 1 :] &= ~overlaps[position, position + 1 :]
    return np.flatnonzero(kept)


def polar(
    boxes: Float[Tensor, "image region 4"],
) -> tuple[Float[Tensor, "image region region"], Float[Tensor, "image region region"]]:
    """Return distance of the centres (in fractions of the image) and angle from subject to object, in (-pi, pi].

    The angle is atan2(dx, dy), with the arguments in GSMN's order: 0 points down, pi/2 to the right.
    """
    offset = _offsets(boxes)
    return offset.norm(dim=-1), torch.atan2(offset[..., 0], offset[..., 1])


def relation_classes(boxes: Float[Tensor, "image region 4"]) -> Int[Tensor, "image region region"]:
    """Return the relation class of each (subject, object), after GCN-LSTM (Yao et al. 2018) and ReGAT (Li et al. 2019).

    1 inside, 2 covers, 3 overlaps (IoU at least 0.5). Otherwise, if the centres are nearer than half the diagonal of
    the image, 4-11 by the 45-degree sector of the object. Otherwise, as for equal centres and for a region with itself,
    0.
    """
    intersection, area = _intersection(boxes)
    offset = _offsets(boxes)
    sector = torch.round(torch.atan2(offset[..., 1], offset[..., 0]) / (math.pi / 4)).long() % 8
    distance = offset.norm(dim=-1)
    near = (distance > 0) & (distance < 0.5 * math.sqrt(2))
    real = (area[:, :, None] > 0) & (area[:, None, :] > 0)
    classes = torch.where(near, 4 + sector, 0).masked_fill(iou(boxes) >= 0.5, 3)
    classes = classes.masked_fill(real & (intersection >= area[:, None, :] * (1 - 1e-6)), 2)
    classes = classes.masked_fill(real & (intersection >= area[:, :, None] * (1 - 1e-6)), 1)
    return classes.masked_fill(torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device), 0)


def pair_features(subject: Float[Tensor, "pair 4"], target: Float[Tensor, "pair 4"]) -> Float[Tensor, "pair feature"]:
    """Return `PAIR_FEATURES` numbers of order 1 that describe the position of the second box relative to the first.

    They are the relation class as one of twelve; overlaps; offsets of centres and edges, in fractions of the image and
    of the boxes; gaps; sizes and their ratio; and a 1.
    """
    pairs = torch.stack([subject, target], 1)
    kind = F.one_hot(relation_classes(pairs)[:, 0, 1], len(RELATION_CLASSES)).to(subject.dtype)
    intersection, area = _intersection(pairs)
    area, shared = area.clamp(min=1e-6), intersection[:, 0, 1, None]
    overlaps = torch.cat([iou(pairs)[:, 0, 1, None], shared / area], 1)
    offset = _offsets(pairs)[:, 0, 1]
    extent = (pairs[..., 2:] - pairs[..., :2]).sum(1).clamp(min=1e-3)  # of both boxes together
    edges = torch.cat([target - subject, target.roll(2, 1) - subject], 1) / extent.repeat(1, 4)
    gap = torch.maximum(subject[:, :2] - target[:, 2:], target[:, :2] - subject[:, 2:]).clamp(min=0)
    sizes = area.log() / 8
    ratio = (sizes[:, 1:] - sizes[:, :1]) * 2
    bounded = torch.tanh(torch.cat([edges, offset / extent], 1))
    plain = [kind, overlaps, offset, offset.abs(), bounded, bounded[:, -2:].abs(), gap, sizes, ratio, ratio.abs()]
    return torch.cat([*plain, torch.ones_like(ratio)], 1)


def _offsets(boxes: Tensor) -> Tensor:
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    return centres[:, None, :, :] - centres[:, :, None, :]


def _intersection(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return (high - low).clamp(min=0).prod(-1), sides.prod(-1)
