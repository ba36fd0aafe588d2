"""What is in a scene: its things and the facts about them, chosen at random. `scene_layout` chooses where they are.

The twin of a scene has the same things. In the main fact, the subject and the object are exchanged, or their colours.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from regard.scenes.catalogue import KINDS
from regard.scenes.kinds import COLOURS, HAIRS, SKINS, Appearance, Kind
from regard.scenes.pen import Number
from regard.scenes.predicates import BACKDROPS, PREDICATE_KINDS, TWIN_KINDS, TWIN_PREDICATES

T = TypeVar("T")

SETTINGS = ("meadow", "meadow", "beach", "snow", "street", "night")
REGIONS = 8  # the most things of a scene: two groups of two, each of which may carry or wear one more


class SceneRandom:
    """The random choices of one image, from a counter-based generator, so that no image depends on another.

    `key` is the seed, the number of the split, the row of the image and the number of a stream.
    """

    def __init__(self, *key: int) -> None:
        seed, split, row, stream = key
        bits = np.random.Philox(key=[seed, split], counter=[0, 0, stream, row])
        self.uniform = np.random.Generator(bits).random

    def chance(self, probability: Number) -> bool:
        return self.uniform() < probability

    def between(self, low: Number, high: Number) -> float:
        return low + (high - low) * self.uniform()

    def pick(self, options: "tuple[T, ...] | list[T]") -> T:
        return options[int(self.uniform() * len(options))]

    def sample(self, options: "tuple[T, ...] | list[T]", count: int) -> list[T]:
        """Return `count` different options in random order."""
        left = list(options)
        return [left.pop(int(self.uniform() * len(left))) for _ in range(count)]


@dataclass(frozen=True)
class Thing:
    kind: Kind
    colour: str
    size: str  # "small", "big", or "" for neither
    facing: int  # 1: right, -1: left
    appearance: Appearance


@dataclass(frozen=True)
class Fact:
    """A relation between two things, which are given by their position in the list of things."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Scene:
    """A near and a far group of things, given by their facts, the main fact first. Other things are the background."""

    setting: str
    things: tuple[Thing, ...]
    near: tuple[Fact, ...]
    far: tuple[Fact, ...] = ()
    twin: str = ""  # how its twin differs: "relation" or "attribute"; "" if it has no twin

    @property
    def facts(self) -> tuple[Fact, ...]:
        return self.near + self.far


# Choosing what is in a scene ------------------------------------------------------------------------------------------


def random_scene(rng: SceneRandom, twin: str) -> Scene:
    """Return a random scene. `twin` says how its twin will differ ("relation" or "attribute"); "" is for no twin."""
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
    numbers = list(range(len(builder.things)))
    order = rng.sample(numbers, len(numbers))  # shuffled, so that a thing's number does not show its role

    def renumbered(facts: list[Fact]) -> tuple[Fact, ...]:
        return tuple(Fact(order.index(fact.subject), fact.predicate, order.index(fact.object)) for fact in facts)

    things = tuple(builder.things[i] for i in order)
    return Scene(rng.pick(SETTINGS), things, renumbered(near), renumbered(far), twin)


class SceneBuilder:
    """Chooses the things of a scene, each of another kind."""

    def __init__(self, rng: SceneRandom) -> None:
        self.rng = rng
        self.things: list[Thing] = []

    def add(self, options: tuple[str, ...], sized: bool = False, **appearance: object) -> int:
        """Add a thing of a kind that is not present yet, and return its number.

        Half of the things have a usual colour of their kind, the others any colour. With `sized`, some are small or
        big, but people never are. `appearance` gives further fields of Appearance.
        """
        rng, present = self.rng, [thing.kind.name for thing in self.things]
        kind = KINDS[rng.pick([name for name in options if name not in present])]
        colour = rng.pick(kind.colours if kind.colours and rng.chance(0.5) else tuple(COLOURS))
        size = rng.pick(("", "", "", "small", "big")) if sized and kind.family != "people" else ""
        # mypy cannot check `appearance`: its values have several types.
        complete = Appearance(COLOURS[colour], skin=rng.pick(SKINS), hair=rng.pick(HAIRS), **appearance)  # type: ignore[arg-type]
        self.things.append(Thing(kind, colour, size, rng.pick((-1, 1)), complete))
        return len(self.things) - 1

    def group(self, predicate: str, subjects: tuple[str, ...], objects: tuple[str, ...], extras: Number) -> list[Fact]:
        """Add two things that `predicate` relates, and return their facts.

        `extras` is the probability that a person among them gets one more thing: a hat or, if the predicate is "left
        of", perhaps something in the hand.
        """
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
        """Add a group whose twin differs in its relation or in its attributes, and return its facts."""
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
    """Return whether both things of a fact are in the sky."""
    return fact.predicate == "above" and things[fact.object].kind.family == "fliers"


def recolour(thing: Thing, colour: str) -> Thing:
    return replace(thing, colour=colour, appearance=replace(thing.appearance, colour=COLOURS[colour]))


def make_twin(scene: Scene) -> Scene:
    """Return the twin of a scene: the subject and the object of the main fact are exchanged, or their colours.

    For something on or under a table, the predicate is replaced by the other one.
    """
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
