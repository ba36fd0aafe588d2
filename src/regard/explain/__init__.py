"""Show what a model and the data contain: alignments of regions and words, images, sentences; as data and pictures.

Data are computed by `alignment` and `image_contents`; pictures are drawn by `alignment_picture`, `image_page` and
`sentence_graphs`, on a `canvas`. Graphs are laid out by `graph_layout` and drawn by `graph_drawing`.
"""

from regard.explain.alignment import Alignment
from regard.explain.alignment_picture import draw_alignment
from regard.explain.image_contents import ImageContents
from regard.explain.image_page import draw_image
from regard.explain.sentence_graphs import draw_sentences

__all__ = ["Alignment", "ImageContents", "draw_alignment", "draw_image", "draw_sentences"]
