import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.words import tokenize, tokens
from regard.words.tokens import respelled


def test_doctest():
    assert doctest.testmod(tokens).failed == 0


@pytest.mark.parametrize(
    ("caption", "words", "expected"),
    [
        ("A dog, a Cat.", ["a", "cat", "a", "dog"], "A cat, a dog."),
        ("a dog in front of it!", ["a", "dog", "behind", "", "", "it"], "a dog behind it!"),
        ("a dog behind it!", ["a", "dog", "in front of", "it"], "a dog in front of it!"),
        ("A man 's dog .", ["a", "dog", "man's"], "a dog man's"),  # not written as its word
        ("", [], ""),
    ],
)
def test_other_words_take_the_places_of_a_captions_own(caption, words, expected):
    assert respelled(caption, words) == expected


@given(st.text("aA ,.'-éß İ\u00ad🐕", max_size=20))
def test_a_respelled_caption_has_the_given_words(caption):
    words = [f"w{place}" for place in range(len(tokenize(caption)))]
    assert tokenize(respelled(caption, words)) == words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Two dogs play , in the snow .", ["two", "dogs", "play", "in", "the", "snow"]),
        ("A cafe\u0301 in S\u00c3O Paulo", ["a", "café", "in", "são", "paulo"]),  # an accent in two forms
        ("'quoted' -dashed- rock'n'roll", ["quoted", "dashed", "rock'n'roll"]),
        ("red--blue, up–down—left", ["red", "blue", "up", "down", "left"]),
        ("man’s well‐known", ["man's", "well-known"]),  # typographic apostrophe and hyphen
        (
            "the man 's hat , the letter 's' and the dogs '",
            ["the", "man's", "hat", "the", "letter", "s", "and", "the", "dogs"],
        ),
        ("I ❤️ dogs 🐕‍🦺 1️⃣!", ["i", "dogs", "1"]),
        ("\ufeffco\u00adop snake_case", ["coop", "snake", "case"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # its vowels are marks, not letters
        ("", []),
        (" . ❤️ -- '", []),
        ("\u0301", []),
    ],
)
def test_words(caption, words):
    assert tokenize(caption) == words


def test_bytes_are_refused():
    """The field's Python 3 ports read bytes and tokenise their repr: b'two becomes the first word."""
    with pytest.raises(TypeError):
        tokenize(b"two dogs")


@given(st.text())
def test_words_of_words_are_themselves(caption):
    words = tokenize(caption)
    assert tokenize(" ".join(words)) == words
    assert all(word and not any(map(str.isspace, word)) for word in words)
