"""Captions to words: of fragments, of relations between words, and of pictures.

A word is a run of letters, digits and their accents in lower case, with apostrophes and hyphens inside it (`t-shirt`,
`man's`). Everything else is dropped: punctuation, symbols, emoji. Common loaders keep punctuation as words, so that a
full stop takes part in matching; here, a fragment is always something that a region can match. Vocabularies of such
loaders need their words, which treebank.py splits.
"""

import re
import unicodedata
from collections.abc import Sequence

_SPLIT_POSSESSIVE = re.compile(r"\s+(?='s(?:\s|$))")  # "a man 's hat", as Flickr8k writes it
_WORD = re.compile(r"[^\s'-]+(?:['-][^\s'-]+)*")
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)  # marks of emoji, which belong to no word


class _Kept(dict[int, str]):
    """The replacement of each character, computed on first use: itself, an apostrophe or hyphen, nothing, a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if character in "'’ʼ＇":
            self[code] = "'"
        elif kind == "Pd" and character not in "–—―":  # an en dash or an em dash separates words
            self[code] = "-"
        elif kind == "Cf" or code in _VARIATION_SELECTORS:  # a soft hyphen, a joiner, a byte order mark
            self[code] = ""
        else:
            self[code] = character if kind[0] in "LN" or kind in ("Mn", "Mc") else " "
        return self[code]


_KEPT = _Kept()


def tokenize(caption: str) -> list[str]:
    """The words of a caption, in order; none for a caption without letters or digits.

    >>> tokenize("A man's T-shirt -- red, isn’t it?")
    ['a', "man's", 't-shirt', 'red', "isn't", 'it']
    """
    plain = unicodedata.normalize("NFC", caption.lower()).translate(_KEPT)
    whole = _SPLIT_POSSESSIVE.sub("", plain)
    return [word for word in _WORD.findall(whole) if any(map(str.isalnum, word))]


def respelled(caption: str, words: Sequence[str]) -> str:
    """Return a caption with other words in the places of its own; its punctuation and a first capital letter stay.

    `words` has an entry for each word of `tokenize(caption)`: one word, several, or none. Without this, a tokenizer
    that reads punctuation could recognise changed captions by its absence. If the caption writes a word in another way
    than `tokenize` returns it, the result is the words alone.

    >>> respelled("A dog, small and brown, barks.", ["small", "dog", "a", "and", "barks", "brown"])
    'Small dog, a and barks, brown.'
    """
    plain = " ".join(filter(None, words))
    lower, end, parts = caption.lower(), 0, []
    for own, word in zip(tokenize(caption), words, strict=True):
        start = lower.find(own, end)
        if start < 0:
            return plain
        parts += [lower[end:start], word]
        end = start + len(own)
    text = " ".join("".join([*parts, lower[end:]]).split())
    if tokenize(text) != plain.split():  # a gap contains words, because one was found too late
        return plain
    return text[:1].upper() + text[1:] if caption[:1].isupper() else text
