"""Vehicles of the made world, and things that fly."""

from regard.scenes.kinds import GLASS, INK, METAL, Appearance, Kind, kind
from regard.scenes.pen import Number, Pen, shade

VEHICLES: dict[str, Kind] = {}


@kind(VEHICLES, "fliers", "balloon", 22, 46, "red blue yellow pink", grip=1)
def balloon(pen: Pen, appearance: Appearance) -> None:
    pen.limb((110, 110, 118), 0.8, (0, 0), (1.5, 8), (0, 18))
    pen.poly(shade(appearance.colour, -0.2), (-2.4, 17), (2.4, 17), (0, 21))
    pen.oval(appearance.colour, 0, 32, 11, 13.5)
    pen.oval(shade(appearance.colour, 0.45), -4, 37, 2.4, 4)


@kind(VEHICLES, "fliers", "kite", 34, 50, "red yellow green", grip=1)
def kite(pen: Pen, appearance: Appearance) -> None:
    pen.limb((110, 110, 118), 0.8, (0, 0), (4, 12), (2, 20))
    for x, y in ((3, 14), (1.5, 7)):
        pen.poly(shade(appearance.colour, -0.25), (x, y), (x - 4, y + 2.4), (x - 4, y - 2.4))
        pen.poly(shade(appearance.colour, -0.25), (x, y), (x + 4, y + 2.4), (x + 4, y - 2.4))
    pen.poly(appearance.colour, (2, 18), (17, 38), (2, 50), (-13, 38))
    pen.poly(shade(appearance.colour, 0.35), (2, 38), (17, 38), (2, 50))
    pen.poly(shade(appearance.colour, -0.2), (2, 38), (-13, 38), (2, 18))


@kind(VEHICLES, "fliers", "plane, airplane", 62, 26, "white red blue gray")
def plane(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.28)
    pen.poly(dark, (-2, 14), (8, 14), (-8, 25), (-14, 25))
    pen.poly(dark, (-29, 26), (-23, 26), (-15, 15), (-26, 15))
    pen.block(body, -28, 8, 28, 19, 5.5)
    pen.poly(body, (-29, 12), (-29, 19), (-14, 19))
    for x in (-12, -4, 4, 12):
        pen.oval(GLASS, x, 15, 2, 2)
    pen.block(GLASS, 19, 13.5, 26, 17.5, 2)
    pen.poly(shade(dark, -0.1), (-4, 11), (9, 11), (-10, 0), (-17, 0))


def wheel(pen: Pen, x: Number, r: Number) -> None:
    pen.oval(INK, x, r, r, r)
    pen.oval(METAL, x, r, r * 0.5, r * 0.5)


@kind(VEHICLES, "vehicles", "car, automobile", 74, 34, "red blue white green", top=(-4, 33), tow=(11, 11))
def car(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    pen.poly(body, (-24, 18), (-17, 33), (9, 33), (19, 18))
    pen.poly(GLASS, (-19, 19), (-14.4, 30), (-5, 30), (-5, 19))
    pen.poly(GLASS, (-2, 19), (-2, 30), (7.6, 30), (14.6, 19))
    pen.block(body, -36, 6, 36, 20, 6)
    pen.block(shade(body, -0.22), -36, 6, 36, 11, 3)
    pen.oval((252, 236, 150), 33.5, 15, 2.4, 2.6)
    pen.block((190, 40, 40), -36, 13, -33, 17, 1)
    wheel(pen, -20, 8)
    wheel(pen, 20, 8)


@kind(VEHICLES, "vehicles", "bus", 98, 48, "yellow red blue orange", top=(0, 47))
def bus(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    pen.block(body, -48, 7, 48, 47, 6)
    pen.block(shade(body, -0.22), -48, 7, 48, 16, 3)
    for x in (-42, -25, -8, 9):
        pen.block(GLASS, x, 26, x + 13, 40, 2)
    pen.block(GLASS, 28, 22, 46, 41, 3)
    pen.oval((252, 236, 150), 45.5, 13, 2.4, 2.4)
    wheel(pen, -29, 9)
    wheel(pen, 29, 9)


@kind(VEHICLES, "vehicles", "truck, lorry", 94, 48, "red green blue gray", tow=(12, 12))
def truck(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    pen.block(shade(body, 0.3), -46, 13, 18, 48, 3)
    for x in (-32, -16, 0):
        pen.block(shade(body, 0.1), x, 16, x + 2, 45)
    pen.block(INK, -46, 9, 46, 14, 2)
    pen.poly(body, (20, 10), (20, 40), (36, 40), (46, 25), (46, 10))
    pen.poly(GLASS, (25, 25), (25, 36), (34, 36), (41.5, 25))
    pen.oval((252, 236, 150), 44, 16, 2.2, 2.2)
    for x in (-31, -10, 32):
        wheel(pen, x, 8.5)


@kind(VEHICLES, "vehicles", "tractor", 64, 48, "red green orange blue", tow=(14, 18))
def tractor(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    pen.block(METAL, 17, 30, 19.6, 44)
    pen.block(body, -20, 16, 30, 31, 4)
    pen.block(shade(body, -0.2), 24, 13, 31, 30, 2)
    pen.block(INK, -22, 30, -19.6, 46)
    pen.block(INK, 3, 30, 5.4, 46)
    pen.block(GLASS, -19.6, 31, 3, 45)
    pen.block(body, -25, 45, 8, 49, 2)
    wheel(pen, -16, 16)
    pen.oval(body, -16, 16, 6, 6)
    wheel(pen, 21, 9.5)


@kind(VEHICLES, "vehicles", "bicycle, bike", 56, 36, "red blue green black", top=(-8, 31))
def bicycle(pen: Pen, appearance: Appearance) -> None:
    tyre = (70, 68, 76)
    for x in (-17, 17):
        pen.oval(tyre, x, 11, 11, 11)
        pen.oval((214, 216, 220), x, 11, 8.6, 8.6)
        for dx, dy in ((6, 6), (8, 0), (6, -6), (0, 8)):
            pen.limb((170, 172, 178), 0.6, (x - dx, 11 - dy), (x + dx, 11 + dy))
    frame = appearance.colour
    for path in (
        ((-17, 11), (-8, 26), (12, 27)),
        ((-17, 11), (-1, 11), (12, 27)),
        ((-1, 11), (-9, 30)),
        ((17, 11), (11, 34)),
    ):
        pen.limb(frame, 3.4, *path)
    pen.limb(INK, 3, (-14, 31), (-4, 31))
    pen.limb(INK, 2.4, (11, 34), (16, 35))
    pen.oval(INK, -1, 11, 2.6, 2.6)


@kind(VEHICLES, "vehicles", "scooter, moped", 54, 38, "red blue green pink", top=(-10, 24))
def scooter(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    pen.block(INK, -22, 22, -2, 26, 2)
    pen.poly(body, (-26, 9), (-24, 22), (-3, 22), (3, 9))
    pen.block(body, -4, 7, 16, 12, 2)
    pen.limb(body, 6, (14, 10), (19, 33))
    pen.limb(INK, 2.4, (18, 35), (13, 37))
    pen.oval((252, 236, 150), 21.5, 31, 2.6, 2.8)
    wheel(pen, -16, 8)
    wheel(pen, 19, 8)
