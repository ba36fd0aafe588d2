"""People of the made world."""

from regard.scenes.kinds import HAIRS, HAND, INK, SEATED_HIP, Appearance, Kind, kind
from regard.scenes.pen import Number, Pen, Point, shade

PEOPLE: dict[str, Kind] = {}


def person(pen: Pen, appearance: Appearance, legs: Number, torso: Number, head: Number, dress: bool, hair: str) -> None:
    cloth, dark = appearance.colour, shade(appearance.colour, -0.18)
    trousers = appearance.skin if dress else shade(cloth, -0.5) if sum(cloth) > 300 else (96, 100, 116)
    limb, far = 5.2, shade(trousers, -0.12)
    hip = SEATED_HIP if appearance.pose == "sit" else legs
    neck = hip + torso
    paths: list[tuple[Point, ...]]
    if appearance.pose == "sit":
        paths = [((0, hip), (11, hip - 3), (9, hip - 3 - legs * 0.6), (13, hip - 3 - legs * 0.62))]
    elif appearance.pose == "run":
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
    swing = 9 if appearance.pose == "run" else 3
    pen.limb(shade(dark, -0.1), 4.4, (-2, shoulder), (-3 - swing, shoulder - torso * 0.42))
    pen.limb(
        shade(appearance.skin, -0.1), 4, (-3 - swing, shoulder - torso * 0.42), (-1.5 - swing, shoulder - torso * 0.75)
    )
    if hair == "long":
        pen.block(appearance.hair, -head - 1.2, neck - 3, head * 0.2, neck + head * 1.6, 4)
    if dress:
        low = hip - legs * 0.42 if appearance.pose != "sit" else hip - 4
        pen.poly(cloth, (-5.4, neck), (5.4, neck), (6, hip + 4), (11, low), (-11, low), (-6, hip + 4))
        pen.poly(dark, (-5.4, neck), (-2.4, neck), (-3, hip + 4), (-6, low), (-11, low), (-6, hip + 4))
    else:
        pen.block(cloth, -7, hip - 2, 7, neck, 4)
        pen.block(dark, -7, hip - 2, -3.2, neck, 3)
    pen.block(shade(appearance.skin, -0.1), -2.2, neck - 2, 2.2, neck + 3)
    y = neck + head + 0.5
    if hair == "tails":
        pen.oval(appearance.hair, -head - 2.5, y + 0.5, 3.6, 5)
        pen.oval(appearance.hair, head + 1.5, y + 1.5, 3.2, 4.6)
    pen.oval(appearance.hair, -0.9, y + 1.6, head + 0.9, head + 0.4)
    pen.oval(appearance.skin, 0.9, y - 0.6, head - 1.1, head - 0.9)
    pen.oval(INK, head * 0.42, y, 1, 1.2)
    pen.oval(INK, -head * 0.12, y, 1, 1.2)
    pen.limb(shade(appearance.skin, -0.4), 1, (head * 0.02, y - head * 0.42), (head * 0.36, y - head * 0.42))
    if hair == "short":
        pen.slice(appearance.hair, -0.2, y + 0.6, head + 0.5, 25, 170)
    if appearance.reaching:
        pen.limb(cloth, 4.6, (2, shoulder), (8, shoulder - 3))
        pen.limb(appearance.skin, 4, (8, shoulder - 3), (HAND, shoulder))
    elif appearance.pose == "sit":
        pen.limb(cloth, 4.6, (2, shoulder), (7, shoulder - torso * 0.35))
        pen.limb(appearance.skin, 4, (7, shoulder - torso * 0.35), (13, shoulder - torso * 0.38))
    else:
        pen.limb(cloth, 4.6, (3, shoulder), (3 + swing, shoulder - torso * 0.42))
        pen.limb(appearance.skin, 4, (3 + swing, shoulder - torso * 0.42), (5 + swing * 1.6, shoulder - torso * 0.6))


@kind(PEOPLE, "people", "man, guy", 26, 67, tow=(30, 31), legs=26, head=7.6)
def man(pen: Pen, appearance: Appearance) -> None:
    person(pen, appearance, 26, 24, 7.6, False, "short")
    if appearance.hair != HAIRS[2]:
        y = (3 if appearance.pose == "sit" else 26) + 24 + 8.1
        pen.slice(appearance.hair, 1.4, y - 2.6, 5.6, 200, 340)


@kind(PEOPLE, "people", "woman, lady", 26, 63, tow=(28, 30), legs=25, head=7.2)
def woman(pen: Pen, appearance: Appearance) -> None:
    person(pen, appearance, 25, 22, 7.2, True, "long")


@kind(PEOPLE, "people", "boy, lad", 24, 49, legs=16, head=7.4)
def boy(pen: Pen, appearance: Appearance) -> None:
    person(pen, appearance, 16, 17, 7.4, False, "short")


@kind(PEOPLE, "people", "girl", 24, 48, legs=15, head=7.3)
def girl(pen: Pen, appearance: Appearance) -> None:
    person(pen, appearance, 15, 17, 7.3, True, "tails")
