"""Which region answers which word: the data of a pair, and a picture of it."""

from regard.explain.alignment import Alignment
from regard.explain.picture import draw

__all__ = ["Alignment", "draw"]
