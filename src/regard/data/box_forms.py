"""Recognize boxes that are not x1 y1 x2 y2 as fractions of the image, as data folders require."""

import numpy as np

TOLERANCE = 0.01  # how far a box may reach beyond the image, as a fraction of its side, without being reported
ENOUGH = 10  # boxes from which their form can be judged


def describe_boxes(boxes: np.ndarray, sizes: np.ndarray) -> str:
    """Return what boxes [box, 4], given as x1 y1 x2 y2 in fractions, seem to be instead; empty if nothing is suspected.

    `sizes` [box, 2] are those of their images, or 0 if unknown. Corners are in all parts of an image, so that the sum
    of both is often above 1. The sum of a corner and a side is not. Boxes that begin in the corner of the image do not
    distinguish the two.
    """
    finite = np.isfinite(boxes).all(1)
    boxes, sizes = boxes[finite], sizes[finite]
    if (outside := boxes.max(1) > 1 + TOLERANCE).any():
        is_swapped = sizes[outside].all() and are_swapped(boxes[outside], sizes[outside])
        cause = ", and fit if width and height of the images are exchanged" if is_swapped else ""
        return f"{int(outside.sum())} of the first {len(boxes)} boxes reach beyond their images{cause}"
    boxes = boxes[(boxes[:, :2] > TOLERANCE).any(1)]
    if len(boxes) >= ENOUGH and (boxes[:, :2] + boxes[:, 2:] <= 1 + TOLERANCE).all():
        return (
            "these boxes look like x y width height, because none reaches beyond its image if they are read so. "
            "Expected x1 y1 x2 y2: add x to the width and y to the height"
        )
    return ""


def are_swapped(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Return whether boxes [box, 4] that reach beyond images of these sizes fit if width and height are exchanged."""
    return bool((boxes * np.tile(sizes / sizes[:, ::-1], 2)).max(initial=0) <= 1 + TOLERANCE)
