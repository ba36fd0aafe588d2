"""Relations on disk: corruption and renumbering."""

import numpy as np
import pytest

import made
from regard.data.relation_files import Triples
from regard.files import InputError


def test_corruption_moves_that_part_of_the_relations_and_nothing_else():
    count = 4000
    item = np.sort(np.arange(count) % 40)
    triples = Triples.of(item, np.zeros(count, int), np.ones(count, int), np.full(count, 3), ["none", *"abc"], 40)
    lengths = np.arange(40) + 2
    for part in (0.0, 0.25, 1.0):
        wrong = triples.corrupted(part, lengths)
        moved = (wrong.source != 0) | (wrong.target != 1)
        limit = lengths[item]
        assert moved.mean() == pytest.approx(part, abs=0.03 * (0 < part < 1))
        assert (wrong.source != wrong.target).all()
        assert (wrong.source < limit).all()
        assert (wrong.target < limit).all()
        assert (wrong.label == triples.label).all()
        again = triples.corrupted(part, lengths)
        assert (again.source == wrong.source).all()
    alone = Triples.of(np.array([0]), np.array([0]), np.array([0]), np.array([1]), ["none", "a"], 1)
    assert alone.corrupted(1.0, np.array([1])).target.tolist() == [0]


def test_a_recipe_corrupts_what_it_reads(tmp_path):
    folder = made.folder(tmp_path / "data")
    sound, wrong = (
        made.recipe("cmsei-f8k", f"data.corrupted_relations={part}").open_split(folder, "dev") for part in (0, 1)
    )
    rows = [3, 0, 7]
    there, other = sound.images(rows).relations, wrong.images(rows).relations
    assert (there != other).any()
    assert (wrong.images([7]).relations[0] == other[2]).all()
    mask = wrong.images(rows).mask
    assert not other[~(mask[:, :, None] & mask[:, None, :])].any()
    with pytest.raises(InputError, match=r"corrupted_relations = 1\.5"):
        made.recipe("cmsei-f8k", "data.corrupted_relations=1.5")


def test_renumbered_relations_equal_a_plain_loop():
    item, source, target, label = np.array([[0, 0, 1, 3], [0, 1, 2, 0], [1, 2, 0, 1], [1, 2, 3, 2]])
    sure = np.array([0.9, 0.8, 0.7, 0.6], np.float16)
    triples = Triples.of(item, source, target, label, ["none", "on", "has", "near"], 5, sure)
    found = triples.renumbered(np.array([0, 2, 0, 1]), ["none", "near", "on"])
    want = [(0, 0, 1, 2, sure[0]), (1, 2, 0, 1, sure[2])]
    items = np.repeat(np.arange(5), np.diff(found.bounds))
    assert list(zip(items, found.source, found.target, found.label, found.confidence, strict=True)) == want
    assert found.names == ("none", "near", "on")
