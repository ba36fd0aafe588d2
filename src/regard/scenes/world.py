"""What is in a scene, what its things do to each other, and where they stand: drafted by dice, then laid out.

A draft says who and what; a layout says where. A twin is the same draft with its main fact turned round.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from regard.scenes.catalogue import KINDS
from regard.scenes.kinds import COLOURS, HAIRS, HAND, SEATED_HIP, SKINS, Kind, Look
from regard.scenes.pen import WIDTH, Number, Point

T = TypeVar("T")

PREDICATES = (
    "none", "riding", "holding", "wearing", "chasing", "pulling", "inside", "on", "under", "behind", "left of", "above",
)  # fmt: skip
SETTINGS = ("meadow", "meadow", "beach", "snow", "street", "night")
REGIONS = 8  # no scene has more things: two groups of two, each with two things in hand or on the head
HILLS = 18  # how far a hill may rise above the horizon
SIZES = {"": 1.0, "small": 0.65, "big": 1.45}


class Dice:
    """The choices of one image, from a counter-based generator: no image depends on another."""

    def __init__(self, *key: int) -> None:
        seed, split, counter, stream = key
        bits = np.random.Philox(key=[seed, split], counter=[0, 0, stream, counter])
        self.random = np.random.Generator(bits).random

    def chance(self, probability: Number) -> bool:
        return self.random() < probability

    def between(self, low: Number, high: Number) -> float:
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
# of twins: either may be the subject
TURNING: dict[str, tuple[str, ...]] = {
    "chasing": PEOPLE + ANIMALS,
    "left of": ON_GROUND,
    "pulling": PULLERS,
    "above": FLIERS,
    "behind": BROAD,
    "on": ("dog", "cat", "sheep", "pig", "cow", "horse"),
    "on or under": (*SMALL, "ball"),  # a table, which stays where it is
}
# How often: most where a thing's own crop does not tell its part; little where it must, as they overlap
TURNED = ("chasing", "left of", "pulling", "above") * 5 + ("behind", "on", "on or under")


# Drafting -------------------------------------------------------------------------------------------------------------


def draft(dice: Dice, twin: str) -> Draft:
    """A scene; with `twin`, one whose main fact can be turned round ("relation") or whose colours can be exchanged."""
    cast = Cast(dice)
    if twin:
        near = cast.turning_group(twin)
    else:
        predicate = dice.pick(tuple(ROLES))
        near = cast.group(predicate, *ROLES[predicate], 0.35)
    far: list[Fact] = []
    if dice.chance(0.45):
        predicate = dice.pick(("riding", "chasing", "left of", "holding", "on"))
        far = cast.group(predicate, *ROLES[predicate], 0.2)
    if not aloft(near[0], cast.things):
        for _ in range(dice.pick((0, 1, 1, 2))):
            if len(cast.things) < REGIONS:
                cast.add(BACKDROPS)
    order = dice.some(list(range(len(cast.things))), len(cast.things))  # so that its number tells no part

    def renumbered(facts: list[Fact]) -> tuple[Fact, ...]:
        return tuple(Fact(order.index(fact.subject), fact.predicate, order.index(fact.object)) for fact in facts)

    things = tuple(cast.things[i] for i in order)
    return Draft(dice.pick(SETTINGS), things, renumbered(near), renumbered(far), twin)


class Cast:
    """The things of a scene as they are chosen, each of another kind."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.things: list[Thing] = []

    def add(self, options: tuple[str, ...], sized: bool = False, **look: object) -> int:
        """One more thing, of a kind that is not there yet; half have a colour usual for their kind."""
        dice, present = self.dice, [thing.kind.name for thing in self.things]
        kind = KINDS[dice.pick([name for name in options if name not in present])]
        colour = dice.pick(kind.colours if kind.colours and dice.chance(0.5) else tuple(COLOURS))
        size = dice.pick(("", "", "", "small", "big")) if sized and kind.family != "people" else ""
        # Settings come by keyword, and are of several types.
        full = Look(COLOURS[colour], skin=dice.pick(SKINS), hair=dice.pick(HAIRS), **look)  # type: ignore[arg-type]
        self.things.append(Thing(kind, colour, size, dice.pick((-1, 1)), full))
        return len(self.things) - 1

    def group(self, predicate: str, subjects: tuple[str, ...], objects: tuple[str, ...], extras: Number) -> list[Fact]:
        """Two things and what is between them; a person may have a hat on or something in hand."""
        sized = predicate in ("chasing", "left of", "above", "pulling", "behind")
        pose = {"chasing": "run", "riding": "sit"}.get(predicate, "stand")
        subject = self.add(subjects, sized, pose=pose, reaching=predicate == "holding")
        object_ = self.add(objects, sized, pose="run" if predicate == "chasing" else "stand")
        if predicate in ("chasing", "pulling", "riding"):
            self.things[object_] = replace(self.things[object_], facing=self.things[subject].facing)
        facts = [Fact(subject, predicate, object_)]
        for person in (subject, object_):
            if self.things[person].kind.family != "people" or not self.dice.chance(extras):
                continue
            if predicate == "left of" and self.dice.chance(0.5):
                look = replace(self.things[person].look, reaching=True)
                self.things[person] = replace(self.things[person], look=look)
                facts.append(Fact(person, "holding", self.add(ROLES["holding"][1])))
            elif all(thing.kind.name != "hat" for thing in self.things):
                facts.append(Fact(person, "wearing", self.add(("hat",))))
        return facts

    def turning_group(self, twin: str) -> list[Fact]:
        """A group that has a twin of that sort."""
        predicate = self.dice.pick(TURNED)
        while twin == "attribute" and predicate == "on or under":
            predicate = self.dice.pick(TURNED)
        if predicate == "on or under":
            return self.group(self.dice.pick(("on", "under")), TURNING[predicate], ("table",), 0)
        facts = self.group(predicate, TURNING[predicate], TURNING[predicate], 0.1)
        first, second = facts[0].subject, facts[0].object
        if twin == "attribute" and self.things[first].colour == self.things[second].colour:
            others = [colour for colour in COLOURS if colour != self.things[first].colour]
            self.things[second] = coloured(self.things[second], self.dice.pick(others))
        return facts


def aloft(fact: Fact, things: "list[Thing] | tuple[Thing, ...]") -> bool:
    """Whether both are in the sky."""
    return fact.predicate == "above" and things[fact.object].kind.family == "fliers"


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
    if fact.predicate in ("on", "under") and second.kind.name == "table":
        other = "under" if fact.predicate == "on" else "on"
        return replace(scene, near=(replace(fact, predicate=other), *rest))
    return replace(scene, near=(Fact(fact.object, fact.predicate, fact.subject), *rest))


# Laying out -----------------------------------------------------------------------------------------------------------


def lay_out(scene: Draft, dice: Dice, horizon: Number) -> list[Place]:
    """A place for every thing: the near group in front, the far one smaller behind it, the rest along the horizon.

    Where the near group is in the sky, the far one has the ground to itself.
    """
    left, right = dice.some((0.27, 0.73), 2)
    alone = dice.between(0.3, 0.7)
    fore, back, full = dice.between(168, 182), horizon + dice.between(24, 34), dice.between(1.1, 1.4)
    if aloft(scene.near[0], scene.things):
        near = alone, Room(4, horizon - HILLS, full, 0)
        far = 1 - alone, Room(horizon - HILLS / 2, fore, full, 100)
    else:
        near = (left, Room(5, fore, min(full, 1.15), 100)) if scene.far else (alone, Room(5, fore, full, 100))
        far = right, Room(5, back, 0.7, 50)

    places: dict[int, Place] = {}
    grouped = {i for fact in scene.facts for i in (fact.subject, fact.object)}
    spots = dice.some((0.12, 0.32, 0.5, 0.68, 0.88), 5)
    for number in sorted(set(range(len(scene.things))) - grouped):
        x = WIDTH * (spots.pop() + dice.between(-0.04, 0.04))
        ground = horizon + dice.between(3, 12)
        places[number] = Place(x, ground, dice.between(0.68, 0.8), ground - horizon)
    places |= settle(scene, scene.far, *far, dice)
    places |= settle(scene, scene.near, *near, dice)  # last, for its throws may be others in a twin
    return [places[number] for number in range(len(scene.things))]


@dataclass(frozen=True)
class Room:
    """What a group may fill: from `ceiling` to `ground`, at `scale` if it then fits."""

    ceiling: Number
    ground: Number
    scale: Number
    depth: Number


def settle(scene: Draft, facts: tuple[Fact, ...], centre: Number, room: Room, dice: Dice) -> dict[int, Place]:
    """The places of a group: laid out about 0, then shrunk and shifted until it is within its room."""
    if not facts:
        return {}
    at = arrange(scene, facts, dice)
    left = min(place.x - scene.things[i].kind.width * place.scale / 2 for i, place in at.items())
    right = max(place.x + scene.things[i].kind.width * place.scale / 2 for i, place in at.items())
    high = max(scene.things[i].kind.height * place.scale - place.ground for i, place in at.items())
    scale = min(room.scale, (WIDTH - 14) / (right - left), (room.ground - room.ceiling) / high)
    x = min(max(centre * WIDTH - scale * (left + right) / 2, 7 - scale * left), WIDTH - 7 - scale * right)

    def settled(place: Place) -> Place:
        return replace(place, x=x + scale * place.x, ground=room.ground + scale * place.ground,
                       scale=scale * place.scale, depth=room.depth + place.depth)  # fmt: skip

    return {i: settled(place) for i, place in at.items()}


def arrange(scene: Draft, facts: tuple[Fact, ...], dice: Dice) -> dict[int, Place]:
    """The places of a group in its own frame, where the ground is 0 and, as in pictures, what is higher is less."""
    main = facts[0]
    s, o = main.subject, main.object
    subject, object_ = scene.things[s], scene.things[o]
    scale_s, scale_o = SIZES[subject.size], SIZES[object_.size]
    width_s, width_o = subject.kind.width * scale_s, object_.kind.width * scale_o
    at: dict[int, Place] = {}
    match main.predicate:
        case "left of" | "chasing" | "pulling":
            gap = dice.between(26, 36) if main.predicate == "pulling" else dice.between(12, 24)
            side = {"left of": -1, "chasing": -object_.facing, "pulling": subject.facing}[main.predicate]
            at[s] = Place(side * (width_s + gap) / 2, dice.between(-3, 3), scale_s, 1)
            at[o] = Place(-side * (width_o + gap) / 2, dice.between(-3, 3), scale_o, 2)
        case "behind":
            aside = dice.pick((-1, 1)) * dice.between(0.3, 0.42) * (width_s + width_o) / 2
            at[s] = Place(aside, -dice.between(9, 14), scale_s, 1)
            at[o] = Place(0, 0, scale_o, 2)
        case "above":
            up = object_.kind.height * scale_o + dice.between(8, 16)
            at[s] = Place(dice.between(-12, 12), -up, scale_s, 2, stands=False)
            at[o] = Place(0, 0, scale_o, 1, stands=object_.kind.family != "fliers")
        case "on":
            x, up = on_top(object_)
            at[s] = Place(x * scale_o, -up * scale_o, 0.9, 2, stands=False)
            at[o] = Place(0, 0, scale_o, 1)
        case "under":
            hidden = object_.kind.name == "table"  # by its legs
            at[s] = Place(dice.between(-8, 8), -1 if hidden else 2, 0.8, 1 if hidden else 2)
            at[o] = Place(0, 0, 1.1, 2 if hidden else 1)
        case "inside":
            up = max(11, 24 - 0.4 * subject.kind.height)  # what is low lies high, so that it is seen
            at[s] = Place(dice.between(-3, 3), -up, 0.8, 2, stands=False, inside=o)
            at[o] = Place(0, 0, 1.1, 1)
        case "riding":
            x, up = on_top(object_)
            at[s] = Place(x, 3 - up, 0.95, 2, stands=False)
            at[o] = Place(0, 0, 1, 1)
        case "holding" | "wearing":
            at[s] = Place(0, 0, 1, 1)
    for fact in facts:
        if fact.predicate in ("holding", "wearing"):
            at[fact.object] = carried(scene.things[fact.subject], at[fact.subject], scene.things[fact.object])
    return at


def on_top(thing: Thing) -> Point:
    assert thing.kind.top
    x, up = thing.kind.top
    return thing.facing * x, up


def carried(person: Thing, place: Place, item: Thing) -> Place:
    """Where a hat is on the head of a person in that place, or anything else in the hand."""
    kind = person.kind
    hip = SEATED_HIP if person.look.pose == "sit" else kind.legs
    neck = hip + kind.height - kind.legs - 2 * kind.head - 1
    if item.kind.name == "hat":
        x, up, scale = 0.0, neck + kind.head * 1.55, kind.head / 7.4
    else:
        x, up, scale = HAND, neck - 3.5 - item.kind.grip * 0.8, 0.8
    return Place(place.x + person.facing * x * place.scale, place.ground - up * place.scale, scale * place.scale,
                 place.depth + 0.5, stands=False)  # fmt: skip
