"""Compute where the things of a scene are drawn, and how large."""

from dataclasses import dataclass, replace

from regard.scenes.kinds import HAND, SEATED_HIP
from regard.scenes.pen import WIDTH, Number, Point
from regard.scenes.scene import Fact, Scene, SceneRandom, Thing, is_in_sky

HILLS = 18  # how far a hill may rise above the horizon
SIZES = {"": 1.0, "small": 0.65, "big": 1.45}  # scales


@dataclass(frozen=True)
class Place:
    """The position and scale of a thing. It stands at (x, ground), in pixels from the top left of the picture."""

    x: Number
    ground: Number
    scale: Number
    depth: Number  # things of larger depth are nearer and drawn later
    stands: bool = True  # on the ground, where it has a shadow
    inside: int = -1  # the number of the container whose front hides it; -1 if none


def lay_out(scene: Scene, rng: SceneRandom, horizon: Number) -> list[Place]:
    """Return the place of each thing: the near group in front, the far group smaller and behind, others at the horizon.

    If the near group is in the sky, the far group has the whole ground.
    """
    left, right = rng.sample((0.27, 0.73), 2)
    alone = rng.between(0.3, 0.7)
    fore, back, full = rng.between(168, 182), horizon + rng.between(24, 34), rng.between(1.1, 1.4)
    if is_in_sky(scene.near[0], scene.things):
        near = alone, Room(4, horizon - HILLS, full, 0)
        far = 1 - alone, Room(horizon - HILLS / 2, fore, full, 100)
    else:
        near = (left, Room(5, fore, min(full, 1.15), 100)) if scene.far else (alone, Room(5, fore, full, 100))
        far = right, Room(5, back, 0.7, 50)

    places: dict[int, Place] = {}
    grouped = {i for fact in scene.facts for i in (fact.subject, fact.object)}
    spots = rng.sample((0.12, 0.32, 0.5, 0.68, 0.88), 5)
    for number in sorted(set(range(len(scene.things))) - grouped):
        x = WIDTH * (spots.pop() + rng.between(-0.04, 0.04))
        ground = horizon + rng.between(3, 12)
        places[number] = Place(x, ground, rng.between(0.68, 0.8), ground - horizon)
    places |= place_group(scene, scene.far, *far, rng)
    places |= place_group(scene, scene.near, *near, rng)  # last, because it may use other random numbers in a twin
    return [places[number] for number in range(len(scene.things))]


@dataclass(frozen=True)
class Room:
    """The space of a group: from `ceiling` to `ground`, both y in pixels. `scale` is the largest scale of the group."""

    ceiling: Number
    ground: Number
    scale: Number
    depth: Number


def place_group(
    scene: Scene, facts: tuple[Fact, ...], centre: Number, room: Room, rng: SceneRandom
) -> dict[int, Place]:
    """Return the places of a group's things: arranged around 0, then scaled and moved into the room."""
    if not facts:
        return {}
    at = arrange_group(scene, facts, rng)
    left = min(place.x - scene.things[i].kind.width * place.scale / 2 for i, place in at.items())
    right = max(place.x + scene.things[i].kind.width * place.scale / 2 for i, place in at.items())
    high = max(scene.things[i].kind.height * place.scale - place.ground for i, place in at.items())
    scale = min(room.scale, (WIDTH - 14) / (right - left), (room.ground - room.ceiling) / high)
    x = min(max(centre * WIDTH - scale * (left + right) / 2, 7 - scale * left), WIDTH - 7 - scale * right)

    def moved(place: Place) -> Place:
        return replace(place, x=x + scale * place.x, ground=room.ground + scale * place.ground,
                       scale=scale * place.scale, depth=room.depth + place.depth)  # fmt: skip

    return {i: moved(place) for i, place in at.items()}


def arrange_group(scene: Scene, facts: tuple[Fact, ...], rng: SceneRandom) -> dict[int, Place]:
    """Return the places of a group's things in a frame of its own: the ground is y = 0, and y decreases upwards."""
    main = facts[0]
    s, o = main.subject, main.object
    subject, object_ = scene.things[s], scene.things[o]
    scale_s, scale_o = SIZES[subject.size], SIZES[object_.size]
    width_s, width_o = subject.kind.width * scale_s, object_.kind.width * scale_o
    at: dict[int, Place] = {}
    match main.predicate:
        case "left of" | "chasing" | "pulling":
            gap = rng.between(26, 36) if main.predicate == "pulling" else rng.between(12, 24)
            side = {"left of": -1, "chasing": -object_.facing, "pulling": subject.facing}[main.predicate]
            at[s] = Place(side * (width_s + gap) / 2, rng.between(-3, 3), scale_s, 1)
            at[o] = Place(-side * (width_o + gap) / 2, rng.between(-3, 3), scale_o, 2)
        case "behind":
            aside = rng.pick((-1, 1)) * rng.between(0.3, 0.42) * (width_s + width_o) / 2
            at[s] = Place(aside, -rng.between(9, 14), scale_s, 1)
            at[o] = Place(0, 0, scale_o, 2)
        case "above":
            up = object_.kind.height * scale_o + rng.between(8, 16)
            at[s] = Place(rng.between(-12, 12), -up, scale_s, 2, stands=False)
            at[o] = Place(0, 0, scale_o, 1, stands=object_.kind.family != "fliers")
        case "on":
            x, up = top_of(object_)
            at[s] = Place(x * scale_o, -up * scale_o, 0.9, 2, stands=False)
            at[o] = Place(0, 0, scale_o, 1)
        case "under":
            is_behind = object_.kind.name == "table"  # behind the legs of the table
            at[s] = Place(rng.between(-8, 8), -1 if is_behind else 2, 0.8, 1 if is_behind else 2)
            at[o] = Place(0, 0, 1.1, 2 if is_behind else 1)
        case "inside":
            up = max(11, 24 - 0.4 * subject.kind.height)  # flat things are higher, so that they are visible
            at[s] = Place(rng.between(-3, 3), -up, 0.8, 2, stands=False, inside=o)
            at[o] = Place(0, 0, 1.1, 1)
        case "riding":
            x, up = top_of(object_)
            at[s] = Place(x, 3 - up, 0.95, 2, stands=False)
            at[o] = Place(0, 0, 1, 1)
        case "holding" | "wearing":
            at[s] = Place(0, 0, 1, 1)
    for fact in facts:
        if fact.predicate in ("holding", "wearing"):
            at[fact.object] = carried_place(scene.things[fact.subject], at[fact.subject], scene.things[fact.object])
    return at


def top_of(thing: Thing) -> Point:
    """Return where something on a thing stands: x in pixels to the right at scale 1, and the height."""
    assert thing.kind.top
    x, up = thing.kind.top
    return thing.facing * x, up


def carried_place(person: Thing, place: Place, item: Thing) -> Place:
    """Return the place of a hat on a person's head, or of another item in the hand. The person is at `place`."""
    kind = person.kind
    hip = SEATED_HIP if person.appearance.pose == "sit" else kind.legs
    neck = hip + kind.height - kind.legs - 2 * kind.head - 1
    if item.kind.name == "hat":
        x, up, scale = 0.0, neck + kind.head * 1.55, kind.head / 7.4
    else:
        x, up, scale = HAND, neck - 3.5 - item.kind.grip * 0.8, 0.8
    return Place(place.x + person.facing * x * place.scale, place.ground - up * place.scale, scale * place.scale,
                 place.depth + 0.5, stands=False)  # fmt: skip
