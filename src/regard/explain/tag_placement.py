"""Where the tag of a box is drawn, so that it hides neither the box nor another tag."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Rect = tuple[float, float, float, float]  # left, top, right, bottom


def place_tag(
    box: Float[np.ndarray, "4"], size: tuple[float, float], frame: Rect, taken: Sequence[Rect]
) -> tuple[float, float]:
    """Return the top left of a tag of this size: in a corner of the box, or just outside if it would hide the box.

    The tag lies in the frame and overlaps no rectangle in `taken`, as far as there is room.
    """
    (width, height), (left, top, right, bottom) = size, frame
    x1, y1, x2, y2 = box.tolist()
    lowest, rightmost = bottom - height, right - width
    corners = [(x1, y1), (x2 - width, y1), (x1, y2 - height), (x2 - width, y2 - height)]
    if x2 - x1 < width or y2 - y1 < 2 * height:
        corners = [(x1, y1 - height), (x1, y2), *corners]
    for step in range(60):  # if no corner is free, try lower and lower
        for x, y in corners:
            x, y = min(max(x, left), rightmost), max(y, top) + step * height / 2
            if y <= lowest and not any(rects_overlap((x, y, x + width, y + height), other) for other in taken):
                return x, y
    return x1, y1


def rects_overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
