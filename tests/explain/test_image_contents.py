"""`regard look`: which image, photograph, regions, relations and sentences are shown."""

import json

import numpy as np
import pytest
import torch

from regard.batch import Images
from regard.data import Split
from regard.explain import ImageContents
from regard.explain.image_contents import (
    find_image,
    find_photograph,
    relations_of_nearest_pairs,
    select_regions,
    select_relations,
)
from regard.files import InputError
from regard.relations.from_boxes import write_box_relations
from regard.words.parser import ATTRIBUTE, OBJECT, SUBJECT, own_parser

APART = np.eye(9, dtype=np.float32)  # no boxes overlap


def test_all_relations_are_shown_if_they_fit():
    relations = [(0, "on", 1), (1, "under", 0), (0, "near", 2), (0, "near", 3)]
    assert select_relations(relations, ["", "", "", ""], APART, 4, 4) == relations


def test_of_too_many_relations_the_first_two_per_region_are_shown():
    relations = [(0, "on", 1), (0, "near", 2), (0, "near", 3), (3, "has", 4)]
    assert select_relations(relations, [""] * 5, APART, 9, 3) == [relations[0], relations[1], relations[3]]
    assert select_relations(relations, [""] * 5, APART, 9, 1) == relations[:1]
    assert select_relations(relations, [""] * 5, APART, 2, 9) == relations[:1]
    assert select_relations(relations, [""] * 5, APART, 0, 0) == []


def test_of_too_many_relations_none_repeats_a_pair_a_name_or_a_thing():
    labels = ["man", "hat", "man", "hat", "person", "dog"]
    relations = [(0, "wearing", 1), (1, "on", 0), (2, "wearing", 3), (4, "with", 5), (2, "has", 5)]
    assert select_relations(relations, labels, APART, 9, 4) == [relations[0], relations[3], relations[4]]
    twice = APART.copy()
    twice[0, 4] = twice[4, 0] = 0.9  # the person is the man
    assert select_relations(relations, labels, twice, 9, 4) == [relations[0], relations[4]]


def boxed(*boxes, labels=None):
    count = len(boxes)
    return Images(
        features=torch.zeros(1, count, 2),
        mask=torch.ones(1, count, dtype=torch.bool),
        boxes=torch.tensor([boxes], dtype=torch.float32),
        labels=None if labels is None else torch.tensor([labels]),
    )


def test_geometric_relations_are_of_the_nearest_pairs_with_the_smaller_as_subject():
    images = boxed((0.0, 0.4, 0.1, 0.5), (0.2, 0.4, 0.4, 0.6), (0.6, 0.4, 0.7, 0.5), (0.25, 0.45, 0.3, 0.5))
    assert relations_of_nearest_pairs(images, [0, 1, 2]) == [
        (0, "left of", 1),
        (2, "right of", 1),
    ]  # 0 and 2 would close a cycle
    assert relations_of_nearest_pairs(images, [0, 1, 2, 3]) == [
        (3, "inside", 1),
        (3, "right of", 0),
        (2, "right of", 1),
    ]
    star = boxed(
        *((x - 0.03, y - 0.03, x + 0.03, y + 0.03) for x, y in ((0.5, 0.5), (0.4, 0.5), (0.6, 0.5), (0.5, 0.75)))
    )
    assert {frozenset((one, other)) for one, _, other in relations_of_nearest_pairs(star, range(4))} == {
        frozenset(pair)
        for pair in ((0, 1), (0, 2), (1, 3))  # 0 has two
    }
    above = boxed((0.0, 0.0, 0.1, 0.1), (0.0, 0.3, 0.2, 0.5))
    assert relations_of_nearest_pairs(above, [0, 1]) == [(0, "above", 1)]


def test_the_largest_regions_with_a_label_are_shown_and_no_box_twice():
    images = boxed((0, 0, 1, 1), (0, 0, 0.5, 0.5), (0, 0, 0.5, 0.49), (0, 0, 0.2, 0.2), labels=[0, 1, 2, 3])
    assert select_regions(images, ["", "a", "b", "c"], 9) == [1, 3]
    assert select_regions(images, [""] * 4, 9) == [0, 1, 3]
    assert select_regions(images, ["", "a", "b", "c"], 2, [3]) == [3, 1]
    assert select_regions(images, ["", "a", "b", "c"], 1, [2, 3]) == [2, 3]  # regions with relations are always shown


def test_the_contents_of_a_scene_are_those_of_the_data(scenes):
    split = Split.open(scenes, "test")
    found = ImageContents.of(split, 4)
    own = slice(*split.relations.bounds[4:6])
    relations = zip(split.relations.source[own], split.relations.label[own], split.relations.target[own], strict=True)
    assert set(found.relations) == {(int(one), split.predicates[said], int(other)) for one, said, other in relations}
    assert sorted(found.regions) == list(range(split.region_counts[4]))
    labels = split.images([4]).labels[0].tolist()
    assert found.labels == tuple(split.classes[labels[region]] for region in found.regions)
    assert np.array_equal(found.boxes, split.images([4]).boxes[0, list(found.regions)].numpy())
    assert found.sentences == tuple(split.captions[20:25])
    assert (found.is_geometric, found.has_roles, found.id, found.split) == (False, True, "test-0000004", "test")
    assert len(ImageContents.of(split, 4, sentences=2).sentences) == 2
    assert ImageContents.of(split, 4, regions=0, relations=0).regions == ()


def test_relations_below_the_threshold_are_left_out_and_the_most_confident_come_first(data):
    path = data / "test_relations.npz"
    columns = dict(np.load(path))
    columns |= {"image": [0, 0, 0, 0], "subject": [0, 1, 0, 0], "object": [1, 0, 1, 0], "predicate": [1, 2, 3, 1]}
    np.savez(path, **(columns | {"confidence": [0.6, 0.9, 0.7, 1.0]}))
    split = Split.open(data, "test")
    names = split.predicates
    assert ImageContents.of(split, 0).relations == ((1, names[2], 0), (0, names[3], 1))
    assert ImageContents.of(Split.open(data, "test", relation_threshold=0.8), 0).relations == ((1, names[2], 0),)


def test_without_relations_they_are_computed_from_the_boxes(data):
    kept = ImageContents.of(Split.open(data, "test"), 0)
    (data / "test_relations.npz").unlink()
    found = ImageContents.of(Split.open(data, "test"), 0)
    assert found.is_geometric
    assert not kept.is_geometric
    assert len(found.relations) == len(found.regions) - 1
    assert "computed from the boxes" in found.summary()
    write_box_relations(data, "test")  # what `regard data relations` writes is computed from the boxes too
    assert ImageContents.of(Split.open(data, "test"), 0).relations == found.relations
    assert ImageContents.of(Split.open(data, "test"), 0).is_geometric


def test_roles_in_the_data_are_the_sentences_relations(data):
    columns = dict(np.load(data / "test_text_relations.npz"))
    edges = {"text": [0, 0, 0, 1], "head": [1, 1, 0, 2], "dependent": [0, 2, 99, 1], "label": [1, 2, 1, 3]}
    np.savez(data / "test_text_relations.npz", **(columns | edges))
    found = ImageContents.of(Split.open(data, "test"), 0)
    assert found.has_roles
    assert [parse.edges for parse in found.parses[:3]] == [((1, 0, SUBJECT), (1, 2, OBJECT)), ((2, 1, ATTRIBUTE),), ()]
    assert found.parses[0].words == own_parser()(found.sentences)[0].words


def test_without_roles_in_the_data_sentences_are_parsed(data):
    (data / "test_text_relations.npz").unlink()
    found = ImageContents.of(Split.open(data, "test"), 0)
    assert not found.has_roles
    assert list(found.parses) == own_parser()(found.sentences)


# Finding an image and its photograph ----------------------------------------------------------------------------------


def test_an_image_is_found_in_any_split(scenes):
    split, row = find_image(scenes, "dev-0000002")
    assert (split.name, row) == ("dev", 2)
    assert find_image(scenes, "test-0000001", "test")[1] == 1


def test_an_image_that_is_missing_or_in_two_splits(data):
    with pytest.raises(InputError, match=r"data has no image 'test-0000009'\. Did you mean 'test-000000\d'\?"):
        find_image(data, "test-0000009")
    with pytest.raises(InputError, match=r"data dev has no image 'test-0000001'\. Did you mean 'dev-0000001'\?"):
        find_image(data, "test-0000001", "dev")
    (data / "dev_ids.txt").write_text("test-0000001\nb\nc\n")
    with pytest.raises(InputError, match=r"test-0000001 is in dev and test of .*: choose one with --split"):
        find_image(data, "test-0000001")
    assert find_image(data, "test-0000001", "dev")[1] == 0
    with pytest.raises(InputError, match=r"contains no \*_ims.npy: expected a data folder"):
        find_image(data.parent, "a")


def test_a_photograph_is_found_where_the_data_folder_says(data, tmp_path):
    split = Split.open(data, "test")
    drawn = data / "test_pictures" / "test-0000000.png"
    assert find_photograph(split, 0) == drawn
    assert find_photograph(split, 5) is None  # five were kept
    (tmp_path / "mine").mkdir()
    (data / "photographs").mkdir()
    (data / "photographs" / "settings.json").write_text(json.dumps({"photographs": str(tmp_path / "mine")}))
    assert find_photograph(split, 0) == drawn
    (tmp_path / "mine" / "test-0000000.JPG").touch()
    assert (
        find_photograph(split, 0) == find_photograph(split, 0, tmp_path / "mine") == tmp_path / "mine/test-0000000.JPG"
    )
    with pytest.raises(InputError, match=r"mine contains no photograph of test-0000001: expected test-0000001, or"):
        find_photograph(split, 1, tmp_path / "mine")
    (data / "photographs" / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings.json is not JSON"):
        find_photograph(split, 0)
    (data / "photographs" / "settings.json").write_text('{"photographs": 5, "of a later version": 1}')
    with pytest.raises(InputError, match=r"settings.json, photographs: Input should be a valid string"):
        find_photograph(split, 0)


def test_a_photograph_outside_of_its_folder_is_not_found(data, tmp_path):
    """The ids of a data folder that somebody else made do not lead to other files."""
    drawn, secret = data / "test_pictures" / "test-0000000.png", tmp_path / "secret.png"
    drawn.rename(secret)
    (data / "test_pictures" / "test-0000001.png").rename(data / "test_pictures" / "inside.png")
    drawn.symlink_to(secret)
    ids = (data / "test_ids.txt").read_text().splitlines()
    ids[1:5] = ["../../secret", str(secret), "../test_pictures/inside", "a" * 300]
    (data / "test_ids.txt").write_text("\n".join(ids) + "\n")
    split, pictures = Split.open(data, "test"), data / "test_pictures"
    assert [find_photograph(split, row) is not None for row in range(5)] == [False, False, False, True, False]
    with pytest.raises(InputError, match=rf"-0000000.png is a link out of .*pictures. Give the folder .*, {tmp_path}"):
        find_photograph(split, 0, pictures)
    for row in (1, 2, 4):
        with pytest.raises(InputError, match="contains no photograph of"):
            find_photograph(split, row, pictures)
    (data / "photographs").mkdir()
    (data / "photographs" / "settings.json").write_text(json.dumps({"photographs": str(pictures)}))
    assert find_photograph(split, 0) is None
    assert find_photograph(split, 0, follows_links=True) == drawn  # for an index: `regard extract` followed it
    assert find_photograph(split, 1, follows_links=True) is None
