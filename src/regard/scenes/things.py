"""Buildings and other things of the made world."""

from regard.scenes.kinds import COLOURS, GLASS, INK, WOOD, Appearance, Kind, kind
from regard.scenes.pen import Pen, shade

THINGS: dict[str, Kind] = {}


@kind(THINGS, "buildings", "house", 84, 76, "white red yellow blue")
def house(pen: Pen, appearance: Appearance) -> None:
    wall = appearance.colour
    roof = (150, 74, 62) if appearance.colour != COLOURS["red"] else (92, 76, 84)
    pen.block(shade(roof, -0.25), 18, 58, 27, 78)
    pen.block(wall, -34, 0, 34, 46)
    pen.block(shade(wall, -0.13), -34, 0, -22, 46)
    pen.poly(roof, (-42, 44), (-26, 72), (26, 72), (42, 44))
    pen.block(WOOD, -6, 0, 8, 25, 2)
    pen.oval((240, 210, 90), 5, 12, 1.3, 1.3)
    for x in (-25, 15):
        pen.block((250, 250, 250), x - 1.6, 16, x + 13.6, 33)
        pen.block(GLASS, x, 17.6, x + 12, 31.4)
        pen.block((250, 250, 250), x + 5.4, 17.6, x + 6.6, 31.4)


@kind(THINGS, "buildings", "tower", 40, 112, "gray white brown")
def tower(pen: Pen, appearance: Appearance) -> None:
    wall, dark = appearance.colour, shade(appearance.colour, -0.16)
    pen.poly(wall, (-15, 0), (15, 0), (12, 86), (-12, 86))
    pen.poly(dark, (-15, 0), (-6, 0), (-5, 86), (-12, 86))
    pen.block(shade(wall, -0.25), -17, 84, 17, 93, 1)
    pen.block(GLASS, -10, 93, 10, 103)
    pen.poly((170, 66, 60), (-14, 102), (14, 102), (0, 116))
    for y in (24, 46, 68):
        pen.block((88, 96, 116), -2.6, y, 2.6, y + 9, 2)
    pen.block(WOOD, -5, 0, 5, 14, 3)


@kind(THINGS, "buildings", "castle", 96, 76, "gray pink white purple")
def castle(pen: Pen, appearance: Appearance) -> None:
    wall, dark = appearance.colour, shade(appearance.colour, -0.16)
    pen.block(wall, -34, 0, 34, 42)
    for x in (-28, -14, 0, 14):
        pen.block(wall, x, 40, x + 9, 49)
    for x in (-46, 28):
        pen.block(dark, x, 0, x + 18, 56)
        pen.block(wall, x + 5, 0, x + 18, 56)
        pen.poly((96, 84, 156), (x - 4, 55), (x + 22, 55), (x + 9, 78))
        pen.block((88, 96, 116), x + 7, 34, x + 12, 44, 2)
    pen.block(WOOD, -10, 0, 10, 20)
    pen.oval(WOOD, 0, 20, 10, 8)


@kind(THINGS, "buildings", "tent", 62, 44, "orange green blue red")
def tent(pen: Pen, appearance: Appearance) -> None:
    pen.poly(shade(appearance.colour, -0.2), (-31, 0), (-8, 44), (4, 44), (31, 0))
    pen.poly(appearance.colour, (-31, 0), (-8, 44), (10, 0))
    pen.poly((60, 48, 52), (-20, 0), (-9, 32), (0, 0))
    pen.limb(WOOD, 1.8, (-8, 44), (-7, 48))


@kind(THINGS, "things", "tree", 60, 96, "green green orange pink")
def tree(pen: Pen, appearance: Appearance) -> None:
    leaf, dark = appearance.colour, shade(appearance.colour, -0.2)
    pen.poly((112, 78, 52), (-6, 0), (6, 0), (3.4, 52), (-3.4, 52))
    for x, y, r in ((-15, 56, 15), (15, 56, 15), (0, 62, 18)):
        pen.oval(dark, x, y - 3, r, r - 2)
    for x, y, r in ((-15, 62, 14), (14, 62, 14), (-7, 78, 14), (8, 78, 13), (0, 68, 17)):
        pen.oval(leaf, x, y, r, r - 1)
    for x, y in ((-10, 80), (6, 72), (-17, 64), (14, 60)):
        pen.oval(shade(leaf, 0.22), x, y, 4, 3)


@kind(THINGS, "things", "table", 64, 38, "brown white red", top=(0, 38))
def table(pen: Pen, appearance: Appearance) -> None:
    dark = shade(appearance.colour, -0.25)
    for x in (-20.0, 16.0):
        pen.block(shade(dark, -0.15), x, 6, x + 4, 34)
    for x in (-29.0, 24.6):
        pen.block(dark, x, 0, x + 4.4, 34)
    pen.block(appearance.colour, -32, 32, 32, 38, 2)
    pen.block(dark, -30, 30, 30, 32.6)


@kind(THINGS, "things", "bench", 66, 34, "brown green red", top=(0, 17))
def bench(pen: Pen, appearance: Appearance) -> None:
    dark = shade(appearance.colour, -0.25)
    for x in (-27, 23):
        pen.block(INK, x, 0, x + 3.6, 34)
    for y in (21, 28):
        pen.block(dark, -32, y, 32, y + 5, 1)
    pen.block(appearance.colour, -33, 12.5, 33, 17.5, 1.6)


def box_front(pen: Pen, appearance: Appearance) -> None:
    pen.block(appearance.colour, -23, 0, 23, 22)
    pen.block(shade(appearance.colour, -0.16), -23, 0, -13, 22)
    pen.block(shade(appearance.colour, 0.35), 2, 8, 14, 15)


@kind(THINGS, "things", "box", 48, 28, "brown red blue", top=(0, 27), front=box_front)
def box(pen: Pen, appearance: Appearance) -> None:
    pen.poly(shade(appearance.colour, -0.42), (-23, 22), (-18, 27), (18, 27), (23, 22))
    pen.poly(shade(appearance.colour, 0.15), (-23, 22), (-18, 27), (-24, 30), (-29, 25))
    pen.poly(shade(appearance.colour, 0.15), (23, 22), (18, 27), (24, 30), (29, 25))
    box_front(pen, appearance)


def basket_front(pen: Pen, appearance: Appearance) -> None:
    dark = shade(appearance.colour, -0.22)
    pen.poly(appearance.colour, (-21, 19), (21, 19), (16, 0), (-16, 0))
    for y in (4, 9, 14):
        pen.limb(dark, 1.4, (-16 - y / 4, y), (16 + y / 4, y))
    for x in (-12, -4, 4, 12):
        pen.limb(dark, 1.2, (x * 0.9, 1), (x * 1.15, 18))
    pen.limb(shade(appearance.colour, 0.2), 3.6, (-21, 19), (21, 19))


@kind(THINGS, "things", "basket", 46, 36, "brown yellow white", grip=36, front=basket_front)
def basket(pen: Pen, appearance: Appearance) -> None:
    pen.limb(shade(appearance.colour, -0.1), 2.4, (-18, 19), (-13, 31), (0, 36), (13, 31), (18, 19))
    pen.oval(shade(appearance.colour, -0.4), 0, 20, 20, 3)
    basket_front(pen, appearance)


@kind(THINGS, "things", "ball", 22, 22, "red blue orange white", grip=8)
def ball(pen: Pen, appearance: Appearance) -> None:
    pen.oval(appearance.colour, 0, 11, 11, 11)
    pen.slice(shade(appearance.colour, -0.25), 0, 11, 11, 200, 300)
    pen.limb(shade(appearance.colour, 0.6), 2, (-9, 14), (0, 11), (9, 14))
    pen.limb(shade(appearance.colour, 0.6), 2, (0, 11), (0, 2))
    pen.oval(shade(appearance.colour, 0.5), -3.6, 17, 2.6, 2)


@kind(THINGS, "things", "hat", 26, 13, "red black blue yellow")
def hat(pen: Pen, appearance: Appearance) -> None:
    pen.block(appearance.colour, -7.4, 2, 7.4, 13, 3)
    pen.block(shade(appearance.colour, -0.45) if sum(appearance.colour) > 300 else (230, 190, 80), -7.4, 2, 7.4, 5)
    pen.oval(appearance.colour, 0, 2, 13, 2.2)


@kind(THINGS, "things", "umbrella", 46, 50, "red blue purple green", grip=10)
def umbrella(pen: Pen, appearance: Appearance) -> None:
    pen.limb(INK, 1.8, (4, 4), (0, 2), (0, 44))
    pen.slice(appearance.colour, 0, 31, 23, 0, 180)
    pen.slice(shade(appearance.colour, -0.2), 0, 31, 23, 118, 180)
    pen.slice(shade(appearance.colour, 0.25), 0, 31, 23, 0, 58)
    pen.limb(INK, 1.8, (0, 53), (0, 56))


@kind(THINGS, "things", "flag", 34, 58, "red blue green yellow", grip=16)
def flag(pen: Pen, appearance: Appearance) -> None:
    pen.limb(WOOD, 2.2, (0, 0), (0, 58))
    pen.poly(appearance.colour, (0, 57), (14, 53), (30, 57), (30, 37), (14, 33), (0, 37))
    pen.poly(shade(appearance.colour, -0.18), (14, 53), (20, 56), (20, 36), (14, 33))


@kind(THINGS, "things", "flower", 18, 30, "red pink yellow purple", grip=8)
def flower(pen: Pen, appearance: Appearance) -> None:
    pen.limb((74, 140, 70), 2, (0, 0), (0, 20))
    pen.poly((74, 140, 70), (0, 7), (8, 13), (3, 14))
    for x, y in ((0, 28), (6.2, 24), (4, 17), (-4, 17), (-6.2, 24)):
        pen.oval(appearance.colour, x, y, 4.8, 4.8)
    pen.oval((250, 206, 70) if appearance.colour != COLOURS["yellow"] else WOOD, 0, 22.4, 3.8, 3.8)
