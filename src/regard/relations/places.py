"""Relations of place between the boxes of an image, and sentences that state them. Only what is beyond doubt.

A relation is stated of two boxes only if a viewer would not argue about it; every other pair has none. Therefore the
relations, and the sentences, of an image and of its mirror image are exact.
"""

import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

# Predicate k of (subject, object); 0 is none. The predicate of (object, subject) is CONVERSE[k], that of the same pair
# in the mirror image is MIRRORED[k].
PREDICATES = ("none", "left of", "right of", "above", "below", "inside", "around", "larger than", "smaller than")
CONVERSE = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7])
MIRRORED = np.array([0, 2, 1, 3, 4, 5, 6, 7, 8])
LEFT, RIGHT, ABOVE, BELOW, INSIDE, AROUND, LARGER, SMALLER = range(1, 9)

MIN_OFFSET = 0.15  # between two centres, in fractions of the image
MIN_SLOPE = 1.2  # the offset along one axis over that along the other
MAX_SHARED = 0.5  # of the smaller box that lies in the other one, of things side by side
MIN_INSIDE = 0.95  # of the smaller box that lies in the other one, of a thing inside another
MIN_RATIO = 2.0  # of the areas of two boxes

# How a predicate is stated. Regard's own parser finds the subject and the object in each form.
FORMS = {
    LEFT: ("{} is left of {}", "{} is to the left of {}", "there is {} to the left of {}"),
    RIGHT: ("{} is right of {}", "{} is to the right of {}", "there is {} to the right of {}"),
    ABOVE: ("{} is above {}", "there is {} above {}", "the picture shows {} above {}"),
    BELOW: ("{} is below {}", "there is {} below {}", "the picture shows {} below {}"),
    INSIDE: ("{} is inside {}", "there is {} inside {}", "the picture shows {} inside {}"),
    LARGER: ("{} is larger than {}", "there is {} larger than {}"),
    SMALLER: ("{} is smaller than {}", "there is {} smaller than {}"),
}

Fact = tuple[int, int, int]  # subject, predicate, object


def places(boxes: Float[np.ndarray, "region 4"]) -> Int[np.ndarray, "region region"]:
    """Return the predicate of each (subject, object), or 0: left of, right of, above, below, inside or around.

    inside: at least MIN_INSIDE of the subject lies in the object, which is MIN_RATIO times as large. left of: the two
    centres differ by MIN_OFFSET in x and MIN_SLOPE times as much as in y, both vertical edges of the subject are left
    of the object's, and at most MAX_SHARED of the smaller box is covered. The others likewise. A box without area has
    no relations.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    smaller = np.minimum(area[:, None], area)
    real = smaller > 0
    shared = intersections(boxes) / np.where(real, smaller, 1)
    offset = (boxes[None, :, :2] + boxes[None, :, 2:] - boxes[:, None, :2] - boxes[:, None, 2:]) / 2
    # Both edges of the object are beyond those of the subject, along x and along y.
    beyond = (boxes[None, :, :2] > boxes[:, None, :2]) & (boxes[None, :, 2:] > boxes[:, None, 2:])
    steep = np.abs(offset) >= MIN_SLOPE * np.abs(offset[..., ::-1])
    clear = beyond & steep & (offset >= MIN_OFFSET) & (real & (shared <= MAX_SHARED))[..., None]
    out = np.zeros((len(boxes), len(boxes)), np.int64)
    for one, found in (
        (LEFT, clear[..., 0]),
        (ABOVE, clear[..., 1]),
        (INSIDE, real & (shared >= MIN_INSIDE) & _is_larger(area).T),
    ):
        out[found], out[found.T] = one, CONVERSE[one]
    return out


def intersections(boxes: Float[np.ndarray, "region 4"]) -> Float[np.ndarray, "region region"]:
    """Return the area that each two boxes share."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return (high - low).clip(0).prod(-1)


def relations(boxes: Float[np.ndarray, "region 4"]) -> Int[np.ndarray, "region region"]:
    """Return `places`, and larger than or smaller than for pairs that have no relation of place."""
    out = places(boxes)
    sizes = compared(boxes)
    return np.where(out > 0, out, sizes)


def triples_of(
    image: int, boxes: Float[np.ndarray, "region 4"], is_thing: Bool[np.ndarray, " region"]
) -> Int[np.ndarray, "relation 4"]:
    """Return the `relations` between the things of an image as rows (image, subject, object, predicate)."""
    things = np.flatnonzero(is_thing)
    label = relations(boxes[things])
    subject, other = label.nonzero()
    columns = [np.full(len(subject), image), things[subject], things[other], label[subject, other]]
    return np.stack(columns, 1).astype(np.int32)


def compared(boxes: Float[np.ndarray, "region 4"]) -> Int[np.ndarray, "region region"]:
    """Return larger than or smaller than for each (subject, object) whose areas differ by MIN_RATIO, or else 0."""
    larger = _is_larger((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1))
    return np.where(larger, LARGER, np.where(larger.T, SMALLER, 0))


def _is_larger(area: Float[np.ndarray, " region"]) -> Bool[np.ndarray, "region region"]:
    return (area[:, None] >= MIN_RATIO * area) & (area > 0)


def mirrored(boxes: Float[np.ndarray, "*item 4"]) -> Float[np.ndarray, "*item 4"]:
    """Return the boxes in the mirror image, in which left and right are exchanged."""
    out = boxes.copy()
    out[..., 0], out[..., 2] = 1 - boxes[..., 2], 1 - boxes[..., 0]
    return out


def facts_of(
    boxes: Float[np.ndarray, "region 4"],
    labels: Int[np.ndarray, " region"],
    scores: Float[np.ndarray, " region"],
    sure: float,
) -> tuple[list[Fact], list[Fact]]:
    """Return the facts about an image that a sentence can state: those of left and right, and the others.

    Only things with a score of at least `sure` are named, and only if no other region with half that score has their
    class: "a dog" is then one dog. Both directions of a pair are facts. Who is larger is a fact beside a place.
    """
    counted = np.flatnonzero((labels > 0) & (scores >= sure / 2))
    alone = [r for r in counted if scores[r] >= sure and (labels[counted] == labels[r]).sum() == 1]
    of_place, of_size = places(boxes[alone]), compared(boxes[alone])
    sides, others = list[Fact](), list[Fact]()
    for i, subject in enumerate(alone):
        for j, other in enumerate(alone):
            for predicate in (int(of_place[i, j]), int(of_size[i, j])):
                if predicate in (0, AROUND):
                    continue
                facts = sides if predicate in (LEFT, RIGHT) else others
                facts.append((int(subject), predicate, int(other)))
    return sides, others


def state(
    facts: Sequence[Fact],
    names: Sequence[str],
    count: int,
    seed: str,
    in_twin: Int[np.ndarray, " predicate"] = MIRRORED,
) -> list[tuple[str, str]]:
    """Return at most `count` different sentences about facts, each with the sentence about the twin of the image.

    `names` are those of the regions, `in_twin` is what each predicate is in the twin: by default in the mirror image.
    All facts are stated once before one is stated again in another form. The choice depends on `seed` only.
    """
    chance = random.Random(seed)
    facts = chance.sample(facts, len(facts))
    start = [chance.randrange(len(FORMS[predicate])) for _, predicate, _ in facts]
    out = []
    for number in range(count if facts else 0):
        turn, place = divmod(number, len(facts))
        subject, predicate, other = facts[place]
        forms = len(FORMS[predicate])
        if turn < forms:
            form = (start[place] + turn) % forms
            both = (FORMS[p][form].format(_one(names[subject]), _one(names[other]))
                    for p in (predicate, int(in_twin[predicate])))  # fmt: skip
            out.append((next(both), next(both)))
    return out


def _one(name: str) -> str:
    """A name with its article."""
    name = name.replace("_", " ").strip()
    return f"{'an' if name[:1].lower() in set('aeiou') else 'a'} {name}"
