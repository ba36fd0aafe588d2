"""Controls: a split with one of its inputs made wrong, to measure whether a model reads that input.

A control changes the inputs of images or of sentences, never the model. The changes are random, but depend only on the
seed and on the image's id or the sentence, so that an image gets the same change in any split, batch or order.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Int

from regard.data import Split
from regard.data.relation_files import Triples
from regard.data.rows import ArrayColumn, Column
from regard.data.sentence_relations import parse_sentences
from regard.encode import batch_rows
from regard.words import ROLES, tokenize
from regard.words.parser import MAX_WORDS, parse_all
from regard.words.swaps import RELATION, swaps
from regard.words.tokens import respelled

T = TypeVar("T")
# What controls change, as their `subject`.
OF_REGIONS, OF_WORDS = "relations between regions", "relations between words"
ROLES_OF_WORDS = "the roles of words"


@dataclass(frozen=True)
class Control:
    """A change of one input of a split."""

    name: str
    subject: str  # what is changed, as a noun for messages
    field: str  # of the split, that is changed; "captions" is always there
    side: Literal["images", "texts"]
    change: Callable[[Split, int], Split]  # split and seed -> the changed split

    @property
    def inputs(self) -> frozenset[str]:
        """The names that `Matcher.needs` may have for the input."""
        if self.field == "text_relations":
            return frozenset({"roles"} if self.subject == ROLES_OF_WORDS else {"roles", "text_relations"})
        return frozenset({self.field})

    def absence(self, split: Split) -> str | None:
        """Return why the control cannot be applied to a split; None if it can."""
        if self.field != "captions" and self.field not in split.fields:
            return "no relations between words" if self.field == "text_relations" else f"no {self.field}"
        if self.subject == ROLES_OF_WORDS and not {"subject", "object"} <= set(split.text_labels):
            return "no roles subject and object between words"
        return None


def _dropped(split: Split, seed: int) -> Split:
    """Remove all relations."""
    return _with_predicates(split, np.zeros(len(split.predicates), np.int64))


def _moved(split: Split, seed: int) -> Split:
    """Move the relations of each image to random pairs of its regions: their number and predicates stay.

    Two relations do not move to one pair. A relation of a region with itself stays.
    """
    parts = [np.zeros((0, 4), np.int64)]
    counts, relations = split.counts, _required(split.relations)
    for rows in batch_rows(split.num_images):
        dense = relations.dense(rows, split.num_regions, split.relation_threshold, lengths=counts[rows])
        for row, predicates in zip(rows, dense, strict=True):
            subject, target = predicates.nonzero()
            label, moves, size = predicates[subject, target], subject != target, int(counts[row])
            random = _random(seed, "moved", split.ids[row])
            pair = random.choice(max(size * (size - 1), 1), moves.sum(), replace=False)
            subject[moves], other = np.divmod(pair, max(size - 1, 1))
            target[moves] = other + (other >= subject[moves])
            parts.append(np.stack([np.full(len(label), row), subject, target, label], 1))
    item, subject, target, label = np.concatenate(parts).T
    return replace(split, relations=Triples.of(item, subject, target, label, split.predicates, split.num_images))


def _reversed(split: Split, seed: int) -> Split:
    """Exchange the subject and the object of each relation."""
    relations = _required(split.relations)
    return replace(split, relations=replace(relations, source=relations.target, target=relations.source))


def _with_other_predicates(split: Split, seed: int) -> Split:
    """Replace each predicate that occurs by another one that occurs, the same one in all images."""
    relations = _required(split.relations)
    used = np.unique(relations.label[relations.confidence >= split.relation_threshold])
    numbers = np.arange(len(split.predicates))
    numbers[used] = used[_cycle(len(used), _random(seed, "predicates", ""))]
    return _with_predicates(split, numbers)


def _with_predicates(split: Split, numbers: np.ndarray) -> Split:
    return replace(split, relations=_required(split.relations).renumbered(numbers, split.predicates))


def _with_permuted_boxes(split: Split, seed: int) -> Split:
    """Give each region the box of another region of its image."""
    return replace(split, boxes=_permuted(split, _required(split.boxes), seed, "boxes"))


def _with_permuted_labels(split: Split, seed: int) -> Split:
    """Give each region the label of another region of its image."""
    return replace(split, labels=_permuted(split, _required(split.labels), seed, "labels"))


def _permuted(split: Split, column: Column, seed: int, name: str) -> ArrayColumn:
    values = column.all()
    for row, count in enumerate(split.counts.tolist()):
        values[row, :count] = values[row, _cycle(count, _random(seed, name, split.ids[row]))]
    return ArrayColumn(values)


def _mirrored(split: Split, seed: int) -> Split:
    """Exchange left and right in the boxes of all images: x becomes 1 - x."""
    boxes = _required(split.boxes).all()
    boxes[..., [0, 2]] = 1 - boxes[..., [2, 0]]
    return replace(split, boxes=ArrayColumn(boxes))


def _shuffled(split: Split, seed: int) -> Split:
    """Put the words of each sentence into a random order. Relations between words stay with their words."""
    captions, places = [], [np.zeros(0, np.int64)]
    for caption in split.captions:
        words = tokenize(caption)
        order = np.arange(len(words))
        order[:MAX_WORDS] = _cycle(len(order[:MAX_WORDS]), _random(seed, "words", " ".join(words)))
        captions.append(respelled(caption, [words[place] for place in order]))
        places.append(order.argsort())  # the new place of each word
    relations = split.text_relations
    if relations is not None:
        relations = _relocated(relations, np.concatenate(places), np.array([len(each) for each in places[1:]]))
    return replace(split, captions=captions, text_relations=relations)


def _relocated(relations: Triples, places: Int[np.ndarray, " word"], lengths: Int[np.ndarray, " text"]) -> Triples:
    """Relations between words after each word of each text has moved; those of words beyond a text are left out."""
    text = np.repeat(np.arange(len(lengths)), np.diff(relations.bounds))
    kept = np.maximum(relations.source, relations.target) < lengths[text]
    starts = (np.cumsum(lengths) - lengths)[text[kept]]
    source, target = (places[starts + end[kept]] for end in (relations.source, relations.target))
    label, confidence = relations.label[kept], relations.confidence[kept]
    return Triples.of(text[kept], source, target, label, relations.names, len(lengths), confidence)


def _exchanged(split: Split, seed: int) -> Split:
    """Exchange the subject and the object of the first relation of each sentence that allows it (`words.swaps`).

    Relations between words, if they are those of `regard data parse`, are parsed again from the new sentences; others
    stay at their places.
    """
    captions = [
        next((respelled(caption, swap.words) for swap in swaps(parse) if swap.kind == RELATION), caption)
        for caption, parse in zip(split.captions, parse_all(split.captions), strict=True)
    ]
    relations = parse_sentences(captions) if split.text_labels == ROLES else split.text_relations
    return replace(split, captions=captions, text_relations=relations)


def _without_word_relations(split: Split, seed: int) -> Split:
    """Remove all relations between words."""
    return _with_roles(split, np.zeros(len(split.text_labels), np.int64))


def _with_reversed_roles(split: Split, seed: int) -> Split:
    """Exchange the roles subject and object of the relations between words."""
    numbers, names = np.arange(len(split.text_labels)), split.text_labels
    ends = [names.index("subject"), names.index("object")]
    numbers[ends] = ends[::-1]
    return _with_roles(split, numbers)


def _with_roles(split: Split, numbers: np.ndarray) -> Split:
    return replace(split, text_relations=_required(split.text_relations).renumbered(numbers, split.text_labels))


def _required(field: T | None) -> T:
    assert field is not None  # Control.absence
    return field


def _cycle(size: int, random: np.random.Generator) -> Int[np.ndarray, " place"]:
    """A random order of `size` places in which each place gets another one: they form one cycle."""
    order = random.permutation(size)
    cycle = np.empty_like(order)
    cycle[order] = np.roll(order, 1)
    return cycle


def _random(seed: int, change: str, item: str) -> np.random.Generator:
    """The random numbers of one item. They do not depend on other items."""
    return np.random.default_rng((seed, zlib.crc32(change.encode()), zlib.crc32(item.encode())))


CONTROLS = (
    Control("relations dropped", OF_REGIONS, "relations", "images", _dropped),
    Control("relations moved", OF_REGIONS, "relations", "images", _moved),
    Control("relations reversed", OF_REGIONS, "relations", "images", _reversed),
    Control("predicates permuted", OF_REGIONS, "relations", "images", _with_other_predicates),
    Control("boxes permuted", "boxes", "boxes", "images", _with_permuted_boxes),
    Control("boxes mirrored", "boxes", "boxes", "images", _mirrored),
    Control("labels permuted", "labels", "labels", "images", _with_permuted_labels),
    Control("words shuffled", "the order of words", "captions", "texts", _shuffled),
    Control("subject, object exchanged", "the order of words", "captions", "texts", _exchanged),
    Control("word relations dropped", OF_WORDS, "text_relations", "texts", _without_word_relations),
    Control("roles reversed", ROLES_OF_WORDS, "text_relations", "texts", _with_reversed_roles),
)
