"""Sentences with two of their parts exchanged."""

import pytest

from regard.words.parser import own_parser
from regard.words.swaps import swaps
from regard.words.tokens import tokenize


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man rides a horse.", {("relation", "a horse rides a man")}),
        ("An owl watches a dog", {("relation", "a dog watches an owl")}),
        (
            "A red car next to a blue truck",
            {
                ("attribute", "a blue car next to a red truck"),
                ("place", "a red car far from a blue truck"),
            },
        ),
        ("a dog above a dog", {("place", "a dog below a dog")}),
        ("The dog is in front of the house", {("relation", "the house is in front of the dog"),
                                              ("place", "the dog is behind the house")}),
        ("a man stands beside a dog", {("place", "a man stands far from a dog")}),  # as true the other way round
        ("a boy meets a girl", set()),
        ("a man is hugging a woman", set()),
        ("a black dog is facing a brown cat", {("attribute", "a brown dog is facing a black cat")}),
        ("a girl races against a boy", set()),
        ("a woman talks to a man", set()),
        ("a dog with a ball", {("negation", "a dog without a ball")}),
        ("a white dog and a black dog run", set()),
        ("a white dog chases a black dog", {("relation", "a black dog chases a white dog")}),
        ("an hour after lunch a horse in an uniform bites a man",
         {("relation", "an hour after lunch a man in an uniform bites a horse"),
          ("relation", "an hour after lunch an uniform in a horse bites a man")}),
        ("A dog", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_parts_are_exchanged(caption, expected):
    assert {(swap.kind, swap.sentence) for swap in swaps(own_parser()([caption])[0])} == expected


@pytest.mark.parametrize("phrase", ["to the left of", "on the left of"])
def test_each_wrong_sentence_is_found_once(phrase):
    found = [swap.sentence for swap in swaps(own_parser()([f"a dog is {phrase} a man"])[0])]
    assert len(found) == len(set(found))
    assert f"a dog is {phrase.replace('left', 'right')} a man" in found


def test_a_swap_has_the_words_of_the_caption_or_a_reversed_preposition():
    caption = "Two brown dogs in the green grass chase a small boy with a red ball under a tree"
    found = [(swap.kind, swap.sentence) for swap in swaps(own_parser()([caption])[0])]
    assert {kind for kind, _ in found} == {"relation", "attribute", "place", "negation"}
    for kind, sentence in found:
        same = sorted(sentence.split()) == sorted(tokenize(caption))
        assert same == (kind not in ("place", "negation"))
        assert sentence != " ".join(tokenize(caption))
