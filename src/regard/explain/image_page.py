"""Draw the page of one image: the image with its regions, the graph of their relations, the sentences with theirs."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from regard.explain.canvas import GAP, MARGIN, PANEL, draw_regions, draw_text, make_canvas, save_canvas
from regard.explain.graph_drawing import Arrow, GraphDrawing, Node, draw_graph, shorten
from regard.explain.graph_layout import lay_out_near
from regard.explain.image_contents import ImageContents
from regard.explain.palette import COLOURS, INK, PAPER, PLAIN, MarkedRegion
from regard.explain.sentence_graphs import SentenceBlock

MAX_TAGS = 20  # if more regions are shown, their tags are numbers without class names
PALETTE = (*COLOURS, "#8a3b6b", "#47789e", "#c26a3d", "#5b5f97", "#2a7f62", "#9a7d0a")
# Inches: image and graph together; the least height of the graph; the space below the panels and each sentence.
WIDTH, MIN_GRAPH_HEIGHT, SPACE = 12.5, 3.2, 0.35


def draw_image(contents: ImageContents, path: str | os.PathLike[str]) -> None:
    """Write the page of an image to `path`, as PNG. A failed call leaves no file."""
    colour_of = {region: PALETTE[place % len(PALETTE)] for place, region in enumerate(contents.regions)}
    counts = Counter(contents.labels)
    # A thing in a sentence gets a region's colour only if exactly one shown region has its name.
    labelled = zip(contents.labels, contents.regions, strict=True)
    colours = {label: colour_of[region] for label, region in labelled if label and counts[label] == 1}

    image_width, image_height = min(PANEL, PANEL * contents.aspect), min(PANEL, PANEL / contents.aspect)
    graph = region_graph(contents, colour_of, (WIDTH - image_width, max(image_height, MIN_GRAPH_HEIGHT)))
    body = max(image_height, graph.size[1])
    columns, width = sentence_columns(contents, image_width + GAP + graph.size[0], colours)
    height = max(map(_height, columns))

    top = MARGIN + 0.6
    axes = make_canvas(width + 2 * MARGIN, top + body + SPACE + height + 0.2 + MARGIN)
    draw_text(axes, MARGIN, MARGIN + 0.08, contents.id, 13.0, INK, weight="bold")
    draw_text(axes, MARGIN, MARGIN + 0.34, contents.summary(), 9.5, PLAIN)
    tags = [node.name if len(graph.nodes) <= MAX_TAGS else node.name.split()[0] for node in graph.nodes]
    marked = [MarkedRegion(place, node.colour, tags[place]) for place, node in enumerate(graph.nodes)]
    image_top = top + (body - image_height) / 2
    frame = (MARGIN, image_top, MARGIN + image_width, image_top + image_height)
    draw_regions(axes, contents.boxes, marked, contents.photograph, frame)
    left, graph_top = MARGIN + image_width + GAP, top + (body - graph.size[1]) / 2
    axes.add_patch(Rectangle((left, graph_top), *graph.size, fill=False, edgecolor=PAPER, lw=1.2))
    draw_graph(axes, graph, left, graph_top)
    for number, column in enumerate(columns):
        left, y = MARGIN + number * (width + GAP) / 2, top + body + SPACE
        for block in column:
            block.draw(axes, left, y)
            y += block.height + SPACE
    note = "word relations from the data" if contents.has_roles else "sentences parsed by Regard"
    note += "; a word has the colour of a region if only that region has its name"
    if contents.sentences:
        draw_text(axes, MARGIN, top + body + SPACE + height + 0.1, note, 9.0, PLAIN)
    save_canvas(axes, path)


def region_graph(contents: ImageContents, colour_of: Mapping[int, str], size: tuple[float, float]) -> GraphDrawing:
    """Lay out the graph of the shown regions: near the centres of their boxes, or on an ellipse if there are no boxes.

    `size` is the least width and height of the graph, in inches.
    """
    labels = zip(contents.regions, contents.labels, strict=True)
    nodes = [Node(shorten(f"{region}  {label}".strip()), (), colour_of[region]) for region, label in labels]
    angle = np.linspace(0, 2 * np.pi, len(nodes), endpoint=False)
    centres = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.4 + 0.5
    if contents.boxes is not None:
        centres = (contents.boxes[:, :2] + contents.boxes[:, 2:]).astype(np.float64) / 2
        # The mean of the true and of evenly spread positions: crowded nodes come apart, and the order is kept.
        centres = (centres + (centres.argsort(0, kind="stable").argsort(0) + 0.5) / max(len(nodes), 1)) / 2
    place = {region: number for number, region in enumerate(contents.regions)}
    arrows = [Arrow(place[subject], place[object_], predicate) for subject, predicate, object_ in contents.relations]
    return lay_out_near(nodes, arrows, centres, size)


def sentence_columns(
    contents: ImageContents, width: float, colours: Mapping[str, str]
) -> tuple[list[list[SentenceBlock]], float]:
    """Return the sentences in two columns of similar height, and the width of the page.

    If the graph of a sentence is wider than a column, return one column, and widen the page if it must.
    """
    parsed, half = list(zip(contents.sentences, contents.parses, strict=True)), (width - GAP) / 2
    blocks = [SentenceBlock.of(sentence, parse, half, colours) for sentence, parse in parsed]
    if any(block.width > half for block in blocks):
        blocks = [SentenceBlock.of(sentence, parse, width, colours) for sentence, parse in parsed]
        return [blocks], max(width, *(block.width for block in blocks))
    columns: list[list[SentenceBlock]] = [[], []]
    for block in blocks:
        min(columns, key=_height).append(block)
    return columns, width


def _height(column: Sequence[SentenceBlock]) -> float:
    return sum((block.height + SPACE for block in column), 0.0)
