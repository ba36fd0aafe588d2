"""A canvas, and a pen that draws one thing at a time and records which thing each pixel shows.

A thing is drawn in its own frame: x increases in the direction that it faces, y increases upwards from the ground that
it stands on. At scale 1, one unit is one pixel of the finished picture.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 288, 192  # of the finished picture, in pixels
FINE = 2  # the picture is drawn larger by this factor, then averaged down

Number = int | float
Colour = tuple[int, int, int]
Point = tuple[Number, Number]


def shade(colour: Colour, by: Number) -> Colour:
    """Return a darker colour if `by` < 0 (-1 is black), a lighter one if `by` > 0 (1 is white)."""
    target = 255 if by > 0 else 0
    red, green, blue = (round(value + (target - value) * abs(by)) for value in colour)
    return red, green, blue


class Canvas:
    """A picture that is being drawn, and the map of owners: for each pixel, the number of the thing that it shows."""

    def __init__(self, ground: Colour) -> None:
        self.fine = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), ground)
        self.owners = Image.new("L", (WIDTH, HEIGHT), 0)
        self.fine_draw = ImageDraw.Draw(self.fine)
        self.owner_draw = ImageDraw.Draw(self.owners)

    def picture(self) -> Image.Image:
        return self.fine.reduce(FINE)

    def area(self, number: int) -> int:
        """Return the number of visible pixels of thing `number`."""
        return int(np.count_nonzero(np.asarray(self.owners) == number))

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Return the tight box of the visible pixels of thing `number`: x1 y1 x2 y2, with x2 and y2 exclusive."""
        visible = np.asarray(self.owners) == number
        columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Pen:
    """Draws in the frame of a thing that stands at (x, ground) of the picture.

    `owner` is the number of the thing in the map of owners; 0 leaves it unchanged. `facing` is 1 if the thing faces
    right and -1 if it faces left.
    """

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
        """Draw a rectangle with rounded corners."""
        scaled = radius * self.scale
        self.canvas.fine_draw.rounded_rectangle(self._corners(x1, y1, x2, y2, FINE), scaled * FINE, fill=colour)
        if self.owner:
            self.canvas.owner_draw.rounded_rectangle(self._corners(x1, y1, x2, y2, 1), scaled, fill=self.owner)

    def slice(self, colour: Colour, x: Number, y: Number, r: Number, start: Number, end: Number) -> None:
        """Draw a slice of a disc. Angles are in degrees, from the direction that the thing faces, upwards."""
        low, high = (-end, -start) if self.facing > 0 else (180 + start, 180 + end)
        self.canvas.fine_draw.pieslice(self._corners(x - r, y - r, x + r, y + r, FINE), low, high, fill=colour)
        if self.owner:
            self.canvas.owner_draw.pieslice(self._corners(x - r, y - r, x + r, y + r, 1), low, high, fill=self.owner)

    def limb(self, colour: Colour, width: Number, *points: Point) -> None:
        """Draw a line with round joints and ends."""
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
