"""Relations of place on boxes placed by hand: what is clear, what is left out, and what a mirror image changes."""

import numpy as np
import pytest

from regard.relations.places import (
    ABOVE,
    AROUND,
    BELOW,
    CONVERSE,
    FORMS,
    INSIDE,
    LARGER,
    LEFT,
    MIRRORED,
    PREDICATES,
    RIGHT,
    SMALLER,
    compared,
    facts_of,
    mirrored,
    places,
    relations,
    state,
)
from regard.words import ROLES
from regard.words.parser import own_parser

SUBJECT, OBJECT = ROLES.index("subject"), ROLES.index("object")

BOX = (0.1, 0.4, 0.3, 0.6)


def place(one, other):
    """The predicate of two boxes, after a check of its converse and of its mirror image."""
    boxes = np.array([one, other], np.float32)
    found = places(boxes)
    assert found[1, 0] == CONVERSE[found[0, 1]]
    assert (places(mirrored(boxes)) == MIRRORED[found]).all()
    assert (np.diag(found) == 0).all()
    return found[0, 1]


@pytest.mark.parametrize(
    ("other", "predicate"),
    [
        ((0.6, 0.4, 0.8, 0.6), LEFT),
        ((0.22, 0.4, 0.42, 0.6), 0),  # centres 0.12 apart: near-equal positions
        ((0.26, 0.4, 0.46, 0.6), LEFT),  # 0.16 apart, a fifth of the box is covered
        ((0.6, 0.85, 0.8, 1.0), 0),  # nearly diagonal: 0.5 to the right and 0.43 below
        ((0.6, 0.75, 0.8, 0.95), LEFT),
        ((0.1, 0.7, 0.3, 0.9), ABOVE),
        ((0.1, 0.0, 0.3, 0.2), BELOW),
        ((0.0, 0.0, 1.0, 1.0), INSIDE),
        ((0.15, 0.45, 0.25, 0.55), AROUND),
        ((0.09, 0.39, 0.31, 0.61), 0),  # nearly the same box: neither is inside
        ((0.05, 0.58, 0.7, 0.66), 0),  # its centre is to the right, but its left edge is to the left
        ((0.12, 0.4, 0.5, 0.6), 0),  # nine tenths of the box are covered, but it is not inside
        ((0.6, 0.4, 0.6, 0.6), 0),  # a box without area
        ((0.0, 0.0, 0.0, 0.0), 0),  # padding
    ],
)
def test_a_place_is_clear_or_left_out(other, predicate):
    assert place(BOX, other) == predicate


def test_sizes_are_compared_where_no_place_is_clear():
    boxes = np.array([BOX, (0.15, 0.3, 0.4, 0.7), (0.6, 0.4, 0.8, 0.65)], np.float32)  # areas 0.04, 0.1, 0.05
    assert compared(boxes).tolist() == [[0, SMALLER, 0], [LARGER, 0, LARGER], [0, SMALLER, 0]]
    assert relations(boxes).tolist() == [[0, SMALLER, LEFT], [LARGER, 0, LEFT], [RIGHT, RIGHT, 0]]
    assert (relations(mirrored(boxes)) == MIRRORED[relations(boxes)]).all()


def test_only_sure_things_that_are_alone_in_their_class_are_named():
    boxes = np.array([BOX, (0.5, 0.4, 0.7, 0.6), (0.8, 0.4, 1.0, 0.6), (0.0, 0.0, 1.0, 1.0)], np.float32)
    scores = np.array([0.9, 0.8, 0.8, 0.0], np.float32)

    def named(*labels, scores=scores):
        sides, others = facts_of(boxes, np.array(labels), scores, sure=0.5)
        assert not others
        return {(subject, other) for subject, predicate, other in sides if predicate == LEFT}

    assert named(1, 2, 3, 0) == {(0, 1), (0, 2), (1, 2)}
    assert named(1, 2, 2, 0) == set()  # two of class 2
    assert named(1, 2, 2, 0, scores=scores * [1, 1, 0.25, 1]) == {(0, 1)}  # the second one is hardly there
    assert named(1, 2, 2, 0, scores=scores * [1, 1, 0.35, 1]) == set()  # it may be there
    assert named(1, 2, 0, 0, scores=scores / 2) == set()


def test_who_is_larger_is_no_fact_of_sides():
    boxes = np.array([BOX, (0.5, 0.2, 0.9, 0.8)], np.float32)
    sides, others = facts_of(boxes, np.array([1, 2]), np.ones(2, np.float32), 0.5)
    assert (sides, others) == ([(0, LEFT, 1), (1, RIGHT, 0)], [(0, SMALLER, 1), (1, LARGER, 0)])


def test_sentences_are_different_repeatable_and_mirrored():
    facts, names = [(0, LEFT, 1), (1, RIGHT, 0), (0, ABOVE, 2)], ["dog", "apple", "dining_table"]
    both = state(facts, names, 5, "a.jpg")
    assert both == state(facts, names, 5, "a.jpg") != state(facts, names, 5, "b.jpg")
    assert len({own for own, _ in both}) == 5
    # Each fact is stated once before one is stated again.
    assert {"left" in own or "right" in own for own, _ in both[:3]} == {True, False}
    swapped = str.maketrans({"<": ">", ">": "<"})
    for own, mirror in both:
        coded = [text.replace("left", "<").replace("right", ">") for text in (own, mirror)]
        assert coded[0].translate(swapped) == coded[1]
        assert (own == mirror) == ("above" in own)
        assert "an apple" in own or "a dining table" in own
    assert len(state(facts, names, 100, "a.jpg")) == 9  # three forms of each
    assert state([], names, 5, "a.jpg") == []


def test_each_form_is_parsed_to_its_subject_and_object():
    for predicate, forms in FORMS.items():
        assert len(set(forms)) == len(forms) == len(FORMS[MIRRORED[predicate]])
        for form, parsed in zip(forms, own_parser()([form.format("a dog", "a cat") for form in forms]), strict=True):
            ends = {ROLES[role]: parsed.words[word] for _, word, role in parsed.edges if role in (SUBJECT, OBJECT)}
            assert ends == {"subject": "dog", "object": "cat"}, form


def test_each_predicate_is_stated_by_itself_or_by_its_converse():
    for predicate in range(1, len(PREDICATES)):
        assert predicate in FORMS or CONVERSE[predicate] in FORMS
    assert (CONVERSE[CONVERSE] == np.arange(9)).all()
    assert (MIRRORED[MIRRORED] == np.arange(9)).all()


def test_a_twin_whose_things_are_exchanged_has_the_converse():
    (own, other), *_ = state([(0, ABOVE, 1)], ["dog", "cat"], 1, "a", CONVERSE)
    assert other == own.replace("above", "below") != own
