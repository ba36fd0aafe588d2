"""Sentences that are wrong about a picture in who does what: the words of a caption with two parts exchanged.

Such sentences are harder negatives than those of other images: they name the same things. Sources of the idea: ARO
(Yuksekgonul et al., ICLR 2023) and SugarCrepe (Hsieh et al., NeurIPS 2023), which also shows that many of them can be
recognised without the picture. Measure a model that sees no picture beside (`data.blind`).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

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
# Ends of predicates that hold both ways: with subject and object exchanged, the sentence would be as true.
SYMMETRIC = (
    *("next to", "beside", "alongside", "near", "close to", "by", "far from", "across from", "opposite", "with"),
    *(verb + end for verb in ("meet", "hug", "face", "resemble", "match") for end in ("", "s", "es", "ing")),
)
_SYMMETRIC_ENDS = tuple(f" {end}" for end in SYMMETRIC)  # whole words
_LONGEST = max(len(phrase.split()) for phrase in REVERSED)


class Swap(NamedTuple):
    """A wrong sentence."""

    kind: str
    words: tuple[str, ...]  # in the place of each word of the caption: a word, several ("far from"), or none ("")

    @property
    def sentence(self) -> str:
        """The words in lower case without punctuation, as `tokenize` reads them."""
        return " ".join(filter(None, self.words))


def swaps(parse: Parse) -> Iterator[Swap]:
    """Yield wrong sentences about the same things.

    `relation`: the subject and the object of a relation are exchanged, with their attributes, unless the relation holds
    both ways. `attribute`: the attributes of two things of different names are exchanged. `place`: a preposition is
    replaced by its reverse. None has the same words in the same order as the caption.
    """
    words = parse.words
    for one, predicate, other in parse.links:
        if not f" {predicate}".endswith(_SYMMETRIC_ENDS):
            yield from _different(RELATION, words, _exchanged(words, parse.phrase(one), parse.phrase(other)))
    described = [
        (thing, (min(own), max(own) + 1))
        for thing in parse.places
        if (own := _adjectives(parse, thing)) and _is_contiguous(own)
    ]
    for (one, first), (other, second) in combinations(described, 2):
        if words[one] != words[other]:  # "a white dog and a black dog" are also a black dog and a white dog
            yield from _different(ATTRIBUTES, words, _exchanged(words, first, second))
    for at in range(len(words)):
        for length in range(_LONGEST, 0, -1):
            reverse = REVERSED.get(" ".join(words[at : at + length]))
            if reverse and at + length <= len(words):
                changed = [*words[:at], reverse, *[""] * (length - 1), *words[at + length :]]
                yield from _different(PLACE, words, changed)
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


def _different(kind: str, words: Sequence[str], changed: Sequence[str]) -> Iterator[Swap]:
    """The swap, if its words are others than those of the caption."""
    # A wrong article would give a swap away. The caption's article before a word is right, as in "an hour".
    article_of = {after: word for word, after in pairwise(words) if word in ("a", "an")}
    right = tuple(
        article_of.get(after, "an" if after.startswith(tuple("aeiou")) else "a") if word in ("a", "an") else word
        for word, after in zip(changed, [*changed[1:], ""], strict=True)
    )
    if right != tuple(words):
        yield Swap(kind, right)
