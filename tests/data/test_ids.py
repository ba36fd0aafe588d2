"""Ids that are written in different forms on two sides."""

import pytest

from regard.data.ids import match_ids, show_ids


@pytest.mark.parametrize(
    ("wanted", "known"),
    [
        ("COCO_val2014_000000391895.jpg", "391895"),
        ("COCO_val2014_000000391895.jpg", "coco_val2014_000000391895"),
        ("391895", "000000391895.jpg"),
        ("0", "x_000"),
        ("a/Dog.jpg", "dog"),
        ("dog.jpg#3", "dog.PNG"),
        ("dog#zhm#3", "x\\dog.jpg"),
    ],
)
def test_one_image_in_two_forms(wanted, known):
    assert match_ids([wanted], [known, "5"]) == {wanted: known}
    assert match_ids([known], [wanted, "5"]) == {known: wanted}


def test_ids_that_might_be_several_are_not_matched():
    assert match_ids(["1.jpg"], ["a/1", "b/1"]) == {}
    assert match_ids(["val_1", "train_1"], ["1", "2"]) == {}
    assert match_ids(["dog_1"], ["cat_1"]) == {}  # neither is only a number
    assert match_ids(["a.jpg", "b.jpg"], ["a.jpg", "a", "B"]) == {"a.jpg": "a.jpg", "b.jpg": "B"}
    assert match_ids(["1.jpg", "1.png"], ["1.jpg", "1"]) == {"1.jpg": "1.jpg", "1.png": "1"}


def test_examples_are_shown():
    assert show_ids(["a", "b", "c"]) == "'a', 'b'"
    assert show_ids([]) == "none"
