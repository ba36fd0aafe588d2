"""Sentences that are wrong about a picture in who does what: the words of a caption with two parts exchanged.

Such sentences are harder negatives than those of other images: they name the same things. Sources of the idea: ARO
(Yuksekgonul et al., ICLR 2023) and SugarCrepe (Hsieh et al., NeurIPS 2023), which also shows that many of them can be
recognised without the picture. Measure a model that sees no picture beside (`data.blind`).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from regard.words.parser import ATTRIBUTE, Parse

RELATION, ATTRIBUTES, PLACE = "relation", "attribute", "place"

# Prepositions and verbs that mean the reverse, as words in order. Longer ones are matched first.
REVERSED = {
    one: other
    for pair in (
        ("in front of", "behind"),
        ("on top of", "underneath"),
        ("to the left of", "to the right of"),
        ("left of", "right of"),
        ("on the left", "on the right"),
        ("next to", "far from"),
        ("above", "below"),
        ("over", "under"),
        ("inside", "outside"),
        ("into", "out of"),
        ("up", "down"),
        ("onto", "off"),
        ("with", "without"),
        ("toward", "away from"),
    )
    for one, other in (pair, pair[::-1])
} | {"beneath": "above", "beside": "far from", "towards": "away from"}
_LONGEST = max(len(phrase.split()) for phrase in REVERSED)


def swaps(parse: Parse) -> Iterator[tuple[str, str]]:
    """Yield wrong sentences about the same things, each with its kind.

    `relation`: the subject and the object of a relation are exchanged, with their attributes. `attribute`: the
    attributes of two things are exchanged. `place`: a preposition is replaced by its reverse. Sentences are in lower
    case without punctuation, as `tokenize` reads them. None has the same words in the same order as the caption.
    """
    words = parse.words
    for one, _, other in parse.links:
        yield from _different(RELATION, words, _exchanged(words, parse.phrase(one), parse.phrase(other)))
    described = [
        (min(own), max(own) + 1) for thing in parse.places if (own := _adjectives(parse, thing)) and _is_contiguous(own)
    ]
    for first, second in combinations(described, 2):
        yield from _different(ATTRIBUTES, words, _exchanged(words, first, second))
    for at in range(len(words)):
        for length in range(_LONGEST, 0, -1):
            reverse = REVERSED.get(" ".join(words[at : at + length]))
            if reverse and at + length <= len(words):
                yield from _different(PLACE, words, [*words[:at], *reverse.split(), *words[at + length :]])
                break


def _adjectives(parse: Parse, thing: int) -> list[int]:
    """The positions of the attributes before a thing, without possessors such as the man's."""
    first, _ = parse.phrase(thing)
    return [word for word in parse.dependents(thing, ATTRIBUTE) if first <= word < thing and not parse.possessor(word)]


def _is_contiguous(places: Sequence[int]) -> bool:
    return max(places) - min(places) + 1 == len(places)


def _exchanged(words: Sequence[str], one: tuple[int, int], other: tuple[int, int]) -> list[str]:
    """The words with two spans exchanged; unchanged if they overlap."""
    (a, b), (c, d) = sorted((one, other))
    if b > c:
        return list(words)
    return [*words[:a], *words[c:d], *words[b:c], *words[a:b], *words[d:]]


def _different(kind: str, words: Sequence[str], changed: Sequence[str]) -> Iterator[tuple[str, str]]:
    changed = _with_articles(changed)
    if list(changed) != _with_articles(words):
        yield kind, " ".join(changed)


def _with_articles(words: Sequence[str]) -> list[str]:
    """The words with `a` and `an` as the next word requires: a wrong article would give a swap away."""
    following = [*words[1:], ""]
    return [
        ("an" if after[:1] in tuple("aeiou") else "a") if word in ("a", "an") and after else word
        for word, after in zip(words, following, strict=True)
    ]
