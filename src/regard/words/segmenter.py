"""Cut sentences into words, also those of scripts without spaces, which need the dictionaries of ICU."""

from collections.abc import Callable
from functools import cache
from typing import Literal

from regard.files import InputError, missing_extra
from regard.words.scripts import is_unspaced
from regard.words.tokens import tokenize

Segmenter = Literal["none", "icu"]


@cache
def segmenter_named(name: str) -> Callable[[str], list[str]]:
    """Return the function from a sentence to its words.

    "none" is `tokenize`. "icu" also cuts its words where they are in a script without spaces, such as Chinese, Japanese
    or Thai. Raises InputError for another name, and if ICU is not installed.
    """
    if name == "none":
        return tokenize
    if name != "icu":
        raise InputError(f"There is no segmenter {name!r}: expected none or icu.")
    try:
        from icu4py.breakers import WordBreaker
    except ModuleNotFoundError:
        raise missing_extra(f"words.segmenter={name} needs ICU", "segment") from None

    def words(sentence: str) -> list[str]:
        """The rules of the locale do not matter: ICU chooses a dictionary by the script."""
        parts = [WordBreaker(word, "en") if is_unspaced(word) else [word] for word in tokenize(sentence)]
        return [word for part in parts for word in part if any(map(str.isalnum, word))]

    return words
