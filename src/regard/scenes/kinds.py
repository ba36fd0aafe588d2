"""What defines a kind of thing: its names, its size and how it is drawn. `catalogue` lists all kinds."""

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


HAND: Number = 15  # distance of a held-out hand from the middle of a person
SEATED_HIP: Number = 3  # height of a sitting person's hip above the seat


@dataclass(frozen=True)
class Appearance:
    """The appearance of one individual. It does not depend on where the individual is."""

    colour: Colour
    pose: str = "stand"  # or "run"; people also "sit"
    reaching: bool = False  # of people: a hand is held out
    skin: Colour = SKINS[0]
    hair: Colour = HAIRS[0]


@dataclass(frozen=True)
class Kind:
    """A kind of thing. Sizes and positions are in its own frame (see `Pen`), at scale 1."""

    name: str
    family: str  # people, animals, fliers, vehicles, buildings, things
    width: Number
    height: Number
    draw: Callable[[Pen, Appearance], None]
    names: tuple[str, ...]  # `name` first, then synonyms
    colours: tuple[str, ...]  # those that half of its individuals have; the rest have any
    top: Point | None = None  # where something on it stands or sits
    grip: Number = 0  # height above its lowest point at which a hand holds it
    tow: Point | None = None  # heights of a rope at its back and at its front; None: it cannot pull or be pulled
    front: Callable[[Pen, Appearance], None] | None = None  # of containers: draws the part that hides the contents
    legs: Number = 0  # of people: height of the hip
    head: Number = 0  # of people: radius of the head


def kind(
    kinds: dict[str, Kind], family: str, names: str, width: Number, height: Number, colours: str = "", **more: object
) -> Callable:
    """Return a decorator that adds a kind to `kinds`, drawn by the decorated function.

    `names` are separated by ", "; the first one is its key. `colours` are separated by spaces. `more` gives further
    fields of `Kind`.
    """

    def register(draw: Callable[[Pen, Appearance], None]) -> Callable[[Pen, Appearance], None]:
        all_names = tuple(names.split(", "))
        # mypy cannot check `more`: its values have several types.
        kinds[all_names[0]] = Kind(all_names[0], family, width, height, draw, all_names, tuple(colours.split()), **more)  # type: ignore[arg-type]
        return draw

    return register
