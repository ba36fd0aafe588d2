"""The colours of pictures and pages, and which region gets which. No drawing: nothing here imports matplotlib."""

from dataclasses import dataclass

import numpy as np

from regard.explain.alignment import Alignment

COLOURS = ("#d1495b", "#2176ae", "#2f9e5b", "#e59500", "#7b4bb3", "#12a5a0", "#a0522d", "#d265a6", "#6b7f1e", "#3d4fc4")
PLAIN, INK, PAPER = "#8d8d8d", "#22252a", "#efede7"  # of secondary text, of text, of a panel without a photograph
# Words that a tag leaves out. As one string, they are easier to read than as a list.
SMALL_WORDS = {*"a an the and or of in on at to by with for from is are as it its his her their".split()}  # noqa: SIM905


@dataclass(frozen=True)
class MatchedRegion:
    """A region that is the best match of at least one word."""

    region: int
    words: list[int]
    colour: str


@dataclass(frozen=True)
class MarkedRegion:
    """A region whose box is drawn in a colour, with a tag."""

    region: int
    colour: str
    tag: str


def matched_regions(alignment: Alignment) -> list[MatchedRegion]:
    """Return the regions that are the best match of a word, those with the most weight first.

    If there are more regions than colours, the last ones are gray.
    """
    best = alignment.best_regions()
    words_of = {region: np.flatnonzero(best == region).tolist() for region in np.unique(best[best >= 0]).tolist()}
    order = sorted(words_of, key=lambda region: -alignment.weights[region, words_of[region]].sum())
    colours = [*COLOURS, *[PLAIN] * len(order)]
    return [MatchedRegion(region, words_of[region], colour) for region, colour in zip(order, colours, strict=False)]


def region_tag(alignment: Alignment, matched: MatchedRegion) -> str:
    """Return the region's number and its three words of most weight, in the order of the sentence.

    Small words are left out unless there are no others.
    """
    weights, words = alignment.weights[matched.region], alignment.words
    candidates = [word for word in matched.words if words[word] not in SMALL_WORDS] or matched.words
    best = sorted(candidates, key=lambda word: -weights[word])[:3]
    return f"{matched.region}  " + " ".join(words[word] for word in sorted(best)) + " …" * (len(candidates) > 3)
