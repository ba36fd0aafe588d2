"""`regard words parse --png`: the graphs of sentences."""

import pytest
from PIL import Image
from test_graph_layout import overlaps

from regard.explain import draw_sentences
from regard.explain.graph_drawing import Arrow, Node
from regard.explain.graph_layout import lay_out_columns
from regard.explain.sentence_graphs import sentence_graph
from regard.words.parser import ATTRIBUTE, MODIFIER, OBJECT, SUBJECT, Parse, own_parser

ODD = ["", "?!", "snow", "犬 🐶 नमस्ते", "x" * 300, "a " * 200, "a dog in a house by a lake with a man in a red hat " * 3]


def test_the_graph_of_a_sentence():
    words = ("the", "man's", "fire", "dog", "runs", "and", "is", "red", "on", "snow")
    edges = ((3, 1, ATTRIBUTE), (3, 2, MODIFIER), (3, 7, ATTRIBUTE), (4, 3, SUBJECT), (8, 3, SUBJECT), (8, 9, OBJECT))
    parse = Parse(words, (0, 0, 0, 1, 2, 0, 0, 0, 2, 1), edges)
    nodes, arrows = sentence_graph(parse, {"snow": "#123456"})
    assert nodes == [Node("man"), Node("fire dog", ("red", "runs")), Node("snow", (), "#123456")]
    assert arrows == [Arrow(1, 2, "on"), Arrow(0, 1, "have")]
    assert parse.noun_phrases == ["man's fire dog", "snow"]


def test_a_noun_phrase_is_contiguous():
    words = ("black", "and", "white", "dog", "near", "an", "old", "red", "barn")
    edges = ((3, 0, ATTRIBUTE), (3, 2, ATTRIBUTE), (8, 6, ATTRIBUTE), (8, 7, ATTRIBUTE), (8, 0, ATTRIBUTE))
    parse = Parse(words, (0, 0, 0, 1, 2, 0, 0, 0, 1), edges)
    assert parse.noun_phrases == ["black and white dog", "old red barn"]


@pytest.mark.parametrize("sentence", ODD)
def test_the_nodes_of_a_sentence_do_not_overlap(sentence):
    (parse,) = own_parser()([sentence])
    assert overlaps(lay_out_columns(*sentence_graph(parse, {}), 9.0)) == 0


def test_sentences_of_any_kind_are_drawn(tmp_path):
    for number in range(len(ODD)):
        draw_sentences(ODD[: number + 1], own_parser()(ODD[: number + 1]), tmp_path / f"{number}.png")
    heights = [height_of(tmp_path / f"{number}.png") for number in range(len(ODD))]
    assert heights == sorted(set(heights))
    assert len(list(tmp_path.iterdir())) == len(ODD)


def height_of(path):
    with Image.open(path) as picture:
        return picture.height
