"""Draw an explanation: the image, the weights of regions and words, what the score loses without each word, and bars.

Two sentences are drawn in two columns, with what decides between them below.
"""

import os

from PIL import Image

from regard.explain.alignment_picture import HeatMap
from regard.explain.canvas import GAP, MARGIN, make_canvas, save_canvas
from regard.explain.explanation import Explanation
from regard.explain.explanation_view import ExplanationView, decisive_charts, views_of
from regard.explain.palette import INK
from regard.explain.panels import TITLE_FONT, Bars, Line, MarkedPhotograph, Panel, PanelColumn, PanelRow, Sentence
from regard.photographs import aspect_of, load_photograph

MIN_WIDTH = 6.0  # inches, of the panels of a sentence


def draw_explanation(
    explanation: Explanation,
    path: str | os.PathLike[str],
    photograph: Image.Image | str | os.PathLike[str] | None = None,
    aspect: float = 4 / 3,
) -> None:
    """Write the picture of an explanation to `path`, as PNG. A failed call leaves no file.

    Without a photograph, the boxes are drawn on a plain panel whose width is `aspect` times its height. Raises
    InputError if the photograph cannot be read.
    """
    photograph = load_photograph(photograph)
    aspect = aspect_of(photograph, aspect)
    views = views_of(explanation)
    if len(views) == 1:
        page: Panel = _page_of_one(views[0], photograph, aspect)
    else:
        columns = [sentence_column(view, photograph, aspect) for view in views]
        decisive = [Bars(chart) for chart in decisive_charts(explanation)]
        page = PanelColumn(
            [PanelRow(columns, 2 * GAP), *_packed(decisive, sum(column.width for column in columns))], 1.5 * GAP
        )
    title = PanelColumn([Line(text, size, INK, weight) for text, size, weight in _title(explanation)], 0.08)
    page = PanelColumn([title, page])
    axes = make_canvas(page.width + 2 * MARGIN, page.height + 2 * MARGIN)
    page.draw(axes, MARGIN, MARGIN)
    save_canvas(axes, path)


def sentence_column(view: ExplanationView, photograph: Image.Image | None, aspect: float) -> PanelColumn:
    """Return the panels of one sentence below each other."""
    panels = [*_pictures(view, photograph, aspect), *map(Bars, view.charts)]
    panels.insert(len(panels) - len(view.charts) - 1, _sentence(view, max(MIN_WIDTH, *(each.width for each in panels))))
    return PanelColumn(panels)


def _page_of_one(view: ExplanationView, photograph: Image.Image | None, aspect: float) -> PanelColumn:
    """The photograph beside the weights, the sentence, and the charts beside each other if there is room."""
    pictures = PanelRow(_pictures(view, photograph, aspect))
    width = max(MIN_WIDTH, pictures.width)
    return PanelColumn([pictures, _sentence(view, width), *_packed([Bars(chart) for chart in view.charts], width)])


def _pictures(view: ExplanationView, photograph: Image.Image | None, aspect: float) -> list[Panel]:
    """The photograph, unless there are neither a photograph nor boxes, and the weights."""
    heat = HeatMap(view.explanation.alignment, list(view.matched))
    if photograph is None and view.explanation.alignment.boxes is None:
        return [heat]
    return [MarkedPhotograph(view, photograph, aspect), heat]


def _sentence(view: ExplanationView, width: float) -> Sentence:
    costs = view.explanation.word_costs.tolist()
    return Sentence(view.explanation.alignment, costs, view.colour_of_word, view.colours, width)


def _packed(panels: list[Bars], width: float) -> list[PanelRow]:
    """The panels in rows: as many beside each other as fit."""
    rows: list[list[Bars]] = []
    for panel in panels:
        if rows and PanelRow([*rows[-1], panel], 2 * GAP).width <= width:
            rows[-1].append(panel)
        else:
            rows.append([panel])
    return [PanelRow(row, 2 * GAP) for row in rows]


def _title(explanation: Explanation) -> list[tuple[str, float, str]]:
    title = [(explanation.image_id, TITLE_FONT, "bold")] if explanation.image_id else []
    text = f"score {explanation.score:.3f}; each word has the colour of its best-matching region"
    if explanation.against is not None:
        text = (
            f"scores {explanation.score:.3f} (left) and {explanation.against.score:.3f} (right), a difference of "
            f"{explanation.margin:+.3f}; each word has the colour of its best-matching region"
        )
    return [*title, (text, 9.5, "normal")]
