"""Match the ids of images between two files that write them in different forms.

`COCO_val2014_000000391895.jpg`, `000000391895` and `391895` are one image in the files of different detectors.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

_SENTENCE_NUMBER = re.compile(r"#(?:\w+#)?\d+$")  # 1000268201.jpg#4 of Flickr, 1000268201.jpg#zhm#4 of Flickr8k-CN
_SUFFIX = re.compile(r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)


def without_sentence_number(name: str) -> str:
    """Return an id without the number of a sentence, such as `#4`."""
    return _SENTENCE_NUMBER.sub("", name)


def sentence_number(name: str) -> int | None:
    """Return the number of a sentence at the end of an id; None if it has none."""
    found = _SENTENCE_NUMBER.search(name)
    return int(found[0].rpartition("#")[2]) if found else None


def match_ids(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the known id of each wanted id that has one.

    An id matches the same id; otherwise the one known id with the same stem (without folder, image suffix and the
    number of a sentence, ignoring case); otherwise as in `match_numbers`. Ids of which two match one known id in such a
    form are left out.
    """
    wanted, known = list(dict.fromkeys(wanted)), set(known)
    matches = {name: name for name in known.intersection(wanted)}
    for match in (_match_stems, match_numbers):
        free = known - set(matches.values())
        matches |= match([name for name in wanted if name not in matches], free)
    return matches


def match_numbers(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the known id of each wanted id with the same number, if one of the two is only a number.

    The number is that at the end of the stem, without leading zeros. It must be that of one id on either side.
    """
    matches = _match_by(_number, wanted, known)
    return {name: other for name, other in matches.items() if _stem(name).isdigit() or _stem(other).isdigit()}


def show_ids(names: Iterable[str], count: int = 2) -> str:
    """Return the first ids in quotes, for a message that shows what the ids of a file look like."""
    return ", ".join(repr(name) for name, _ in zip(names, range(count), strict=False)) or "none"


def _match_stems(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    return _match_by(_stem, wanted, known)


def _match_by(form: Callable[[str], str | None], wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Match ids of which one on either side has the same form."""
    own, other = _unique(wanted, form), _unique(known, form)
    return {name: other[key] for key, name in own.items() if key in other}


def _unique(names: Iterable[str], form: Callable[[str], str | None]) -> dict[str, str]:
    """The names by their form, without those that share it."""
    groups = defaultdict(list)
    for name in names:
        groups[form(name)].append(name)
    return {key: own[0] for key, own in groups.items() if key is not None and len(own) == 1}


def _stem(name: str) -> str:
    name = re.split(r"[/\\]", without_sentence_number(name))[-1]
    return unicodedata.normalize("NFC", _SUFFIX.sub("", name)).casefold()


def _number(name: str) -> str | None:
    found = re.search(r"(?:^|_)([0-9]+)$", _stem(name))
    return found[1].lstrip("0") or "0" if found else None
