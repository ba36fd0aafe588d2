"""Draw two pictures of the same things in different relations, each with its sentence, and what models make of them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from PIL import Image

from regard.explain.alignment import Alignment
from regard.explain.alignment_picture import WORD_FONT, draw_word
from regard.explain.canvas import GAP, MARGIN, make_canvas, save_canvas, text_size, tint
from regard.explain.explanation import Explanation
from regard.explain.explanation_view import BarChart, ExplanationView, RelationArrow
from regard.explain.palette import COLOURS, INK, PAPER, MarkedRegion
from regard.explain.panels import Bars, MarkedPhotograph, PanelColumn, PanelRow
from regard.photographs import aspect_of, load_photograph
from regard.words.parser import OBJECT, SUBJECT, own_parser


@dataclass(frozen=True)
class TwinFact:
    """The first relation of a sentence between two things, and the regions that a model matched them to."""

    words: tuple[int, int, int]  # places of subject, predicate and object in the sentence
    regions: tuple[int, int]  # of subject and object

    @classmethod
    def of(cls, alignment: Alignment) -> "TwinFact | None":
        """Return the fact of an alignment's sentence; None if it has none, or if a thing has no region of its own."""
        (parse,) = own_parser()([" ".join(alignment.words)])
        best = alignment.best_regions()
        for predicate in range(len(parse.words)):
            for subject in parse.dependents(predicate, SUBJECT):
                for object_ in parse.dependents(predicate, OBJECT):
                    regions = int(best[subject]), int(best[object_])
                    if min(regions) >= 0 and regions[0] != regions[1]:
                        return cls((subject, predicate, object_), regions)
        return None


@dataclass(frozen=True)
class Chips:
    """The words of a sentence on chips, some of them in colours."""

    words: Sequence[str]
    colour_of: Mapping[int, str]

    @property
    def widths(self) -> list[float]:
        return [text_size(word, WORD_FONT)[0] + 0.3 for word in self.words]

    @property
    def width(self) -> float:
        return sum(self.widths)

    @property
    def height(self) -> float:
        return 0.4

    def draw(self, axes: Axes, left: float, top: float) -> None:
        for at, (word, width) in enumerate(zip(self.words, self.widths, strict=True)):
            draw_word(axes, left + 0.08, top + 0.2, word, tint(self.colour_of.get(at, PAPER), 1.0))
            left += width


def draw_twins(
    twins: Sequence[Explanation],
    photographs: Sequence[Image.Image | str | os.PathLike[str] | None],
    charts: Sequence[BarChart],
    path: str | os.PathLike[str],
) -> None:
    """Write a picture of two explanations beside each other to `path`, as PNG, each with one of the `charts` below.

    A thing has one colour in both sentences and in both pictures. An arrow goes from the subject of each sentence to
    its object. A failed call leaves no file. Raises InputError if a photograph cannot be read.
    """
    colours: dict[str, str] = {}
    columns = []
    for explanation, photograph, chart in zip(twins, map(load_photograph, photographs), charts, strict=True):
        alignment, fact = explanation.alignment, TwinFact.of(explanation.alignment)
        boxes: list[MarkedRegion] = []
        arrows: list[RelationArrow] = []
        colour_of: dict[int, str] = {}
        if fact is not None:
            subject, predicate, object_ = fact.words
            for word, region in zip((subject, object_), fact.regions, strict=True):
                name = alignment.words[word]
                colour_of[word] = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
                boxes.append(MarkedRegion(region, colour_of[word], name))
            colour_of[predicate] = INK
            arrows.append(RelationArrow(*fact.regions, INK, alignment.words[predicate]))
        view = ExplanationView(explanation, (), tuple(boxes), tuple(arrows), ())
        aspect = aspect_of(photograph, 4 / 3)
        picture = MarkedPhotograph(view, photograph, aspect)
        columns.append(PanelColumn([Chips(alignment.words, colour_of), picture, Bars(chart)], 0.2))
    page = PanelRow(columns, 2 * GAP)
    axes = make_canvas(page.width + 2 * MARGIN, page.height + 2 * MARGIN)
    page.draw(axes, MARGIN, MARGIN)
    save_canvas(axes, path)
