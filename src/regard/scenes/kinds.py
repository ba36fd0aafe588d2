"""What a kind of thing is: its names, its size and how it is drawn. The kinds themselves are in `catalogue`."""

from collections.abc import Callable
from dataclasses import dataclass

from regard.scenes.pen import Colour, Number, Pen, Point

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
class Appearance:
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
    draw: Callable[[Pen, Appearance], None]
    names: tuple[str, ...]  # what it may be called, its name first
    colours: tuple[str, ...]  # those it often has
    top: Point | None = None  # where something stands or sits on it
    grip: Number = 0  # how high above its foot it is held
    tow: Point | None = None  # heights at which a rope leaves it behind and reaches it in front; None: no rope
    front: Callable[[Pen, Appearance], None] | None = None  # of a container: the part before what is inside
    legs: Number = 0  # of people: from the ground to the hip
    head: Number = 0  # of people: the radius


def kind(
    kinds: dict[str, Kind], family: str, names: str, width: Number, height: Number, colours: str = "", **more: object
) -> Callable:
    """Returns a decorator that adds a drawing function to `kinds`, under the first of `names`."""

    def register(draw: Callable[[Pen, Appearance], None]) -> Callable[[Pen, Appearance], None]:
        every = tuple(names.split(", "))
        # Settings come by keyword, and are of several types.
        kinds[every[0]] = Kind(every[0], family, width, height, draw, every, tuple(colours.split()), **more)  # type: ignore[arg-type]
        return draw

    return register
