"""The kinds of thing in the made world: what each is called, how large it is, and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass

from regard.data.scenes.pen import Colour, Number, Pen, Point, shade

COLOURS: dict[str, Colour] = {
    "red": (214, 58, 52),
    "orange": (242, 143, 44),
    "yellow": (246, 210, 65),
    "green": (84, 166, 78),
    "blue": (58, 112, 204),
    "purple": (136, 84, 178),
    "pink": (243, 158, 190),
    "brown": (134, 88, 54),
    "black": (52, 52, 60),
    "white": (246, 244, 238),
    "gray": (150, 154, 162),
}

INK: Colour = (40, 38, 46)
GLASS: Colour = (190, 222, 238)
WOOD: Colour = (150, 108, 70)
METAL: Colour = (188, 192, 200)
SKINS: tuple[Colour, ...] = ((247, 214, 184), (226, 176, 136), (176, 120, 82), (118, 78, 54))
HAIRS: tuple[Colour, ...] = ((58, 40, 30), (120, 74, 40), (222, 178, 92), (40, 38, 44), (170, 84, 46))


HAND: Number = 15  # how far before a person the held out hand is
SEATED_HIP: Number = 3  # how far above the seat the hip is


@dataclass(frozen=True)
class Look:
    """How one individual looks; the same wherever it is put."""

    colour: Colour
    pose: str = "stand"  # or "run"; people also "sit"
    reaching: bool = False  # a person whose hand is held out
    skin: Colour = SKINS[0]
    hair: Colour = HAIRS[0]


@dataclass(frozen=True)
class Kind:
    name: str
    family: str  # people, animals, fliers, vehicles, buildings, things
    width: Number
    height: Number
    draw: Callable[[Pen, Look], None]
    names: tuple[str, ...]  # what it may be called, its name first
    colours: tuple[str, ...]  # those it often has
    top: Point | None = None  # where something stands or sits on it
    grip: Number = 0  # how high above its foot it is held
    tow: Point | None = (
        None  # of what can pull and be pulled: how high a rope leaves it behind, and reaches it in front
    )
    front: Callable[[Pen, Look], None] | None = None  # of a container: the part before what is inside
    legs: Number = 0  # of people: from the ground to the hip
    head: Number = 0  # of people: the radius


KINDS: dict[str, Kind] = {}


def kind(family: str, names: str, width: Number, height: Number, colours: str = "", **more: object) -> Callable:
    """Registers a drawing function under the first of `names`."""

    def register(draw: Callable[[Pen, Look], None]) -> Callable[[Pen, Look], None]:
        every = tuple(names.split(", "))
        # Settings come by keyword, and are of several types.
        KINDS[every[0]] = Kind(every[0], family, width, height, draw, every, tuple(colours.split()), **more)  # type: ignore[arg-type]
        return draw

    return register


# People ---------------------------------------------------------------------------------------------------------------


def person(pen: Pen, look: Look, legs: Number, torso: Number, head: Number, dress: bool, hair: str) -> None:
    cloth, dark = look.colour, shade(look.colour, -0.18)
    trousers = look.skin if dress else shade(cloth, -0.5) if sum(cloth) > 300 else (96, 100, 116)
    limb, far = 5.2, shade(trousers, -0.12)
    hip = SEATED_HIP if look.pose == "sit" else legs
    neck = hip + torso
    paths: list[tuple[Point, ...]]
    if look.pose == "sit":
        paths = [((0, hip), (11, hip - 3), (9, hip - 3 - legs * 0.6), (13, hip - 3 - legs * 0.62))]
    elif look.pose == "run":
        paths = [
            ((-1, hip), (-4, hip * 0.45), (-legs * 0.62, hip * 0.28), (-legs * 0.62, hip * 0.28)),
            ((1, hip), (legs * 0.42, hip * 0.58), (legs * 0.4, 2), (legs * 0.4 + 4, 2)),
        ]
    else:
        paths = [((-3, hip), (-3, 2), (0, 2)), ((3, hip), (3, 2), (6.5, 2))]
    for path, colour in zip(paths, (far, trousers), strict=False):
        pen.limb(colour, limb, *path[:-1])
        pen.limb(INK, limb - 1, path[-2], path[-1])
    shoulder = neck - 3.5
    swing = 9 if look.pose == "run" else 3
    pen.limb(shade(dark, -0.1), 4.4, (-2, shoulder), (-3 - swing, shoulder - torso * 0.42))
    pen.limb(shade(look.skin, -0.1), 4, (-3 - swing, shoulder - torso * 0.42), (-1.5 - swing, shoulder - torso * 0.75))
    if hair == "long":
        pen.block(look.hair, -head - 1.2, neck - 3, head * 0.2, neck + head * 1.6, 4)
    if dress:
        low = hip - legs * 0.42 if look.pose != "sit" else hip - 4
        pen.poly(cloth, (-5.4, neck), (5.4, neck), (6, hip + 4), (11, low), (-11, low), (-6, hip + 4))
        pen.poly(dark, (-5.4, neck), (-2.4, neck), (-3, hip + 4), (-6, low), (-11, low), (-6, hip + 4))
    else:
        pen.block(cloth, -7, hip - 2, 7, neck, 4)
        pen.block(dark, -7, hip - 2, -3.2, neck, 3)
    pen.block(shade(look.skin, -0.1), -2.2, neck - 2, 2.2, neck + 3)
    y = neck + head + 0.5
    if hair == "tails":
        pen.oval(look.hair, -head - 2.5, y + 0.5, 3.6, 5)
        pen.oval(look.hair, head + 1.5, y + 1.5, 3.2, 4.6)
    pen.oval(look.hair, -0.9, y + 1.6, head + 0.9, head + 0.4)
    pen.oval(look.skin, 0.9, y - 0.6, head - 1.1, head - 0.9)
    pen.oval(INK, head * 0.42, y, 1, 1.2)
    pen.oval(INK, -head * 0.12, y, 1, 1.2)
    pen.limb(shade(look.skin, -0.4), 1, (head * 0.02, y - head * 0.42), (head * 0.36, y - head * 0.42))
    if hair == "short":
        pen.slice(look.hair, -0.2, y + 0.6, head + 0.5, 25, 170)
    if look.reaching:
        pen.limb(cloth, 4.6, (2, shoulder), (8, shoulder - 3))
        pen.limb(look.skin, 4, (8, shoulder - 3), (HAND, shoulder))
    elif look.pose == "sit":
        pen.limb(cloth, 4.6, (2, shoulder), (7, shoulder - torso * 0.35))
        pen.limb(look.skin, 4, (7, shoulder - torso * 0.35), (13, shoulder - torso * 0.38))
    else:
        pen.limb(cloth, 4.6, (3, shoulder), (3 + swing, shoulder - torso * 0.42))
        pen.limb(look.skin, 4, (3 + swing, shoulder - torso * 0.42), (5 + swing * 1.6, shoulder - torso * 0.6))


@kind("people", "man, guy", 26, 67, tow=(30, 31), legs=26, head=7.6)
def man(pen: Pen, look: Look) -> None:
    person(pen, look, 26, 24, 7.6, False, "short")
    if look.hair != HAIRS[2]:
        y = (3 if look.pose == "sit" else 26) + 24 + 8.1
        pen.slice(look.hair, 1.4, y - 2.6, 5.6, 200, 340)


@kind("people", "woman, lady", 26, 63, tow=(28, 30), legs=25, head=7.2)
def woman(pen: Pen, look: Look) -> None:
    person(pen, look, 25, 22, 7.2, True, "long")


@kind("people", "boy, lad", 24, 49, legs=16, head=7.4)
def boy(pen: Pen, look: Look) -> None:
    person(pen, look, 16, 17, 7.4, False, "short")


@kind("people", "girl", 24, 48, legs=15, head=7.3)
def girl(pen: Pen, look: Look) -> None:
    person(pen, look, 15, 17, 7.3, True, "tails")


# Animals --------------------------------------------------------------------------------------------------------------


def four_legs(pen: Pen, look: Look, colour: Colour, hip: Number, back: Number, front: Number, width: Number) -> None:
    """The two far legs darker, then the two near ones; running, they reach out."""
    reach = hip * 0.55 if look.pose == "run" else 0
    lift = hip * 0.18 if look.pose == "run" else 0
    half = width / 2
    far = shade(colour, -0.28)
    pen.limb(far, width, (back + 3, hip), (back + 3 - reach * 0.3, half + lift))
    pen.limb(far, width, (front - 3, hip), (front - 3 + reach * 0.3, half + lift))
    pen.limb(colour, width, (back, hip), (back - reach, half + lift))
    pen.limb(colour, width, (front, hip), (front + reach, half + lift))


def eye(pen: Pen, x: Number, y: Number, r: Number = 1.2) -> None:
    pen.oval((255, 255, 255), x, y, r + 0.5, r + 0.5)
    pen.oval(INK, x + 0.3, y, r, r)


@kind("animals", "dog, hound", 48, 36, "brown black white orange", top=(-4, 24))
def dog(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.25)
    pen.limb(body, 3.4, (-16, 21), (-22, 29), (-21, 33))
    four_legs(pen, look, body, 12, -12, 9, 4.6)
    pen.block(body, -17, 9, 14, 24, 7)
    pen.poly(body, (4, 22), (12, 12), (19, 26), (13, 33))
    pen.oval(body, 15, 28, 7.5, 7)
    pen.block(shade(body, 0.12), 15, 22, 26, 28.5, 3)
    pen.oval(INK, 25, 27.5, 1.8, 1.6)
    pen.poly(dark, (8, 34), (13, 34), (11, 21), (6.5, 23))
    eye(pen, 17, 30)
    pen.limb((200, 60, 60), 1.8, (8.5, 19.5), (16.5, 19.5))


@kind("animals", "cat", 42, 34, "orange black white gray", top=(-3, 20))
def cat(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.25)
    pen.limb(body, 3, (-13, 14), (-20, 18), (-20, 28), (-16, 32))
    four_legs(pen, look, body, 9, -10, 7, 3.8)
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


@kind("animals", "horse", 74, 64, "brown black white", top=(-6, 42), tow=(22, 45))
def horse(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.4) if sum(look.colour) > 200 else (110, 90, 80)
    pen.limb(dark, 5, (-26, 37), (-33, 30), (-34, 16))
    four_legs(pen, look, body, 26, -20, 14, 5.4)
    pen.block(body, -28, 22, 22, 42, 10)
    pen.poly(body, (6, 40), (21, 26), (31, 52), (21, 60))
    pen.poly(dark, (2, 41), (10, 38), (24, 60), (17, 63))
    pen.poly(body, (19, 62), (22, 67), (25, 61))
    pen.limb(body, 10, (25, 56), (36, 46))
    pen.limb(shade(body, -0.2), 6, (35, 46.5), (37, 45))
    eye(pen, 27.5, 56)


@kind("animals", "cow", 68, 48, "white brown black", top=(-6, 38), tow=(26, 30))
def cow(pen: Pen, look: Look) -> None:
    body = look.colour
    spot = shade(body, -0.55) if sum(body) > 300 else (230, 226, 220)
    pen.limb(body, 2.4, (-27, 35), (-32, 26), (-31, 16))
    pen.oval((240, 168, 170), -12, 15, 6, 4)
    four_legs(pen, look, body, 18, -21, 13, 6)
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


@kind("animals", "sheep", 52, 42, "white black gray", top=(-3, 34))
def sheep(pen: Pen, look: Look) -> None:
    wool, face = look.colour, (74, 66, 66) if sum(look.colour) > 300 else (214, 204, 196)
    four_legs(pen, look, face, 12, -12, 9, 4)
    for x, y, r in ((-17, 20, 8), (-11, 27, 8), (0, 28, 8.4), (9, 25, 8), (11, 17, 8), (-10, 15, 8), (2, 15, 8)):
        pen.oval(shade(wool, -0.12), x, y - 1, r, r)
        pen.oval(wool, x, y + 0.6, r - 0.6, r - 0.8)
    pen.oval(wool, -2, 21, 14, 10)
    pen.oval(face, 19, 29, 6, 7.6)
    pen.oval(face, 12.5, 33, 4, 2.2)
    pen.oval(wool, 16, 36, 6.4, 4)
    eye(pen, 20.5, 30.5)


@kind("animals", "pig", 52, 34, "pink white black", top=(-4, 27))
def pig(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.2)
    pen.limb(dark, 2, (-20, 20), (-25, 23), (-22, 26), (-26, 28))
    four_legs(pen, look, body, 10, -13, 9, 5)
    pen.oval(body, -3, 17, 19, 11)
    pen.oval(body, 14, 20, 9.5, 9)
    pen.poly(dark, (9, 27), (8, 34), (15, 29))
    pen.block(dark, 21, 15, 26, 22.5, 2)
    pen.oval(INK, 24.8, 20.2, 0.8, 1)
    pen.oval(INK, 24.8, 17.4, 0.8, 1)
    eye(pen, 16.5, 23)


@kind("animals", "elephant", 86, 66, "gray", top=(-8, 58), tow=(34, 14))
def elephant(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.18)
    pen.limb(dark, 2.4, (-34, 44), (-40, 36), (-39, 26))
    four_legs(pen, look, body, 24, -25, 10, 11)
    pen.block(body, -36, 18, 20, 58, 16)
    pen.oval(body, 22, 45, 15, 16)
    pen.limb(body, 8, (33, 44), (39, 32), (38, 18))
    pen.limb(body, 6, (38, 18), (41, 11), (45, 10))
    pen.limb((250, 246, 232), 3.4, (32, 33), (40, 30))
    pen.oval(dark, 12, 46, 10, 14)
    pen.oval(shade(body, 0.14), 12.5, 45.5, 7, 11)
    eye(pen, 27, 49, 1.4)


@kind("animals", "rabbit, bunny", 32, 38, "white brown gray")
def rabbit(pen: Pen, look: Look) -> None:
    body = look.colour
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


@kind("animals", "duck", 32, 30, "yellow white")
def duck(pen: Pen, look: Look) -> None:
    body, bill = look.colour, (240, 138, 40)
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


@kind("fliers", "bird", 40, 28, "blue red black white")
def bird(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.25)
    pen.poly(dark, (-2, 13), (6, 14), (-6, 28), (-12, 27))
    pen.poly(dark, (-9, 10), (-21, 14), (-20, 7))
    pen.oval(body, -1, 10, 11, 6)
    pen.oval(body, 9, 14, 5.4, 5)
    pen.poly((242, 176, 46), (13.5, 15.5), (20, 13), (13.5, 11.8))
    pen.poly(shade(body, 0.2), (-7, 11), (4, 11), (-8, 0), (-14, 2))
    eye(pen, 10.5, 15)


# Fliers that are things -----------------------------------------------------------------------------------------------


@kind("fliers", "balloon", 22, 46, "red blue yellow pink", grip=1)
def balloon(pen: Pen, look: Look) -> None:
    pen.limb((110, 110, 118), 0.8, (0, 0), (1.5, 8), (0, 18))
    pen.poly(shade(look.colour, -0.2), (-2.4, 17), (2.4, 17), (0, 21))
    pen.oval(look.colour, 0, 32, 11, 13.5)
    pen.oval(shade(look.colour, 0.45), -4, 37, 2.4, 4)


@kind("fliers", "kite", 34, 50, "red yellow green", grip=1)
def kite(pen: Pen, look: Look) -> None:
    pen.limb((110, 110, 118), 0.8, (0, 0), (4, 12), (2, 20))
    for x, y in ((3, 14), (1.5, 7)):
        pen.poly(shade(look.colour, -0.25), (x, y), (x - 4, y + 2.4), (x - 4, y - 2.4))
        pen.poly(shade(look.colour, -0.25), (x, y), (x + 4, y + 2.4), (x + 4, y - 2.4))
    pen.poly(look.colour, (2, 18), (17, 38), (2, 50), (-13, 38))
    pen.poly(shade(look.colour, 0.35), (2, 38), (17, 38), (2, 50))
    pen.poly(shade(look.colour, -0.2), (2, 38), (-13, 38), (2, 18))


@kind("fliers", "plane, airplane", 62, 26, "white red blue gray")
def plane(pen: Pen, look: Look) -> None:
    body, dark = look.colour, shade(look.colour, -0.28)
    pen.poly(dark, (-2, 14), (8, 14), (-8, 25), (-14, 25))
    pen.poly(dark, (-29, 26), (-23, 26), (-15, 15), (-26, 15))
    pen.block(body, -28, 8, 28, 19, 5.5)
    pen.poly(body, (-29, 12), (-29, 19), (-14, 19))
    for x in (-12, -4, 4, 12):
        pen.oval(GLASS, x, 15, 2, 2)
    pen.block(GLASS, 19, 13.5, 26, 17.5, 2)
    pen.poly(shade(dark, -0.1), (-4, 11), (9, 11), (-10, 0), (-17, 0))


# Vehicles -------------------------------------------------------------------------------------------------------------


def wheel(pen: Pen, x: Number, r: Number) -> None:
    pen.oval(INK, x, r, r, r)
    pen.oval(METAL, x, r, r * 0.5, r * 0.5)


@kind("vehicles", "car, automobile", 74, 34, "red blue white green", top=(-4, 33), tow=(11, 11))
def car(pen: Pen, look: Look) -> None:
    body = look.colour
    pen.poly(body, (-24, 18), (-17, 33), (9, 33), (19, 18))
    pen.poly(GLASS, (-19, 19), (-14.4, 30), (-5, 30), (-5, 19))
    pen.poly(GLASS, (-2, 19), (-2, 30), (7.6, 30), (14.6, 19))
    pen.block(body, -36, 6, 36, 20, 6)
    pen.block(shade(body, -0.22), -36, 6, 36, 11, 3)
    pen.oval((252, 236, 150), 33.5, 15, 2.4, 2.6)
    pen.block((190, 40, 40), -36, 13, -33, 17, 1)
    wheel(pen, -20, 8)
    wheel(pen, 20, 8)


@kind("vehicles", "bus", 98, 48, "yellow red blue orange", top=(0, 47))
def bus(pen: Pen, look: Look) -> None:
    body = look.colour
    pen.block(body, -48, 7, 48, 47, 6)
    pen.block(shade(body, -0.22), -48, 7, 48, 16, 3)
    for x in (-42, -25, -8, 9):
        pen.block(GLASS, x, 26, x + 13, 40, 2)
    pen.block(GLASS, 28, 22, 46, 41, 3)
    pen.oval((252, 236, 150), 45.5, 13, 2.4, 2.4)
    wheel(pen, -29, 9)
    wheel(pen, 29, 9)


@kind("vehicles", "truck, lorry", 94, 48, "red green blue gray", tow=(12, 12))
def truck(pen: Pen, look: Look) -> None:
    body = look.colour
    pen.block(shade(body, 0.3), -46, 13, 18, 48, 3)
    for x in (-32, -16, 0):
        pen.block(shade(body, 0.1), x, 16, x + 2, 45)
    pen.block(INK, -46, 9, 46, 14, 2)
    pen.poly(body, (20, 10), (20, 40), (36, 40), (46, 25), (46, 10))
    pen.poly(GLASS, (25, 25), (25, 36), (34, 36), (41.5, 25))
    pen.oval((252, 236, 150), 44, 16, 2.2, 2.2)
    for x in (-31, -10, 32):
        wheel(pen, x, 8.5)


@kind("vehicles", "tractor", 64, 48, "red green orange blue", tow=(14, 18))
def tractor(pen: Pen, look: Look) -> None:
    body = look.colour
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


@kind("vehicles", "bicycle, bike", 56, 36, "red blue green black", top=(-8, 31))
def bicycle(pen: Pen, look: Look) -> None:
    tyre = (70, 68, 76)
    for x in (-17, 17):
        pen.oval(tyre, x, 11, 11, 11)
        pen.oval((214, 216, 220), x, 11, 8.6, 8.6)
        for dx, dy in ((6, 6), (8, 0), (6, -6), (0, 8)):
            pen.limb((170, 172, 178), 0.6, (x - dx, 11 - dy), (x + dx, 11 + dy))
    frame = look.colour
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


@kind("vehicles", "scooter, moped", 54, 38, "red blue green pink", top=(-10, 24))
def scooter(pen: Pen, look: Look) -> None:
    body = look.colour
    pen.block(INK, -22, 22, -2, 26, 2)
    pen.poly(body, (-26, 9), (-24, 22), (-3, 22), (3, 9))
    pen.block(body, -4, 7, 16, 12, 2)
    pen.limb(body, 6, (14, 10), (19, 33))
    pen.limb(INK, 2.4, (18, 35), (13, 37))
    pen.oval((252, 236, 150), 21.5, 31, 2.6, 2.8)
    wheel(pen, -16, 8)
    wheel(pen, 19, 8)


# Buildings ------------------------------------------------------------------------------------------------------------


@kind("buildings", "house", 84, 76, "white red yellow blue")
def house(pen: Pen, look: Look) -> None:
    wall = look.colour
    roof = (150, 74, 62) if look.colour != COLOURS["red"] else (92, 76, 84)
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


@kind("buildings", "tower", 40, 112, "gray white brown")
def tower(pen: Pen, look: Look) -> None:
    wall, dark = look.colour, shade(look.colour, -0.16)
    pen.poly(wall, (-15, 0), (15, 0), (12, 86), (-12, 86))
    pen.poly(dark, (-15, 0), (-6, 0), (-5, 86), (-12, 86))
    pen.block(shade(wall, -0.25), -17, 84, 17, 93, 1)
    pen.block(GLASS, -10, 93, 10, 103)
    pen.poly((170, 66, 60), (-14, 102), (14, 102), (0, 116))
    for y in (24, 46, 68):
        pen.block((88, 96, 116), -2.6, y, 2.6, y + 9, 2)
    pen.block(WOOD, -5, 0, 5, 14, 3)


@kind("buildings", "castle", 96, 76, "gray pink white purple")
def castle(pen: Pen, look: Look) -> None:
    wall, dark = look.colour, shade(look.colour, -0.16)
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


@kind("buildings", "tent", 62, 44, "orange green blue red")
def tent(pen: Pen, look: Look) -> None:
    pen.poly(shade(look.colour, -0.2), (-31, 0), (-8, 44), (4, 44), (31, 0))
    pen.poly(look.colour, (-31, 0), (-8, 44), (10, 0))
    pen.poly((60, 48, 52), (-20, 0), (-9, 32), (0, 0))
    pen.limb(WOOD, 1.8, (-8, 44), (-7, 48))


# Things ---------------------------------------------------------------------------------------------------------------


@kind("things", "tree", 60, 96, "green green orange pink")
def tree(pen: Pen, look: Look) -> None:
    leaf, dark = look.colour, shade(look.colour, -0.2)
    pen.poly((112, 78, 52), (-6, 0), (6, 0), (3.4, 52), (-3.4, 52))
    for x, y, r in ((-15, 56, 15), (15, 56, 15), (0, 62, 18)):
        pen.oval(dark, x, y - 3, r, r - 2)
    for x, y, r in ((-15, 62, 14), (14, 62, 14), (-7, 78, 14), (8, 78, 13), (0, 68, 17)):
        pen.oval(leaf, x, y, r, r - 1)
    for x, y in ((-10, 80), (6, 72), (-17, 64), (14, 60)):
        pen.oval(shade(leaf, 0.22), x, y, 4, 3)


@kind("things", "table", 64, 38, "brown white red", top=(0, 38))
def table(pen: Pen, look: Look) -> None:
    dark = shade(look.colour, -0.25)
    for x in (-20.0, 16.0):
        pen.block(shade(dark, -0.15), x, 6, x + 4, 34)
    for x in (-29.0, 24.6):
        pen.block(dark, x, 0, x + 4.4, 34)
    pen.block(look.colour, -32, 32, 32, 38, 2)
    pen.block(dark, -30, 30, 30, 32.6)


@kind("things", "bench", 66, 34, "brown green red", top=(0, 17))
def bench(pen: Pen, look: Look) -> None:
    dark = shade(look.colour, -0.25)
    for x in (-27, 23):
        pen.block(INK, x, 0, x + 3.6, 34)
    for y in (21, 28):
        pen.block(dark, -32, y, 32, y + 5, 1)
    pen.block(look.colour, -33, 12.5, 33, 17.5, 1.6)


def box_front(pen: Pen, look: Look) -> None:
    pen.block(look.colour, -23, 0, 23, 22)
    pen.block(shade(look.colour, -0.16), -23, 0, -13, 22)
    pen.block(shade(look.colour, 0.35), 2, 8, 14, 15)


@kind("things", "box", 48, 28, "brown red blue", top=(0, 27), front=box_front)
def box(pen: Pen, look: Look) -> None:
    pen.poly(shade(look.colour, -0.42), (-23, 22), (-18, 27), (18, 27), (23, 22))
    pen.poly(shade(look.colour, 0.15), (-23, 22), (-18, 27), (-24, 30), (-29, 25))
    pen.poly(shade(look.colour, 0.15), (23, 22), (18, 27), (24, 30), (29, 25))
    box_front(pen, look)


def basket_front(pen: Pen, look: Look) -> None:
    dark = shade(look.colour, -0.22)
    pen.poly(look.colour, (-21, 19), (21, 19), (16, 0), (-16, 0))
    for y in (4, 9, 14):
        pen.limb(dark, 1.4, (-16 - y / 4, y), (16 + y / 4, y))
    for x in (-12, -4, 4, 12):
        pen.limb(dark, 1.2, (x * 0.9, 1), (x * 1.15, 18))
    pen.limb(shade(look.colour, 0.2), 3.6, (-21, 19), (21, 19))


@kind("things", "basket", 46, 36, "brown yellow white", grip=36, front=basket_front)
def basket(pen: Pen, look: Look) -> None:
    pen.limb(shade(look.colour, -0.1), 2.4, (-18, 19), (-13, 31), (0, 36), (13, 31), (18, 19))
    pen.oval(shade(look.colour, -0.4), 0, 20, 20, 3)
    basket_front(pen, look)


@kind("things", "ball", 22, 22, "red blue orange white", grip=8)
def ball(pen: Pen, look: Look) -> None:
    pen.oval(look.colour, 0, 11, 11, 11)
    pen.slice(shade(look.colour, -0.25), 0, 11, 11, 200, 300)
    pen.limb(shade(look.colour, 0.6), 2, (-9, 14), (0, 11), (9, 14))
    pen.limb(shade(look.colour, 0.6), 2, (0, 11), (0, 2))
    pen.oval(shade(look.colour, 0.5), -3.6, 17, 2.6, 2)


@kind("things", "hat", 26, 13, "red black blue yellow")
def hat(pen: Pen, look: Look) -> None:
    pen.block(look.colour, -7.4, 2, 7.4, 13, 3)
    pen.block(shade(look.colour, -0.45) if sum(look.colour) > 300 else (230, 190, 80), -7.4, 2, 7.4, 5)
    pen.oval(look.colour, 0, 2, 13, 2.2)


@kind("things", "umbrella", 46, 50, "red blue purple green", grip=10)
def umbrella(pen: Pen, look: Look) -> None:
    pen.limb(INK, 1.8, (4, 4), (0, 2), (0, 44))
    pen.slice(look.colour, 0, 31, 23, 0, 180)
    pen.slice(shade(look.colour, -0.2), 0, 31, 23, 118, 180)
    pen.slice(shade(look.colour, 0.25), 0, 31, 23, 0, 58)
    pen.limb(INK, 1.8, (0, 53), (0, 56))


@kind("things", "flag", 34, 58, "red blue green yellow", grip=16)
def flag(pen: Pen, look: Look) -> None:
    pen.limb(WOOD, 2.2, (0, 0), (0, 58))
    pen.poly(look.colour, (0, 57), (14, 53), (30, 57), (30, 37), (14, 33), (0, 37))
    pen.poly(shade(look.colour, -0.18), (14, 53), (20, 56), (20, 36), (14, 33))


@kind("things", "flower", 18, 30, "red pink yellow purple", grip=8)
def flower(pen: Pen, look: Look) -> None:
    pen.limb((74, 140, 70), 2, (0, 0), (0, 20))
    pen.poly((74, 140, 70), (0, 7), (8, 13), (3, 14))
    for x, y in ((0, 28), (6.2, 24), (4, 17), (-4, 17), (-6.2, 24)):
        pen.oval(look.colour, x, y, 4.8, 4.8)
    pen.oval((250, 206, 70) if look.colour != COLOURS["yellow"] else WOOD, 0, 22.4, 3.8, 3.8)
