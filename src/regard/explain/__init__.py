"""Which region answers which word, what is in an image and in a sentence: as data, and as pictures."""

from regard.explain.alignment import Alignment
from regard.explain.alignment_picture import draw_alignment
from regard.explain.image_contents import ImageContents, draw_image
from regard.explain.sentence_graphs import draw_sentences

__all__ = ["Alignment", "ImageContents", "draw_alignment", "draw_image", "draw_sentences"]
