"""What is in a scene, what its things do to each other, and where they stand: scene_of_row by rng, then laid out.

A draft says who and what; a layout says where. A twin is the same draft with its main fact turned round.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from regard.scenes.catalogue import KINDS
from regard.scenes.kinds import COLOURS, HAIRS, SKINS, Appearance, Kind
from regard.scenes.pen import Number

T = TypeVar("T")

PREDICATES = (
    "none", "riding", "holding", "wearing", "chasing", "pulling", "inside", "on", "under", "behind", "left of", "above",
)  # fmt: skip
SETTINGS = ("meadow", "meadow", "beach", "snow", "street", "night")
REGIONS = 8  # no scene has more things: two groups of two, each with two things in hand or on the head


class SceneRandom:
    """The choices of one image, from a counter-based generator: no image depends on another."""

    def __init__(self, *key: int) -> None:
        seed, split, counter, stream = key
        bits = np.random.Philox(key=[seed, split], counter=[0, 0, stream, counter])
        self.uniform = np.random.Generator(bits).random

    def chance(self, probability: Number) -> bool:
        return self.uniform() < probability

    def between(self, low: Number, high: Number) -> float:
        return low + (high - low) * self.uniform()

    def pick(self, options: "tuple[T, ...] | list[T]") -> T:
        return options[int(self.uniform() * len(options))]

    def some(self, options: "tuple[T, ...] | list[T]", count: int) -> list[T]:
        """`count` of the options, in random order, none twice."""
        left = list(options)
        return [left.pop(int(self.uniform() * len(left))) for _ in range(count)]


@dataclass(frozen=True)
class Thing:
    kind: Kind
    colour: str
    size: str  # "" where nothing is to be said of it
    facing: int
    appearance: Appearance


@dataclass(frozen=True)
class Fact:
    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Scene:
    """`near` and `far` are the facts of a group each, its main fact first; other things stand in the background."""

    setting: str
    things: tuple[Thing, ...]
    near: tuple[Fact, ...]
    far: tuple[Fact, ...] = ()
    twin: str = ""  # "relation" or "attribute": how the twin differs

    @property
    def facts(self) -> tuple[Fact, ...]:
        return self.near + self.far


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
PREDICATE_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
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
TWIN_KINDS: dict[str, tuple[str, ...]] = {
    "chasing": PEOPLE + ANIMALS,
    "left of": ON_GROUND,
    "pulling": PULLERS,
    "above": FLIERS,
    "behind": BROAD,
    "on": ("dog", "cat", "sheep", "pig", "cow", "horse"),
    "on or under": (*SMALL, "ball"),  # a table, which stays where it is
}
# How often: most where a thing's own crop does not tell its part; little where it must, as they overlap
TWIN_PREDICATES = ("chasing", "left of", "pulling", "above") * 5 + ("behind", "on", "on or under")


# Drafting -------------------------------------------------------------------------------------------------------------


def random_scene(rng: SceneRandom, twin: str) -> Scene:
    """A scene; with `twin`, one whose main fact can be turned round ("relation") or whose colours can be exchanged."""
    builder = SceneBuilder(rng)
    if twin:
        near = builder.twin_group(twin)
    else:
        predicate = rng.pick(tuple(PREDICATE_KINDS))
        near = builder.group(predicate, *PREDICATE_KINDS[predicate], 0.35)
    far: list[Fact] = []
    if rng.chance(0.45):
        predicate = rng.pick(("riding", "chasing", "left of", "holding", "on"))
        far = builder.group(predicate, *PREDICATE_KINDS[predicate], 0.2)
    if not is_in_sky(near[0], builder.things):
        for _ in range(rng.pick((0, 1, 1, 2))):
            if len(builder.things) < REGIONS:
                builder.add(BACKDROPS)
    order = rng.some(list(range(len(builder.things))), len(builder.things))  # so that its number tells no part

    def renumbered(facts: list[Fact]) -> tuple[Fact, ...]:
        return tuple(Fact(order.index(fact.subject), fact.predicate, order.index(fact.object)) for fact in facts)

    things = tuple(builder.things[i] for i in order)
    return Scene(rng.pick(SETTINGS), things, renumbered(near), renumbered(far), twin)


class SceneBuilder:
    """The things of a scene as they are chosen, each of another kind."""

    def __init__(self, rng: SceneRandom) -> None:
        self.rng = rng
        self.things: list[Thing] = []

    def add(self, options: tuple[str, ...], sized: bool = False, **appearance: object) -> int:
        """One more thing, of a kind that is not there yet; half have a colour usual for their kind."""
        rng, present = self.rng, [thing.kind.name for thing in self.things]
        kind = KINDS[rng.pick([name for name in options if name not in present])]
        colour = rng.pick(kind.colours if kind.colours and rng.chance(0.5) else tuple(COLOURS))
        size = rng.pick(("", "", "", "small", "big")) if sized and kind.family != "people" else ""
        # Settings come by keyword, and are of several types.
        full = Appearance(COLOURS[colour], skin=rng.pick(SKINS), hair=rng.pick(HAIRS), **appearance)  # type: ignore[arg-type]
        self.things.append(Thing(kind, colour, size, rng.pick((-1, 1)), full))
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
            if self.things[person].kind.family != "people" or not self.rng.chance(extras):
                continue
            if predicate == "left of" and self.rng.chance(0.5):
                appearance = replace(self.things[person].appearance, reaching=True)
                self.things[person] = replace(self.things[person], appearance=appearance)
                facts.append(Fact(person, "holding", self.add(PREDICATE_KINDS["holding"][1])))
            elif all(thing.kind.name != "hat" for thing in self.things):
                facts.append(Fact(person, "wearing", self.add(("hat",))))
        return facts

    def twin_group(self, twin: str) -> list[Fact]:
        """A group that has a twin of that sort."""
        predicate = self.rng.pick(TWIN_PREDICATES)
        while twin == "attribute" and predicate == "on or under":
            predicate = self.rng.pick(TWIN_PREDICATES)
        if predicate == "on or under":
            return self.group(self.rng.pick(("on", "under")), TWIN_KINDS[predicate], ("table",), 0)
        facts = self.group(predicate, TWIN_KINDS[predicate], TWIN_KINDS[predicate], 0.1)
        first, second = facts[0].subject, facts[0].object
        if twin == "attribute" and self.things[first].colour == self.things[second].colour:
            others = [colour for colour in COLOURS if colour != self.things[first].colour]
            self.things[second] = recolour(self.things[second], self.rng.pick(others))
        return facts


def is_in_sky(fact: Fact, things: "list[Thing] | tuple[Thing, ...]") -> bool:
    """Whether both are in the sky."""
    return fact.predicate == "above" and things[fact.object].kind.family == "fliers"


def recolour(thing: Thing, colour: str) -> Thing:
    return replace(thing, colour=colour, appearance=replace(thing.appearance, colour=COLOURS[colour]))


def make_twin(scene: Scene) -> Scene:
    """The twin: the same things, and the main fact turned round or the two colours exchanged."""
    fact, *rest = scene.near
    first, second = scene.things[fact.subject], scene.things[fact.object]
    if scene.twin == "attribute":
        things = list(scene.things)
        things[fact.subject], things[fact.object] = recolour(first, second.colour), recolour(second, first.colour)
        return replace(scene, things=tuple(things))
    if fact.predicate in ("on", "under") and second.kind.name == "table":
        other = "under" if fact.predicate == "on" else "on"
        return replace(scene, near=(replace(fact, predicate=other), *rest))
    return replace(scene, near=(Fact(fact.object, fact.predicate, fact.subject), *rest))
