"""Predicates of the made world: who can do what to whom, in a scene and in a pair of twins."""

PREDICATES = (
    "none", "riding", "holding", "wearing", "chasing", "pulling", "inside", "on", "under", "behind", "left of", "above",
)  # fmt: skip

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

# The kinds that may be the subject and the object of each predicate, in a scene without a twin.
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
# The kinds that may be either, in a scene with a twin.
TWIN_KINDS: dict[str, tuple[str, ...]] = {
    "chasing": PEOPLE + ANIMALS,
    "left of": ON_GROUND,
    "pulling": PULLERS,
    "above": FLIERS,
    "behind": BROAD,
    "on": ("dog", "cat", "sheep", "pig", "cow", "horse"),
    "on or under": (*SMALL, "ball"),  # ... a table, which is the object in both twins
}
# How often each predicate is the main fact of twins. The first four are frequent, because a thing's crop does not show
# whether it is the subject or the object. The others are rare, because their things overlap, so that a crop shows it.
TWIN_PREDICATES = ("chasing", "left of", "pulling", "above") * 5 + ("behind", "on", "on or under")
