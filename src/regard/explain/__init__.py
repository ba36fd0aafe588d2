"""Show what a model and the data contain: explanations, alignments, images, sentences; as data, pictures and pages.

Data are computed by `explanation` (with `alignment` and `relation_effects`) and `image_contents`. Pictures are drawn by
`explanation_picture`, `alignment_picture`, `image_page` and `sentence_graphs`, on a `canvas`; `explanation_page` writes
HTML. Graphs are laid out by `graph_layout` and drawn by `graph_drawing`. Only drawing imports matplotlib.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard.explain.alignment import Alignment
    from regard.explain.alignment_picture import draw_alignment
    from regard.explain.explanation import Explanation
    from regard.explain.explanation_page import write_explanation_page
    from regard.explain.explanation_picture import draw_explanation
    from regard.explain.image_contents import ImageContents
    from regard.explain.image_page import draw_image
    from regard.explain.sentence_graphs import draw_sentences

_WHERE = {
    "Alignment": "alignment",
    "Explanation": "explanation",
    "ImageContents": "image_contents",
    "draw_alignment": "alignment_picture",
    "draw_explanation": "explanation_picture",
    "draw_image": "image_page",
    "draw_sentences": "sentence_graphs",
    "write_explanation_page": "explanation_page",
}

__all__ = [
    "Alignment",
    "Explanation",
    "ImageContents",
    "draw_alignment",
    "draw_explanation",
    "draw_image",
    "draw_sentences",
    "write_explanation_page",
]


def __getattr__(name: str) -> Any:
    """Import on first use: data are computed and written without matplotlib."""
    if name not in _WHERE:
        raise AttributeError(f"module 'regard.explain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"regard.explain.{_WHERE[name]}"), name)
