"""Write the sentences of a scene. Each states the main fact; some add colours, another fact or the setting."""

from regard.scenes.scene import Scene, SceneRandom, Thing

PER_IMAGE = 5

# {s} and {o} are noun phrases for the subject and the object of the fact: "a big red dog", "a man in blue".
FORMS: dict[str, tuple[str, ...]] = {
    "riding": (
        "{s} is riding {o}", "{s} rides {o}", "{s} riding {o}", "there is {s} riding {o}", "{o} is ridden by {s}",
        "{o} carries {s}", "{s} sits on {o}", "{o} with {s} riding it",
    ),
    "holding": (
        "{s} is holding {o}", "{s} holds {o}", "{s} holding {o}", "there is {s} with {o} in hand",
        "{o} is held by {s}", "{s} carries {o}", "{o} in the hand of {s}",
    ),
    "wearing": (
        "{s} is wearing {o}", "{s} wears {o}", "{s} wearing {o}", "there is {s} with {o} on the head",
        "{o} is worn by {s}", "{o} on the head of {s}", "{s} has {o} on",
    ),
    "chasing": (
        "{s} is chasing {o}", "{s} chases {o}", "{s} chasing {o}", "{s} runs after {o}", "{o} is chased by {s}",
        "{o} runs away from {s}", "there is {o} chased by {s}", "{o} flees from {s}", "{s} is running after {o}",
    ),
    "pulling": (
        "{s} is pulling {o}", "{s} pulls {o}", "{s} pulling {o}", "{o} is pulled by {s}", "there is {o} pulled by {s}",
        "{s} tows {o} with a rope", "{o} is towed by {s}", "{s} drags {o} along",
    ),
    "inside": (
        "{s} is inside {o}", "{s} sits in {o}", "{s} inside {o}", "there is {s} in {o}", "{o} holds {s}",
        "{o} with {s} in it", "{o} contains {s}",
    ),
    "on": (
        "{s} is on {o}", "{s} rests on {o}", "{s} on top of {o}", "there is {s} on {o}", "{o} with {s} on it",
        "{o} is under {s}", "{o} has {s} on top",
    ),
    "under": (
        "{s} is under {o}", "{s} underneath {o}", "{s} below {o}", "there is {s} under {o}", "{o} with {s} under it",
        "{o} is above {s}", "{o} over {s}",
    ),
    "behind": (
        "{s} is behind {o}", "{s} stands behind {o}", "{s} behind {o}", "{o} is in front of {s}", "{o} in front of {s}",
        "there is {o} in front of {s}", "{o} partly hides {s}", "{s} is partly hidden by {o}",
    ),
    "left of": (
        "{s} is to the left of {o}", "{o} is to the right of {s}", "{s} on the left and {o} on the right",
        "there is {s} left of {o}", "{o} right of {s}", "on the right is {o} and on the left is {s}",
        "{s} stands left of {o}", "{o} stands to the right of {s}",
    ),
    "above": (
        "{s} is above {o}", "{s} flies above {o}", "{s} flying over {o}", "{o} is below {s}", "there is {s} above {o}",
        "{o} beneath {s}", "{s} over {o}", "there is {o} below {s}",
    ),
}  # fmt: skip
SETTINGS: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on the grass"),
    "beach": ("on the beach", "on the sand"),
    "snow": ("in the snow",),
    "street": ("on the street", "on the road"),
    "night": ("at night", "in the dark"),
}
SIZES = {"small": ("small", "little"), "big": ("big", "large")}


def sentences(scene: Scene, rng: SceneRandom) -> list[str]:
    """Return PER_IMAGE sentences. All are different, because each uses another form for the main fact."""
    return [sentence(scene, form, rng) for form in rng.sample(FORMS[scene.facts[0].predicate], PER_IMAGE)]


def sentence(scene: Scene, form: str, rng: SceneRandom) -> str:
    """Return the main fact in `form`, at random with another fact, a thing in the background or the setting."""
    main, *others = scene.facts
    names = [name_of(thing, rng) for thing in scene.things]

    def phrase(i: int, coloured: bool = False) -> str:
        return noun_phrase(scene.things[i], names[i], rng, coloured)

    words = form.format(
        s=phrase(main.subject, scene.twin == "attribute"), o=phrase(main.object, scene.twin == "attribute")
    )
    related = {i for fact in scene.facts for i in (fact.subject, fact.object)}
    backdrops = [i for i in range(len(scene.things)) if i not in related]
    setting = rng.pick(SETTINGS[scene.setting])
    more = rng.uniform()
    if others and more < 0.45:
        fact = rng.pick(others)
        known = fact.subject in (main.subject, main.object)
        subject = f"the {names[fact.subject]}" if known else phrase(fact.subject)
        return f"{words} and {rng.pick(FORMS[fact.predicate][:2]).format(s=subject, o=phrase(fact.object))}"
    if backdrops and more < 0.6:
        return f"{words} with {phrase(rng.pick(backdrops))} in the background"
    if more > 0.85:
        return f"{setting} {words}"
    return f"{words} {setting}" if more > 0.7 else words


def name_of(thing: Thing, rng: SceneRandom) -> str:
    names = thing.kind.names
    return names[0] if rng.chance(0.75) else rng.pick(names)


def noun_phrase(thing: Thing, name: str, rng: SceneRandom, coloured: bool) -> str:
    """Return a noun phrase that is true of a thing. It always contains the colour if `coloured`, otherwise often."""
    size = rng.pick(SIZES[thing.size]) if thing.size and rng.chance(0.7) else ""
    colour = thing.colour if coloured or rng.chance(0.65) else ""
    if thing.kind.family == "people":
        return article(f"{name} in {colour}" if colour else name)
    return article(" ".join(word for word in (size, colour, name) if word))


def article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
