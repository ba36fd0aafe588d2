"""Controls: what each changes of a split, and what it leaves."""

from dataclasses import replace

import numpy as np
import pytest

import made
from regard.data import Split
from regard.data.relation_files import Triples
from regard.data.sentence_relations import parse_sentences
from regard.evaluation.controls import CONTROLS
from regard.words import tokenize

ALL = np.arange(12)
BY_NAME = {control.name: control for control in CONTROLS}
NAMES = list(BY_NAME)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Its sentences have a relation that does not hold both ways."""
    split = Split.open(made.folder(tmp_path_factory.mktemp("controls") / "data"), "train")
    return replace(split, captions=[caption.replace(" near ", " above ") for caption in split.captions])


def changed(split, name, seed=0):
    assert BY_NAME[name].absence(split) is None
    return BY_NAME[name].change(split, seed)


def inputs(split, name, rows=None):
    """The inputs of a side as arrays by name."""
    if BY_NAME[name].side == "images":
        return {key: value.numpy() for key, value in split.images(ALL if rows is None else rows).tensors().items()}
    rows = np.arange(24) if rows is None else rows
    texts = split.texts(rows, made.VOCABULARY)
    return {key: value.numpy() for key, value in texts.tensors().items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_control_changes_one_input_of_nearly_all_items(split, name):
    before, after = inputs(split, name), inputs(changed(split, name), name)
    different = {key for key in before if not np.array_equal(before[key], after[key])}
    field = {"captions": "tokens", "text_relations": "relations"}.get(BY_NAME[name].field, BY_NAME[name].field)
    assert field in different
    assert different <= {field, "relations"} if field == "tokens" else different == {field}
    items = (before[field] != after[field]).reshape(len(before[field]), -1).any(1)
    assert items.mean() > 0.7
    mask = before["mask"]
    if field in ("boxes", "labels", "tokens"):
        assert np.array_equal(after[field][~mask], before[field][~mask])  # padding stays zero


@pytest.mark.parametrize("name", NAMES)
def test_a_change_depends_on_the_seed_and_on_the_item_only(split, name):
    """Neither on the other items of the split, nor on how it is cut or ordered (law 8)."""
    whole, again, other = (inputs(changed(split, name, seed), name) for seed in (3, 3, 4))
    assert all(np.array_equal(whole[key], again[key]) for key in whole)
    if name in ("relations moved", "boxes permuted", "labels permuted", "words shuffled"):
        assert any(not np.array_equal(whole[key], other[key]) for key in whole)
    order = np.array([7, 2, 11, 4])
    texts = np.flatnonzero(np.isin(split.image_of_text, order))
    part = subset(split, order, texts)
    if name == "predicates permuted":  # the same three predicates occur
        assert set(part.relations.label) == set(split.relations.label)
    rows = order if BY_NAME[name].side == "images" else texts
    found, expected = (
        inputs(changed(split, name, 3), name, rows),
        inputs(changed(part, name, 3), name, range(len(rows))),
    )
    for key in found:
        assert np.array_equal(found[key], expected[key]), key


def subset(split, images, texts):
    """A split of some images and texts in another order."""

    def triples(old, items):
        parts = [slice(old.bounds[item], old.bounds[item + 1]) for item in items]
        item = np.repeat(np.arange(len(items)), [part.stop - part.start for part in parts])
        columns = [
            np.concatenate([getattr(old, name)[part] for part in parts]) for name in ("source", "target", "label")
        ]
        return Triples.of(item, *columns, old.names, len(items))

    return replace(
        split,
        features=split.features.take(images),
        ids=[split.ids[row] for row in images],
        captions=[split.captions[row] for row in texts],
        image_of_text=np.searchsorted(np.sort(images), split.image_of_text[texts]),
        region_counts=split.region_counts[images],
        boxes=split.boxes.take(images),
        labels=split.labels.take(images),
        relations=triples(split.relations, images),
        text_relations=triples(split.text_relations, texts),
    )


def test_relations_are_dropped_moved_and_reversed(split):
    before = inputs(split, "relations dropped")["relations"]
    assert not inputs(changed(split, "relations dropped"), "relations dropped")["relations"].any()
    after = inputs(changed(split, "relations reversed"), "relations reversed")["relations"]
    assert np.array_equal(after, before.transpose(0, 2, 1))
    moved = inputs(changed(split, "relations moved"), "relations moved")["relations"]
    counts = split.region_counts
    for old, new, count in zip(before, moved, counts, strict=True):
        assert np.array_equal(np.sort(old[old > 0]), np.sort(new[new > 0]))  # number and predicates
        assert not new[count:].any()
        assert not new[:, count:].any()
        assert not new.diagonal().any()


def test_dense_relations_and_those_of_a_region_with_itself_can_be_moved(split):
    """Each pair of three regions is related, and each region with itself: nothing is lost."""
    subject, target = np.indices((3, 3)).reshape(2, -1)
    label = np.array([2, 1, 2, 3, 1, 1, 3, 3, 3])
    relations = Triples.of(np.zeros(9, int), subject, target, label, split.predicates, 12)
    crowded = replace(split, relations=relations, region_counts=np.full(12, 3))
    before, after = (
        inputs(each, "relations moved")["relations"][0] for each in (crowded, changed(crowded, "relations moved"))
    )
    assert np.array_equal(before.diagonal(), after.diagonal())
    assert np.array_equal(np.sort(before, None), np.sort(after, None))
    assert not np.array_equal(before, after)


def test_uncertain_relations_are_not_moved_into_view(split):
    relations = replace(split.relations, confidence=np.where(np.arange(len(split.relations.label)) % 2, 0.9, 0.1))
    uncertain = replace(split, relations=relations)
    for name in ("relations moved", "relations reversed", "predicates permuted"):
        before, after = (inputs(each, name)["relations"] for each in (uncertain, changed(uncertain, name)))
        assert ((before > 0).sum((1, 2)) == (after > 0).sum((1, 2))).all()


def test_every_used_predicate_becomes_another_one_everywhere(split):
    relations = replace(split.relations, names=(*split.predicates, "unused"))
    before, after = (
        inputs(each, "predicates permuted")["relations"]
        for each in (
            replace(split, relations=relations),
            changed(replace(split, relations=relations), "predicates permuted"),
        )
    )
    pairs = set(zip(before[before > 0], after[before > 0], strict=True))
    assert {old for old, _ in pairs} == {new for _, new in pairs} == {1, 2, 3}
    assert len(pairs) == 3
    assert all(old != new for old, new in pairs)
    assert np.array_equal(before > 0, after > 0)


@pytest.mark.parametrize("name", ["boxes permuted", "labels permuted"])
def test_each_region_gets_the_box_or_label_of_another_one(split, name):
    field = BY_NAME[name].field
    before, after = inputs(split, name)[field], inputs(changed(split, name), name)[field]
    for old, new, count in zip(before, after, split.region_counts, strict=True):
        assert sorted(map(str, old[:count])) == sorted(map(str, new[:count]))
        assert (old[:count] != new[:count]).reshape(count, -1).any(1).all()  # the labels of an image are distinct


def test_boxes_are_mirrored(split):
    before, after = inputs(split, "boxes mirrored"), inputs(changed(split, "boxes mirrored"), "boxes mirrored")
    mask = before["mask"]
    old, new = before["boxes"][mask], after["boxes"][mask]
    np.testing.assert_allclose(new, np.stack([1 - old[:, 2], old[:, 1], 1 - old[:, 0], old[:, 3]], 1))
    assert (new[:, 0] < new[:, 2]).all()


def test_relations_follow_their_words(split):
    """Word 1 of each sentence has a relation to word 0 and one to word 2; the words of a sentence are distinct."""
    after = changed(split, "words shuffled")
    for text in range(24):
        old, new = (tokenize(each.captions[text]) for each in (split, after))
        assert sorted(old) == sorted(new)
        assert all(a != b for a, b in zip(old, new, strict=True))
        related = [
            {(words[s], words[t], label) for s, t, label in zip(*relations_of(each, text), strict=True)}
            for each, words in ((split, old), (after, new))
        ]
        assert related[0] == related[1] == {(old[1], old[0], 1), (old[1], old[2], 2)}


def relations_of(split, text):
    here = slice(split.text_relations.bounds[text], split.text_relations.bounds[text + 1])
    return split.text_relations.source[here], split.text_relations.target[here], split.text_relations.label[here]


def test_punctuation_stays_so_that_it_does_not_mark_what_was_changed(split):
    captions = ["A dog, that is brown, chases a man.", "Dogs!"]
    one = replace(split, captions=captions, text_relations=None)
    after = changed(one, "words shuffled").captions
    assert after[0].count(",") == 2
    assert after[0].endswith(".")
    assert after[0][0].isupper()
    assert after[1] == "Dogs!"
    assert changed(one, "subject, object exchanged").captions[1] == "Dogs!"


def test_words_that_no_model_reads_stay_behind(split):
    words = [f"w{number}" for number in range(70)]
    (after,) = changed(replace(split, captions=[" ".join(words)], text_relations=None), "words shuffled").captions
    assert after.split()[64:] == words[64:]
    assert set(after.split()[:64]) == set(words[:64])


@pytest.mark.parametrize(
    ("sentence", "exchanged"),
    [
        ("A brown dog chases the man.", "A man chases the brown dog."),
        ("a man riding a black horse", "a black horse riding a man"),
        ("a dog chases a dog", "a dog chases a dog"),
        ("two dogs", "two dogs"),
        ("", ""),
    ],
)
def test_subject_and_object_are_exchanged_with_their_attributes(split, sentence, exchanged):
    one = replace(split, captions=[sentence], text_relations=parse_sentences([sentence]))
    after = changed(one, "subject, object exchanged")
    assert after.captions == [exchanged]
    parsed = parse_sentences([exchanged])
    assert np.array_equal(after.text_relations.source, parsed.source)
    assert np.array_equal(after.text_relations.target, parsed.target)


def test_relations_of_another_parser_follow_shuffled_words_but_are_not_parsed_again(split):
    sentence, names = "a brown dog chases the man", ("none", "nsubj", "dobj")
    relations = Triples.of(*np.array([[0, 3, 2, 1], [0, 3, 5, 2], [0, 3, 40, 2]]).T, names, 1)
    one = replace(split, captions=[sentence], text_relations=relations)
    after = changed(one, "words shuffled")
    words = after.captions[0].split()
    found = {(words[s], words[t], int(k)) for s, t, k in zip(*relations_of(after, 0), strict=True)}
    assert found == {("chases", "dog", 1), ("chases", "man", 2)}  # there is no word 40
    assert changed(one, "subject, object exchanged").text_relations is relations


def test_roles_are_reversed(split):
    before, after = (inputs(each, "roles reversed")["relations"] for each in (split, changed(split, "roles reversed")))
    assert np.array_equal(after, np.array([0, 2, 1, 3, 4])[before])


@pytest.mark.parametrize(
    ("name", "absence"),
    [
        ("relations moved", "no relations"),
        ("boxes mirrored", "no boxes"),
        ("labels permuted", "no labels"),
        ("roles reversed", "no relations between words"),
        ("words shuffled", None),
    ],
)
def test_what_the_data_lack_is_named(split, name, absence):
    bare = replace(split, relations=None, boxes=None, labels=None, text_relations=None)
    assert BY_NAME[name].absence(bare) == absence
    other = replace(
        split, text_relations=replace(split.text_relations, names=("none", "nsubj", "dobj", "amod", "prep"))
    )
    assert BY_NAME["roles reversed"].absence(other) == "no roles subject and object between words"
