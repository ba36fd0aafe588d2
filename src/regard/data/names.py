"""Match the names of classes and predicates between two lists that number them differently."""

from collections.abc import Callable, Sequence

import numpy as np


def normalize_name(name: str) -> str:
    """Return the name in the form that is compared. Annotators write `Man` and `man `."""
    return name.strip().lower()


def renumbering(
    names: Sequence[str], others: Sequence[str], unknown: int = 0, normalize: Callable[[str], str] = normalize_name
) -> np.ndarray:
    """Return int64 [name]: the number of each name in another list, or `unknown`.

    Names are compared after `normalize`. The first name, "none", keeps the number 0.
    """
    number = {normalize(name): place for place, name in enumerate(others)}
    return np.array([0, *(number.get(normalize(name), unknown) for name in names[1:])], np.int64)
