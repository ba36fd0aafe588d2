"""Sentences that are wrong about a picture in who does what: the words of a caption with two parts exchanged.

Such sentences are harder negatives than those of other images: they name the same things. Sources of the idea: ARO
(Yuksekgonul et al., ICLR 2023) and SugarCrepe (Hsieh et al., NeurIPS 2023), which also shows that many of them can be
recognised without the picture. Measure a model that sees no picture beside (`data.blind`).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from regard.words.parser import ATTRIBUTE, Parse

RELATION, ATTRIBUTES, PLACE, NEGATION = "relation", "attribute", "place", "negation"

# Prepositions that mean the reverse, as words in order, with the kind of the swap. Longer ones are matched first.
REVERSED = {
    one: (PLACE, other)
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
        ("toward", "away from"),
    )
    for one, other in (pair, pair[::-1])
}
REVERSED |= {
    one: (PLACE, other) for one, other in (("beneath", "above"), ("beside", "far from"), ("towards", "away from"))
}
REVERSED |= {"with": (NEGATION, "without"), "without": (NEGATION, "with")}
# Ends of predicates that hold both ways: with subject and object exchanged, the sentence would be as true.
SYMMETRIC = (
    *("next to", "beside", "alongside", "near", "close to", "by", "far from", "across from", "opposite", "with"),
    *("against", "adjacent to", "parallel to", "identical to", "similar to", "like", "unlike", "connected to"),
    *("meet", "meets", "meeting", "hug", "hugs", "hugging", "face", "faces", "facing", "kiss", "kisses", "kissing"),
    *("resemble", "resembles", "resembling", "match", "matches", "matching", "touch", "touches", "touching"),
    *("marry", "marries", "marrying", "fight", "fights", "fighting", "wrestle", "wrestles", "wrestling"),
    *(f"{verb} to" for verb in ("talk", "talks", "talking", "speak", "speaks", "speaking")),
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
    replaced by its reverse. `negation`: with and without are exchanged. None has the same words in the same order as
    the caption.
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
    at = 0
    while at < len(words):
        lengths = range(min(_LONGEST, len(words) - at), 0, -1)
        length = next((length for length in lengths if " ".join(words[at : at + length]) in REVERSED), 1)
        if found := REVERSED.get(" ".join(words[at : at + length])):
            kind, reverse = found
            yield from _different(kind, words, [*words[:at], reverse, *[""] * (length - 1), *words[at + length :]])
        at += length  # the end of "to the left of" is not a phrase of its own


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
