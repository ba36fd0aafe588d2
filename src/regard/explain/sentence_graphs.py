"""Draw sentences with their graphs: things with their attributes, and relations as arrows."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from regard.explain.canvas import MARGIN, draw_text, make_canvas, save_canvas, text_size
from regard.explain.graph_drawing import SLATE, Arrow, GraphDrawing, Node, draw_graph, shorten
from regard.explain.graph_layout import lay_out_columns
from regard.explain.palette import INK, PLAIN
from regard.words.parser import ATTRIBUTE, OBJECT, SUBJECT, Parse

FONT, LINE_HEIGHT = 11.0, 0.23  # of the sentence above its graph: points, inches
WIDTH = 9.0
MAX_LINES = 6  # of one sentence


def draw_sentences(sentences: Sequence[str], parses: Sequence[Parse], path: str | os.PathLike[str]) -> None:
    """Write the sentences with their graphs, one below the other, to `path`, as PNG. A failed call leaves no file.

    Raises InputError if the picture would be too large.
    """
    blocks = [SentenceBlock.of(sentence, parse, WIDTH) for sentence, parse in zip(sentences, parses, strict=True)]
    width = max((block.width for block in blocks), default=0.0)
    space = 0.4
    axes = make_canvas(width + 2 * MARGIN, sum(block.height + space for block in blocks) - space + 2 * MARGIN)
    top = MARGIN
    for number, block in enumerate(blocks):
        if number:
            axes.hlines(top - space / 2, MARGIN, MARGIN + width, "#e3e1db", lw=0.8)
        block.draw(axes, MARGIN, top)
        top += block.height + space
    save_canvas(axes, path)


@dataclass(frozen=True)
class SentenceBlock:
    """A sentence in lines, and its graph below."""

    lines: tuple[str, ...]
    graph: GraphDrawing
    width: float

    @classmethod
    def of(cls, sentence: str, parse: Parse, width: float, colours: Mapping[str, str] | None = None) -> "SentenceBlock":
        """Lay out a sentence and its graph in `width` inches. A graph that does not fit makes the block wider.

        `colours` gives the colours of things by name.
        """
        num_characters = max(int(width / text_size("n", FONT)[0]), 1)
        lines = textwrap.wrap(sentence, num_characters, max_lines=MAX_LINES, placeholder=" …") or ["(no words)"]
        graph = lay_out_columns(*sentence_graph(parse, colours or {}), width)
        return cls(tuple(lines), graph, max(graph.size[0], *(text_size(line, FONT)[0] for line in lines)))

    @property
    def height(self) -> float:
        return LINE_HEIGHT * len(self.lines) + 0.12 + max(self.graph.size[1], LINE_HEIGHT)

    def draw(self, axes: Axes, left: float, top: float) -> None:
        for number, line in enumerate(self.lines):
            draw_text(axes, left, top + (number + 0.5) * LINE_HEIGHT, line, FONT, INK)
        top += LINE_HEIGHT * len(self.lines) + 0.12
        if self.graph.nodes:
            draw_graph(axes, self.graph, left, top)
        else:
            draw_text(axes, left, top + LINE_HEIGHT / 2, "nothing found", 9.0, PLAIN)


def sentence_graph(parse: Parse, colours: Mapping[str, str]) -> tuple[list[Node], list[Arrow]]:
    """Return the graph of a sentence: its things in order, their attributes as chips, its relations as arrows.

    A predicate with only a subject or only an object ("a dog runs") is a chip of that thing.
    """
    chips: dict[int, list[str]] = {}
    for head, word, role in parse.edges:
        if role == ATTRIBUTE and not parse.possessor(word):
            chips.setdefault(head, []).append(parse.name(word))
        ends = [*parse.dependents(head, SUBJECT), *parse.dependents(head, OBJECT)]
        if role in (SUBJECT, OBJECT) and ends == [word] and parse.name(head) not in chips.get(word, []):
            chips.setdefault(word, []).append(parse.name(head))
    ends_of_links = {end for one, _, other in parse.links for end in (one, other)}
    places = sorted({*parse.places, *chips, *ends_of_links})
    number = {place: at for at, place in enumerate(places)}
    nodes = []
    for place in places:
        name, own = parse.thing(place), dict.fromkeys(map(shorten, chips.get(place, ())))
        nodes.append(Node(shorten(name), tuple(own), colours.get(name, SLATE)))
    return nodes, [Arrow(number[one], number[other], predicate) for one, predicate, other in parse.links]
