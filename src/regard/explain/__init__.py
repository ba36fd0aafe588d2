"""Which region answers which word, what is in an image and in a sentence: as data, and as pictures."""

from regard.explain.alignment import Alignment
from regard.explain.image import Look, draw_look, look
from regard.explain.picture import draw
from regard.explain.sentences import draw_sentences

__all__ = ["Alignment", "Look", "draw", "draw_look", "draw_sentences", "look"]
