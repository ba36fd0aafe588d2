"""Names of classes and predicates, matched between two lists that number them differently."""

from collections.abc import Callable, Sequence

import numpy as np


def normalize_name(name: str) -> str:
    """The name as it is compared: annotators write `Man` and `man `."""
    return name.strip().lower()


def renumbering(
    names: Sequence[str], others: Sequence[str], unknown: int = 0, alike: Callable[[str], str] = normalize_name
) -> np.ndarray:
    """int64 [name]: the number on another list of each name, or of one `alike`; the first, "none", stays 0."""
    number = {alike(name): place for place, name in enumerate(others)}
    return np.array([0, *(number.get(alike(name), unknown) for name in names[1:])], np.int64)
