"""Animals of the made world."""

from regard.scenes.kinds import INK, Appearance, Kind, kind
from regard.scenes.pen import Colour, Number, Pen, shade

ANIMALS: dict[str, Kind] = {}


def four_legs(
    pen: Pen, appearance: Appearance, colour: Colour, hip: Number, back: Number, front: Number, width: Number
) -> None:
    """Draw the two far legs, darker, then the two near ones. They are stretched out if the animal runs."""
    reach = hip * 0.55 if appearance.pose == "run" else 0
    lift = hip * 0.18 if appearance.pose == "run" else 0
    half = width / 2
    far = shade(colour, -0.28)
    pen.limb(far, width, (back + 3, hip), (back + 3 - reach * 0.3, half + lift))
    pen.limb(far, width, (front - 3, hip), (front - 3 + reach * 0.3, half + lift))
    pen.limb(colour, width, (back, hip), (back - reach, half + lift))
    pen.limb(colour, width, (front, hip), (front + reach, half + lift))


def eye(pen: Pen, x: Number, y: Number, r: Number = 1.2) -> None:
    pen.oval((255, 255, 255), x, y, r + 0.5, r + 0.5)
    pen.oval(INK, x + 0.3, y, r, r)


@kind(ANIMALS, "animals", "dog, hound", 48, 36, "brown black white orange", top=(-4, 24))
def dog(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.25)
    pen.limb(body, 3.4, (-16, 21), (-22, 29), (-21, 33))
    four_legs(pen, appearance, body, 12, -12, 9, 4.6)
    pen.block(body, -17, 9, 14, 24, 7)
    pen.poly(body, (4, 22), (12, 12), (19, 26), (13, 33))
    pen.oval(body, 15, 28, 7.5, 7)
    pen.block(shade(body, 0.12), 15, 22, 26, 28.5, 3)
    pen.oval(INK, 25, 27.5, 1.8, 1.6)
    pen.poly(dark, (8, 34), (13, 34), (11, 21), (6.5, 23))
    eye(pen, 17, 30)
    pen.limb((200, 60, 60), 1.8, (8.5, 19.5), (16.5, 19.5))


@kind(ANIMALS, "animals", "cat", 42, 34, "orange black white gray", top=(-3, 20))
def cat(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.25)
    pen.limb(body, 3, (-13, 14), (-20, 18), (-20, 28), (-16, 32))
    four_legs(pen, appearance, body, 9, -10, 7, 3.8)
    pen.block(body, -15, 7, 11, 20, 7)
    for x in (-10, -5, 0):
        pen.limb(dark, 1.6, (x, 20), (x, 15))
    pen.poly(body, (4.5, 24), (5.5, 34), (12, 29))
    pen.poly(body, (19.5, 24), (18.5, 34), (12, 29))
    pen.poly((240, 170, 170), (6.3, 28), (6.8, 32), (10, 29))
    pen.poly((240, 170, 170), (17.7, 28), (17.2, 32), (14, 29))
    pen.oval(body, 12, 23, 8.6, 7.4)
    eye(pen, 9.5, 24.5)
    eye(pen, 15.5, 24.5)
    pen.poly((220, 110, 110), (11.2, 22), (14, 22), (12.6, 20.4))
    for y in (20, 22.5):
        pen.limb(INK, 0.6, (15, 21.2), (22, y))
        pen.limb(INK, 0.6, (10, 21.2), (3, y))


@kind(ANIMALS, "animals", "horse", 74, 64, "brown black white", top=(-6, 42), tow=(22, 45))
def horse(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.4) if sum(appearance.colour) > 200 else (110, 90, 80)
    pen.limb(dark, 5, (-26, 37), (-33, 30), (-34, 16))
    four_legs(pen, appearance, body, 26, -20, 14, 5.4)
    pen.block(body, -28, 22, 22, 42, 10)
    pen.poly(body, (6, 40), (21, 26), (31, 52), (21, 60))
    pen.poly(dark, (2, 41), (10, 38), (24, 60), (17, 63))
    pen.poly(body, (19, 62), (22, 67), (25, 61))
    pen.limb(body, 10, (25, 56), (36, 46))
    pen.limb(shade(body, -0.2), 6, (35, 46.5), (37, 45))
    eye(pen, 27.5, 56)


@kind(ANIMALS, "animals", "cow", 68, 48, "white brown black", top=(-6, 38), tow=(26, 30))
def cow(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    spot = shade(body, -0.55) if sum(body) > 300 else (230, 226, 220)
    pen.limb(body, 2.4, (-27, 35), (-32, 26), (-31, 16))
    pen.oval((240, 168, 170), -12, 15, 6, 4)
    four_legs(pen, appearance, body, 18, -21, 13, 6)
    pen.block(body, -28, 15, 21, 38, 6)
    pen.oval(spot, -15, 31, 8, 5.5)
    pen.oval(spot, 4, 25, 7, 6)
    pen.oval(spot, -6, 19, 5, 3)
    pen.limb((236, 226, 196), 2.6, (20, 45), (17.5, 50))
    pen.limb((236, 226, 196), 2.6, (28, 45), (31, 50))
    pen.poly(body, (14, 38), (18, 26), (30, 32), (24, 46))
    pen.block(body, 18, 30, 31, 46, 5)
    pen.oval(spot, 15.5, 41, 4, 2.4)
    pen.block((242, 184, 180), 19, 26, 34, 34.5, 4)
    pen.oval(INK, 30, 31, 1.1, 1.1)
    eye(pen, 26, 40)


@kind(ANIMALS, "animals", "sheep", 52, 42, "white black gray", top=(-3, 34))
def sheep(pen: Pen, appearance: Appearance) -> None:
    wool, face = appearance.colour, (74, 66, 66) if sum(appearance.colour) > 300 else (214, 204, 196)
    four_legs(pen, appearance, face, 12, -12, 9, 4)
    for x, y, r in ((-17, 20, 8), (-11, 27, 8), (0, 28, 8.4), (9, 25, 8), (11, 17, 8), (-10, 15, 8), (2, 15, 8)):
        pen.oval(shade(wool, -0.12), x, y - 1, r, r)
        pen.oval(wool, x, y + 0.6, r - 0.6, r - 0.8)
    pen.oval(wool, -2, 21, 14, 10)
    pen.oval(face, 19, 29, 6, 7.6)
    pen.oval(face, 12.5, 33, 4, 2.2)
    pen.oval(wool, 16, 36, 6.4, 4)
    eye(pen, 20.5, 30.5)


@kind(ANIMALS, "animals", "pig", 52, 34, "pink white black", top=(-4, 27))
def pig(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.2)
    pen.limb(dark, 2, (-20, 20), (-25, 23), (-22, 26), (-26, 28))
    four_legs(pen, appearance, body, 10, -13, 9, 5)
    pen.oval(body, -3, 17, 19, 11)
    pen.oval(body, 14, 20, 9.5, 9)
    pen.poly(dark, (9, 27), (8, 34), (15, 29))
    pen.block(dark, 21, 15, 26, 22.5, 2)
    pen.oval(INK, 24.8, 20.2, 0.8, 1)
    pen.oval(INK, 24.8, 17.4, 0.8, 1)
    eye(pen, 16.5, 23)


@kind(ANIMALS, "animals", "elephant", 86, 66, "gray", top=(-8, 58), tow=(34, 14))
def elephant(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.18)
    pen.limb(dark, 2.4, (-34, 44), (-40, 36), (-39, 26))
    four_legs(pen, appearance, body, 24, -25, 10, 11)
    pen.block(body, -36, 18, 20, 58, 16)
    pen.oval(body, 22, 45, 15, 16)
    pen.limb(body, 8, (33, 44), (39, 32), (38, 18))
    pen.limb(body, 6, (38, 18), (41, 11), (45, 10))
    pen.limb((250, 246, 232), 3.4, (32, 33), (40, 30))
    pen.oval(dark, 12, 46, 10, 14)
    pen.oval(shade(body, 0.14), 12.5, 45.5, 7, 11)
    eye(pen, 27, 49, 1.4)


@kind(ANIMALS, "animals", "rabbit, bunny", 32, 38, "white brown gray")
def rabbit(pen: Pen, appearance: Appearance) -> None:
    body = appearance.colour
    inner = (244, 180, 184)
    pen.oval((250, 250, 250), -14, 8, 4, 4)
    pen.oval(shade(body, -0.22), 7, 2.6, 5, 2.6)
    pen.oval(body, -3, 9.5, 12, 9.5)
    pen.oval(shade(body, -0.1), -5, 7.5, 7.5, 6.5)
    pen.oval(body, -3, 2.4, 8, 2.4)
    pen.oval(shade(body, -0.15), 5, 29, 2.8, 8.5)
    pen.oval(body, 10, 30, 3, 9)
    pen.oval(inner, 10.2, 30, 1.4, 6.6)
    pen.oval(body, 9, 18, 7.4, 6.8)
    eye(pen, 11.5, 19.5)
    pen.oval(inner, 16, 17.4, 1.3, 1.1)


@kind(ANIMALS, "animals", "duck", 32, 30, "yellow white")
def duck(pen: Pen, appearance: Appearance) -> None:
    body, bill = appearance.colour, (240, 138, 40)
    if sum(abs(a - b) for a, b in zip(body, bill, strict=True)) < 60:
        bill = (236, 204, 60)
    for x in (-3, 3):
        pen.limb(bill, 2, (x, 7), (x, 1.5), (x + 4, 1.2))
    pen.poly(body, (-16, 19), (-8, 17), (-8, 8))
    pen.oval(body, -1, 12, 12, 8)
    pen.oval(shade(body, -0.16), -4, 13, 7, 4.6)
    pen.limb(body, 6, (7, 14), (9, 24))
    pen.oval(body, 9.5, 24.5, 5.8, 5.4)
    pen.poly(bill, (14, 26.5), (21, 23.6), (14, 21.6))
    eye(pen, 11, 25.8)


@kind(ANIMALS, "fliers", "bird", 40, 28, "blue red black white")
def bird(pen: Pen, appearance: Appearance) -> None:
    body, dark = appearance.colour, shade(appearance.colour, -0.25)
    pen.poly(dark, (-2, 13), (6, 14), (-6, 28), (-12, 27))
    pen.poly(dark, (-9, 10), (-21, 14), (-20, 7))
    pen.oval(body, -1, 10, 11, 6)
    pen.oval(body, 9, 14, 5.4, 5)
    pen.poly((242, 176, 46), (13.5, 15.5), (20, 13), (13.5, 11.8))
    pen.poly(shade(body, 0.2), (-7, 11), (4, 11), (-8, 0), (-14, 2))
    eye(pen, 10.5, 15)
