"""A pen that draws one thing at a time, and keeps a map of whose each pixel is.

A thing is drawn in its own frame: x grows to where it faces, y grows upwards from what it stands on, and one unit is
one pixel of the finished picture for a thing of scale 1.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 288, 192  # of the finished picture, in pixels
FINE = 2  # the picture is drawn this many times larger, then averaged down

Number = int | float
Colour = tuple[int, int, int]
Point = tuple[Number, Number]


def shade(colour: Colour, by: Number) -> Colour:
    """Darker where `by` < 0, lighter where `by` > 0; at -1 black, at 1 white."""
    goal = 255 if by > 0 else 0
    red, green, blue = (round(value + (goal - value) * abs(by)) for value in colour)
    return red, green, blue


class Canvas:
    """A picture in the making, and the map of owners beside it: pixel by pixel the number of the thing seen there."""

    def __init__(self, ground: Colour) -> None:
        self.fine = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), ground)
        self.owners = Image.new("L", (WIDTH, HEIGHT), 0)
        self.fine_draw = ImageDraw.Draw(self.fine)
        self.owner_draw = ImageDraw.Draw(self.owners)

    def picture(self) -> Image.Image:
        return self.fine.reduce(FINE)

    def area(self, number: int) -> int:
        """How many pixels of thing `number` are seen."""
        return int(np.count_nonzero(np.asarray(self.owners) == number))

    def box(self, number: int) -> tuple[int, int, int, int]:
        """The tight box of what is seen of thing `number`: x1 y1 x2 y2 in pixels, x2 and y2 just past the last one."""
        visible = np.asarray(self.owners) == number
        columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Pen:
    """Draws in the frame of a thing that stands at (x, ground) of the picture. Number 0 owns nothing."""

    def __init__(
        self, canvas: Canvas, owner: int, x: Number, ground: Number, scale: Number = 1, facing: int = 1
    ) -> None:
        self.canvas, self.owner, self.x, self.ground, self.scale, self.facing = (
            canvas, owner, x, ground, scale, facing,
        )  # fmt: skip

    def _to_canvas(self, points: Sequence[Point], fine: Number) -> list[Point]:
        return [
            ((self.x + self.facing * self.scale * x) * fine, (self.ground - self.scale * y) * fine) for x, y in points
        ]

    def poly(self, colour: Colour, *points: Point) -> None:
        self.canvas.fine_draw.polygon(self._to_canvas(points, FINE), fill=colour)
        if self.owner:
            self.canvas.owner_draw.polygon(self._to_canvas(points, 1), fill=self.owner)

    def oval(self, colour: Colour, x: Number, y: Number, rx: Number, ry: Number) -> None:
        self.canvas.fine_draw.ellipse(self._corners(x - rx, y - ry, x + rx, y + ry, FINE), fill=colour)
        if self.owner:
            self.canvas.owner_draw.ellipse(self._corners(x - rx, y - ry, x + rx, y + ry, 1), fill=self.owner)

    def block(self, colour: Colour, x1: Number, y1: Number, x2: Number, y2: Number, radius: Number = 0) -> None:
        """A rectangle, its corners rounded."""
        round_ = radius * self.scale
        self.canvas.fine_draw.rounded_rectangle(self._corners(x1, y1, x2, y2, FINE), round_ * FINE, fill=colour)
        if self.owner:
            self.canvas.owner_draw.rounded_rectangle(self._corners(x1, y1, x2, y2, 1), round_, fill=self.owner)

    def slice(self, colour: Colour, x: Number, y: Number, r: Number, start: Number, end: Number) -> None:
        """A slice of a disc, angles in degrees, counted from where the thing faces, upwards."""
        low, high = (-end, -start) if self.facing > 0 else (180 + start, 180 + end)
        self.canvas.fine_draw.pieslice(self._corners(x - r, y - r, x + r, y + r, FINE), low, high, fill=colour)
        if self.owner:
            self.canvas.owner_draw.pieslice(self._corners(x - r, y - r, x + r, y + r, 1), low, high, fill=self.owner)

    def limb(self, colour: Colour, width: Number, *points: Point) -> None:
        """A line of round joints and ends."""
        for draw, fine, fill in (
            (self.canvas.fine_draw, FINE, colour),
            (self.canvas.owner_draw, 1, self.owner),
        ):
            if fill == 0:
                continue
            thick = max(1, round(width * self.scale * fine))
            at = self._to_canvas(points, fine)
            draw.line(at, fill=fill, width=thick)
            if thick > 2:
                r = (thick - 1) / 2
                for x, y in at:
                    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def _corners(
        self, x1: Number, y1: Number, x2: Number, y2: Number, fine: Number
    ) -> tuple[Number, Number, Number, Number]:
        (left, low), (right, high) = self._to_canvas(((x1, y1), (x2, y2)), fine)
        return min(left, right), min(low, high), max(left, right), max(low, high)
