"""Recognize sentences that Regard's tokenizer or parser does not read as their author expects."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from regard.words.tokens import tokenize

SOME = 2000  # sentences that are examined
ENOUGH = 20  # words from which a language can be judged

UNSPACED = (
    "the sentences are in a script without spaces, so that most of them are one word. Cut them into words "
    "(words.segmenter=icu), or separate the words by spaces. A pretrained encoder must be multilingual "
    "(words.encoder=pretrained, words.path=FOLDER)"
)

# Han, Hiragana, Katakana, Thai, Lao, Myanmar and Khmer are written without spaces between words.
_UNSPACED = re.compile("[\u3400-\u9fff\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_LONGEST_WORD = 4.5  # mean number of such letters between spaces, above which sentences are not separated into words
_SPOILT = {
    r"b(['\"]).*\1": "look like b'...', as Python 3 prints bytes. Write them with .decode('utf-8')",
    r"\S+#(?:\w+#)?\d+\s.*": "begin with the name of an image, such as 'a.jpg#0'. Leave the name out",
    r"(?:\S+:[a-z]{1,3}\s+)+\S+:[a-z]{1,3}": "contain parts of speech, such as 'dog:n'. Leave them out",
}
_ENGLISH = frozenset(
    ("a", "an", "and", "are", "at", "by", "for", "from", "his", "her", "in", "is", "its", "near", "of", "on", "that",
     "the", "their", "this", "through", "to", "two", "while", "with")
)  # fmt: skip


def describe_sentences(sentences: Iterable) -> str:
    """Return what is wrong with most of the first sentences (str), and what to do; empty if nothing is suspected."""
    # `Iterable`, not `Iterable[str]`: see build_tokenizer.
    some = [sentence for sentence in islice(sentences, SOME) if sentence]
    for pattern, what in _SPOILT.items():
        if sum(bool(re.fullmatch(pattern, sentence)) for sentence in some) > len(some) / 2:
            return f"the sentences {what}"
    return UNSPACED if are_unspaced(some) else ""


def are_unspaced(sentences: Sequence[str]) -> bool:
    """Return whether sentences are in a script without spaces, and their words are not separated by spaces either."""
    text = " ".join(sentences)
    unspaced = len(_UNSPACED.findall(text))
    return unspaced > sum(map(str.isalpha, text)) / 2 and unspaced > _LONGEST_WORD * len(tokenize(text))


def is_unspaced(word: str) -> bool:
    """Return whether a word contains letters of a script without spaces."""
    return _UNSPACED.search(word) is not None


def is_english(sentences: Sequence[str]) -> bool:
    """Return whether the first sentences look like English: one word of ten is a frequent English word.

    Sentences of few words are taken for English.
    """
    words = [word for sentence in islice(sentences, SOME) for word in tokenize(sentence)]
    return len(words) < ENOUGH or sum(word in _ENGLISH for word in words) >= len(words) / 10
