"""Captions to words and punctuation marks, as NLTK's `word_tokenize` splits them.

Published vocabularies (VSE++, SCAN and the models after them) were made this way: a full stop is a word, `isn't` is
`is` and `n't`, a quotation mark is two backquotes or two apostrophes. The conventions are those of the Penn Treebank
(Marcus, Santorini, Marcinkiewicz, Computational Linguistics 19, 1993). NLTK splits a caption into sentences first, by
a list of abbreviations that was learnt from newspapers; here it is a short list of those that captions contain.
"""

import re

_ABBREVIATIONS = set(
    """mr mrs ms dr prof st jr sr vs mt ft co inc corp ltd gen gov sen rep sgt lt col capt rev hon
    a.m p.m u.s u.k u.n d.c l.a n.y n.j e.g i.e u.s.a ph.d b.c a.d p.s""".split()  # noqa: SIM905  # 41 quoted words
)
# A full stop within a caption, with the quotes and brackets that close after it.
_STOP = re.compile(r"(?<!\S)(?P<word>\S*[^\s.])\.(?P<closing>[\])}\"']*)\s+(?=\S)")

# In this order: each pattern, and what replaces it; None puts its groups apart.
_SPLITS = [
    (re.compile(pattern), spaced)
    for pattern, spaced in (
        (r"([«“‘„]|`+)", r" \1 "),
        (r"^\"", " `` "),
        (r"(?<=[ (\[{<])(?:\"|'')", " `` "),
        (r"(?<!\w)'(?!(?:re|ve|ll|[mtsdn])\b)(?=\w)", "' "),  # an opening apostrophe, but not that of 's
        (r"(?<=[^.])\.([\])}>\"'»”’ ]*)$", r" . \1 "),
        (r"[:,](?=\D)|[:,]$", r" \g<0> "),  # not those of 3,000 and 10:30
        (r"\.{2,}", r" \g<0> "),
        (r"[;@#$%&?!*\u2012-\u2015\[\](){}<>]", r" \g<0> "),
        (r"(?<=[^'])'(?= )", " '"),
        (r"--", " -- "),
        (r"[»”’]", r" \g<0> "),
        (r"''|\"", " '' "),
        (r"\s+|$", " "),
        (r"(?<=[^' ])(?:'[smd]|'(?:ll|re|ve)|n't|')(?= )", r" \g<0>"),
        (r"\b(can)(not)\b|\b(gim|lem)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(wan)(na)(?=\s)", None),
        (r"\b(d)('ye)\b|\b(more)('n)\b|(?<= )('t)(is|was)\b", None),
    )
]


def tokenize_treebank(caption: str) -> list[str]:
    """Return the words and punctuation marks of a caption in lower case, in order; none for an empty caption.

    >>> tokenize_treebank('A man\\'s T-shirt says "no", it isn\\'t red. He runs.')
    ['a', 'man', "'s", 't-shirt', 'says', '``', 'no', "''", ',', 'it', 'is', "n't", 'red', '.', 'he', 'runs', '.']
    """
    sentences = _STOP.sub(_end_sentence, caption.lower()).split("\n")
    return [token for sentence in sentences for token in _tokens(sentence.strip())]


def _tokens(text: str) -> list[str]:
    for pattern, spaced in _SPLITS:
        text = pattern.sub(spaced or (lambda found: f" {' '.join(filter(None, found.groups()))} "), text)
    return text.split()


def _end_sentence(found: re.Match[str]) -> str:
    """What a full stop within a caption becomes: a line ends after it, unless it belongs to an abbreviation."""
    word = found["word"].lstrip("\"'([{<`“‘«")
    is_initial = len(word) == 1 or word.isdigit()
    if is_initial or word in _ABBREVIATIONS or word.rpartition("-")[2] in _ABBREVIATIONS:
        return found[0]
    return f"{found['word']}.{found['closing']}\n"
