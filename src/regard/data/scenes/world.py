"""What is in a scene, what its things do to each other, and where they stand: drafted by dice, then laid out.

A draft says who and what; a layout says where. A twin is the same draft with its main fact turned round.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from regard.data.scenes.kinds import COLOURS, HAIRS, KINDS, SKINS, Kind, Look
from regard.data.scenes.pen import WIDTH, Number

T = TypeVar("T")

PREDICATES = (
    "none", "riding", "holding", "wearing", "chasing", "pulling", "inside", "on", "under", "behind", "left of", "above",
)  # fmt: skip
SETTINGS = ("meadow", "meadow", "beach", "snow", "street", "night")
SIZES = {"": 1.0, "small": 0.72, "big": 1.28}


class Dice:
    """The choices of one image, from a counter-based generator: no image depends on another."""

    def __init__(self, *key: int) -> None:
        seed, split, counter, stream = key
        bits = np.random.Philox(key=[seed, split], counter=[0, 0, stream, counter])
        self.random = np.random.Generator(bits).random

    def chance(self, probability: Number) -> bool:
        return self.random() < probability

    def between(self, low: Number, high: Number) -> Number:
        return low + (high - low) * self.random()

    def pick(self, options: "tuple[T, ...] | list[T]") -> T:
        return options[int(self.random() * len(options))]

    def some(self, options: "tuple[T, ...] | list[T]", count: int) -> list[T]:
        """`count` of the options, in random order, none twice."""
        left = list(options)
        return [left.pop(int(self.random() * len(left))) for _ in range(count)]


@dataclass(frozen=True)
class Thing:
    kind: Kind
    colour: str
    size: str  # "" where nothing is to be said of it
    facing: int
    look: Look


@dataclass(frozen=True)
class Fact:
    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Draft:
    """`near` and `far` are the facts of a group each, its main fact first; other things stand in the background."""

    setting: str
    things: tuple[Thing, ...]
    near: tuple[Fact, ...]
    far: tuple[Fact, ...] = ()
    twin: str = ""  # "relation" or "attribute": how the twin differs

    @property
    def facts(self) -> tuple[Fact, ...]:
        return self.near + self.far


@dataclass(frozen=True)
class Place:
    """Where a thing is drawn."""

    x: Number
    ground: Number
    scale: Number
    depth: Number  # the larger the nearer: drawn later
    stands: bool = True  # on the ground, where it throws a shadow
    inside: int = -1  # the container whose front hides it


# Who can do what to whom ----------------------------------------------------------------------------------------------

PEOPLE = ("man", "woman", "boy", "girl")
SMALL = ("cat", "rabbit", "duck", "dog")
ANIMALS = ("dog", "cat", "horse", "cow", "sheep", "pig", "elephant", "rabbit", "duck")
FLIERS = ("bird", "balloon", "kite", "plane")
CARRIERS = ("dog", "cat", "horse", "cow", "sheep", "pig", "elephant")
ON_GROUND = (*PEOPLE, *ANIMALS, "car", "bus", "truck", "tractor", "bicycle", "scooter", "tree", "tent", "box", "bench",
             "table", "basket", "ball")  # fmt: skip
PULLERS = ("man", "woman", "horse", "cow", "elephant", "car", "truck", "tractor")
BROAD = ("horse", "cow", "elephant", "sheep", "pig", "car", "truck", "tractor", "bus", "man", "woman", "tent", "box")
BACKDROPS = ("tree", "house", "tower", "castle", "tent")

# subject kinds, object kinds: of a scene without a twin
ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "riding": (PEOPLE, ("horse", "elephant", "bicycle", "scooter")),
    "holding": (PEOPLE, ("balloon", "kite", "umbrella", "flag", "flower", "ball", "basket")),
    "wearing": (PEOPLE, ("hat",)),
    "chasing": (PEOPLE + ANIMALS, PEOPLE + ANIMALS),
    "pulling": (PULLERS, PULLERS),
    "inside": ((*SMALL, "ball", "flower"), ("box", "basket")),
    "on": ((*SMALL, "ball", "basket", "box", "pig", "sheep"), ("table", "bench", "car", *CARRIERS)),
    "under": ((*SMALL, "ball"), ("table", "tree")),
    "behind": (BROAD, BROAD),
    "left of": (ON_GROUND, ON_GROUND),
    "above": (FLIERS, (*FLIERS, *ON_GROUND)),
}
# of a relation twin: either may be the subject. `on` and `under` trade places instead where the object is a table.
TURNING: dict[str, tuple[str, ...]] = {
    "chasing": PEOPLE + ANIMALS,
    "pulling": PULLERS,
    "left of": ON_GROUND,
    "above": FLIERS,
    "behind": BROAD,
    "on": ("dog", "cat", "sheep", "pig", "cow", "horse"),
}
UNDER_TABLE = ("cat", "rabbit", "duck", "ball", "dog")
SWAPPING = ("chasing", "pulling", "left of", "behind", "above")  # of an attribute twin


# Drafting -------------------------------------------------------------------------------------------------------------


def draft(dice: Dice, twin: str) -> Draft:
    """A scene; with `twin`, one whose main fact can be turned round ("relation") or whose colours can be exchanged."""
    names: list[str] = []
    things: list[Thing] = []

    def add(options: tuple[str, ...], size: bool = False, **look: object) -> int:
        """A thing of a kind that the scene has not yet."""
        left = [name for name in options if name not in names]
        name = dice.pick(left)
        names.append(name)
        things.append(make(dice, KINDS[name], size and name not in PEOPLE, **look))
        return len(things) - 1

    def free(options: tuple[str, ...]) -> bool:
        return any(name not in names for name in options)

    def group(predicate: str, subjects: tuple[str, ...], objects: tuple[str, ...], extras: Number) -> list[Fact]:
        sized = predicate in ("chasing", "left of", "above", "pulling", "behind")
        pose = {"chasing": "run", "riding": "sit"}.get(predicate, "stand")
        subject = add(subjects, sized, pose=pose, reaching=predicate == "holding")
        together = predicate in ("chasing", "pulling", "riding")
        object_ = add(objects, sized, pose="run" if predicate == "chasing" else "stand")
        if together:
            things[object_] = replace(things[object_], facing=things[subject].facing)
        facts = [Fact(subject, predicate, object_)]
        for person in (subject, object_):
            if names[person] not in PEOPLE or not dice.chance(extras):
                continue
            if predicate in ("wearing", "pulling", "chasing") or dice.chance(0.5):
                if "hat" not in names:
                    facts.append(Fact(person, "wearing", add(("hat",))))
            elif predicate not in ("holding", "riding", "behind", "above", "under") and free(ROLES["holding"][1]):
                things[person] = replace(things[person], look=replace(things[person].look, reaching=True))
                facts.append(Fact(person, "holding", add(("balloon", "umbrella", "flag", "flower", "ball"))))
        return facts

    if twin == "relation" and dice.chance(0.1):
        near = group(dice.pick(("on", "under")), UNDER_TABLE, ("table",), 0)
    elif twin == "relation":
        predicate = dice.pick(tuple(TURNING))
        near = group(predicate, TURNING[predicate], TURNING[predicate], 0.1)
    elif twin == "attribute":
        predicate = dice.pick(SWAPPING)
        near = group(predicate, TURNING[predicate], TURNING[predicate], 0.1)
        first, second = near[0].subject, near[0].object
        if things[first].colour == things[second].colour:
            others = [colour for colour in COLOURS if colour != things[first].colour]
            things[second] = coloured(things[second], dice.pick(others))
    else:
        predicate = dice.pick(tuple(ROLES))
        near = group(predicate, *ROLES[predicate], 0.35)
    far: list[Fact] = []
    if dice.chance(0.3) and near[0].predicate != "above":
        predicate = dice.pick(("riding", "chasing", "left of", "holding", "on"))
        if free(ROLES[predicate][0]) and free(ROLES[predicate][1]):
            far = group(predicate, *ROLES[predicate], 0.2)
    for _ in range(int(dice.pick((0, 0, 1, 1, 2)))):
        add(BACKDROPS)
    order = dice.some(list(range(len(things))), len(things))  # so that its number does not tell who does what

    def renumbered(facts: list[Fact]) -> tuple[Fact, ...]:
        return tuple(Fact(order.index(fact.subject), fact.predicate, order.index(fact.object)) for fact in facts)

    return Draft(dice.pick(SETTINGS), tuple(things[i] for i in order), renumbered(near), renumbered(far), twin)


def make(dice: Dice, kind: Kind, sized: bool, **look: object) -> Thing:
    """An individual: half have a colour usual for the kind. A size, where one is drawn, is one that can be told."""
    usual = kind.colours and dice.chance(0.5)
    colour = dice.pick(kind.colours) if usual else dice.pick(tuple(COLOURS))
    size = dice.pick(("", "", "", "small", "big")) if sized else ""
    facing = dice.pick((-1, 1))
    full = Look(COLOURS[colour], skin=dice.pick(SKINS), hair=dice.pick(HAIRS), **look)  # type: ignore[arg-type]
    return Thing(kind, colour, size, facing, full)


def coloured(thing: Thing, colour: str) -> Thing:
    return replace(thing, colour=colour, look=replace(thing.look, colour=COLOURS[colour]))


def turned(scene: Draft) -> Draft:
    """The twin: the same things, and the main fact turned round or the two colours exchanged."""
    fact, *rest = scene.near
    first, second = scene.things[fact.subject], scene.things[fact.object]
    if scene.twin == "attribute":
        things = list(scene.things)
        things[fact.subject], things[fact.object] = coloured(first, second.colour), coloured(second, first.colour)
        return replace(scene, things=tuple(things))
    if second.kind.name == "table":
        other = "under" if fact.predicate == "on" else "on"
        return replace(scene, near=(replace(fact, predicate=other), *rest))
    return replace(scene, near=(Fact(fact.object, fact.predicate, fact.subject), *rest))


# Laying out -----------------------------------------------------------------------------------------------------------


def lay_out(scene: Draft, dice: Dice, horizon: Number) -> list[Place]:
    """A place for every thing: the near group in front, the far one smaller behind it, the rest along the horizon."""
    places: dict[int, Place] = {}
    sides = dice.some((0.27, 0.73), 2)
    near_scale = dice.between(0.98, 1.12) if scene.far else dice.between(1.15, 1.35)
    places |= settle(scene, scene.near, sides[0] if scene.far else dice.between(0.3, 0.7), dice.between(168, 182),
                     near_scale, 100, dice)  # fmt: skip
    if scene.far:
        places |= settle(scene, scene.far, sides[1], horizon + dice.between(24, 34), 0.68, 50, dice)
    spots = dice.some((0.12, 0.32, 0.5, 0.68, 0.88), 5)
    for number in range(len(scene.things)):
        if number not in places:
            x = WIDTH * (spots.pop() + dice.between(-0.04, 0.04))
            ground = horizon + dice.between(3, 12)
            places[number] = Place(x, ground, dice.between(0.68, 0.8), ground - horizon)
    return [places[number] for number in range(len(scene.things))]


def settle(
    scene: Draft, facts: tuple[Fact, ...], centre: Number, ground: Number, scale: Number, depth: Number, dice: Dice
) -> dict[int, Place]:
    """The places of a group: laid out about 0, then shrunk and shifted until it is within the picture."""
    at = arrange(scene, facts, dice)
    left = min(place.x - scene.things[i].kind.width * place.scale / 2 for i, place in at.items())
    right = max(place.x + scene.things[i].kind.width * place.scale / 2 for i, place in at.items())
    high = max(scene.things[i].kind.height * place.scale - place.ground for i, place in at.items())
    scale = min(scale, (WIDTH - 14) / (right - left), (ground - 5) / high)
    x = centre * WIDTH - scale * (left + right) / 2
    x = min(max(x, 7 - scale * left), WIDTH - 7 - scale * right)
    return {
        i: replace(place, x=x + scale * place.x, ground=ground + scale * place.ground, scale=scale * place.scale,
                   depth=depth + place.depth)
        for i, place in at.items()
    }  # fmt: skip


def arrange(scene: Draft, facts: tuple[Fact, ...], dice: Dice) -> dict[int, Place]:
    """The places of a group in its own frame, its things on the ground 0 (below it is positive, as in pictures)."""
    main = facts[0]
    s, o = main.subject, main.object
    subject, object_ = scene.things[s], scene.things[o]
    ks, ko = subject.kind, object_.kind
    zs, zo = SIZES[subject.size], SIZES[object_.size]
    ws, wo = ks.width * zs, ko.width * zo
    at: dict[int, Place] = {}

    def put(i: int, x: Number, up: Number, scale: Number, depth: Number, inside: int = -1) -> None:
        at[i] = Place(x, -up, scale, depth, abs(up) < 15 and depth != 2.5 and inside < 0, inside)

    match main.predicate:
        case "left of" | "chasing" | "pulling":
            gap = dice.between(12, 24) if main.predicate != "pulling" else dice.between(24, 34)
            forward = {"left of": -1, "chasing": -object_.facing, "pulling": subject.facing}[main.predicate]
            put(s, forward * (ws + gap) / 2, dice.between(-3, 3), zs, 1)
            put(o, -forward * (wo + gap) / 2, dice.between(-3, 3), zo, 2)
        case "behind":
            put(o, 0, 0, zo, 2)
            put(s, dice.pick((-1, 1)) * dice.between(0.3, 0.42) * (ws + wo) / 2, dice.between(9, 14), zs, 1)
        case "above":
            low = dice.between(34, 46) if ko.family == "fliers" else 0
            put(o, 0, low, zo, 1)
            put(s, dice.between(-10, 10), low + ko.height * zo + dice.between(8, 16), zs, 2)
        case "on":
            x, y = ko.top or (0, ko.height)
            zs = min(zs, 0.9)
            put(o, 0, 0, zo, 1)
            put(s, object_.facing * x * zo, y * zo, zs, 2)
        case "under":
            zs = 0.8 if ko.name == "table" else 0.85
            put(o, 0, 0, 1.12, 2 if ko.name == "table" else 1)
            put(s, dice.between(-8, 8), -2 if ko.name == "tree" else 1, zs, 1 if ko.name == "table" else 2)
        case "inside":
            put(o, 0, 0, 1.1, 1)
            put(s, dice.between(-3, 3), 11, 0.8, 2, inside=o)
        case "riding":
            assert ko.seat
            put(o, 0, 0, 1, 1)
            put(s, object_.facing * ko.seat[0], ko.seat[1] - 3, 0.95, 2)
        case _:
            put(s, 0, 0, 1, 1)
    for fact in facts:
        if fact.predicate in ("holding", "wearing"):
            person, held = scene.things[fact.subject], scene.things[fact.object]
            hip = 3.0 if person.look.pose == "sit" else person.kind.legs
            body = at[fact.subject]
            neck = person.kind.height - person.kind.legs - 2 * person.kind.head - 1 + hip
            if fact.predicate == "wearing":
                x, y, z = 0.0, neck + person.kind.head * 1.55, person.kind.head / 7.4
            else:
                x, y, z = 15.0, neck - 3.5 - held.kind.grip * 0.8, 0.8
            put(fact.object, body.x + person.facing * body.scale * x, -body.ground + body.scale * y,
                body.scale * z, body.depth + 0.5)  # fmt: skip
    return at
