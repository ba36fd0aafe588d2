"""One image of a data folder: its regions, those of its relations that make no hairball, its sentences; and a page."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from PIL import Image

from regard.batch import Images
from regard.boxes import RELATION_CLASSES, iou, relation_classes
from regard.data.layout import extraction_of, splits_of
from regard.data.split import Split
from regard.explain.canvas import (
    COLOURS,
    GAP,
    INK,
    MARGIN,
    PANEL,
    PAPER,
    PLAIN,
    MarkedRegion,
    draw_regions,
    draw_text,
    make_canvas,
    open_photograph,
    save_canvas,
)
from regard.explain.graph_drawing import Arrow, DisjointSets, GraphDrawing, Node, draw_graph, lay_out_near, shorten
from regard.explain.sentence_graphs import SentenceBlock
from regard.files import InputError, nearest
from regard.photographs import SUFFIXES
from regard.words.parser import Parse, own_parser

MAX_DEGREE = 2  # relations of one region, where not all are shown
MAX_NAMED = 20  # of more regions, the numbers alone are in the photograph
SAME_THING_IOU = 0.7  # boxes that overlap more show one thing twice
PALETTE = (*COLOURS, "#8a3b6b", "#47789e", "#c26a3d", "#5b5f97", "#2a7f62", "#9a7d0a")
# What a geometric class, which tells where the object lies, says of the subject.
SUBJECT_PREDICATE = {
    "right": "left of",
    "below right": "above left of",
    "below": "above",
    "below left": "above right of",
    "left": "right of",
    "above left": "below right of",
    "above": "below",
    "above right": "below left of",
}
WIDTH, LEAST, AIR = 12.5, 3.2, 0.35  # inches: of image and graph together, of the graph's height, below each part

Relation = tuple[int, str, int]  # region, what it is to the other, region
Photograph = Image.Image | str | os.PathLike[str] | None


@dataclass(frozen=True)
class ImageContents:
    """What is shown of one image. Regions go by their number in the data."""

    id: str
    split: str
    regions: tuple[int, ...]  # those shown
    labels: tuple[str, ...]  # class name of each shown region; "" where there is none
    boxes: Float[np.ndarray, "region 4"] | None  # of each shown region: x1 y1 x2 y2, fractions of the image
    relations: tuple[Relation, ...]  # those shown, the surest first
    places: bool  # the relations are only places, from the boxes
    num_regions: int  # that the image has
    num_relations: int
    sentences: tuple[str, ...]
    parses: tuple[Parse, ...]
    roles: bool  # the words' relations are the data's own
    photograph: Image.Image | None
    aspect: float  # width over height

    @classmethod
    def of(
        cls,
        split: Split,
        row: int,
        photograph: Photograph = None,
        *,
        regions: int = 12,
        relations: int = 12,
        sentences: int = 5,
    ) -> "ImageContents":
        """What is worth showing of the image at `row`: at most so many regions, relations and sentences.

        Relations are the data's own, else places from the boxes. Raises InputError where a number is negative.
        """
        for name, number in (("regions", regions), ("relations", relations), ("sentences", sentences)):
            if number < 0:
                raise InputError(f"{name} is {number}: want 0 or more.")
        photograph = open_photograph(photograph)
        images = split.images([row])
        labels = _labels(split, images)
        told = _stored_relations(split, row, len(labels))
        places = images.boxes is not None and (not told or split.predicates == RELATION_CLASSES)
        if places:
            shown = select_regions(images, labels, regions)
            chosen = relations_of_nearest_pairs(images, shown)[:relations]
        else:
            chosen = select_relations(told, labels, _overlap(images), regions, relations)
            shown = select_regions(
                images, labels, regions, dict.fromkeys(end for one, _, other in chosen for end in (one, other))
            )

        width, height = split.sizes[row].tolist() if split.sizes is not None else (4, 3)
        if photograph is not None:
            width, height = photograph.size
        texts = np.flatnonzero(split.image_of_text == row)[:sentences].tolist()
        return cls(
            id=split.ids[row],
            split=split.name,
            regions=tuple(shown),
            labels=tuple(labels[region] for region in shown),
            boxes=None if images.boxes is None else images.boxes[0, shown].numpy(),
            relations=tuple(chosen),
            places=places,
            num_regions=len(labels),
            num_relations=len(told),
            sentences=tuple(split.captions[text] for text in texts),
            parses=tuple(_parses(split, texts)),
            roles="roles" in split.fields,
            photograph=photograph,
            aspect=width / height,
        )

    def summary(self) -> str:
        """Which image, and what is shown of it."""
        shown = f"{len(self.regions)} of {self.num_regions} regions"
        if self.places:
            relations = f"{len(self.relations)} relations: places, from the boxes, of the nearest pairs"
        else:
            relations = f"{len(self.relations)} of {self.num_relations} relations in the data, the surest first"
        return f"{self.split}   ·   {shown}   ·   {relations}"


# Where things are -----------------------------------------------------------------------------------------------------


def find_image(folder: str | os.PathLike[str], image_id: str, split: str | None = None) -> tuple[Split, int]:
    """The split that holds an image, and its row there. Raises InputError for an unknown id, and for one of two splits.

    Without `split`, all of the folder are looked through.
    """
    splits = [Split.open(folder, name) for name in ([split] if split else splits_of(folder))]
    rows = [(each, list(each.ids)) for each in splits]
    there = [(each, ids.index(image_id)) for each, ids in rows if image_id in ids]
    if len(there) == 1:
        return there[0]
    if there:
        names = " and ".join(each.name for each, _ in there)
        raise InputError(f"{image_id} is in {names} of {folder}: choose one by --split.")
    if not splits:
        raise InputError(f"{folder} holds no *_ims.npy: give a data folder, as `regard data convert` writes it.")
    where = f"{folder} {split}" if split else str(folder)
    raise InputError(
        f"{where} has no image {image_id!r}. {nearest(image_id, (name for _, ids in rows for name in ids))}"
    )


def find_photograph(split: Split, row: int, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Where the photograph of an image lies: in `folder`, else where the data folder says, as extracted or as drawn.

    None where it is in none of them. Raises InputError where `folder` is given and has no such photograph.
    """
    name = split.ids[row]
    folders = [Path(folder)] if folder is not None else []
    if folder is None:
        if lying := extraction_of(split.folder).get("photographs"):
            folders.append(Path(lying))
        folders.append(split.folder / f"{split.name}_pictures")
    tried = [place / f"{name}{suffix}" for place in folders for suffix in ("", *SUFFIXES, *map(str.upper, SUFFIXES))]
    found = next((path for path in tried if path.is_file()), None)
    if folder is not None and not found:
        raise InputError(f"{folder} holds no photograph of {name}: want {name}, or {name}.jpg and its like, there.")
    return found


# What is shown --------------------------------------------------------------------------------------------------------


def select_relations(
    told: Sequence[Relation],
    labels: Sequence[str],
    overlap: Float[np.ndarray, "region region"],
    regions: int,
    relations: int,
) -> list[Relation]:
    """The first relations that make no hairball: at most so many, among at most so many regions.

    If there are more, a relation is kept only if it is among the first MAX_DEGREE of both its regions and the first of
    its pair and of its names ("man wearing shirt"). If several boxes show one thing, only the box of its first relation
    is used.
    """
    many = len(told) > relations or len({end for one, _, other in told for end in (one, other)}) > regions
    chosen: list[Relation] = []
    degree: Counter[int] = Counter()
    known: set[object] = set()
    for one, said, other in told:
        news = [frozenset((one, other)), (labels[one] or one, said, labels[other] or other)]
        again = any(
            overlap[end, seen] > SAME_THING_IOU for end in (one, other) for seen in degree if seen not in (one, other)
        )
        if many and (max(degree[one], degree[other]) >= MAX_DEGREE or not known.isdisjoint(news) or again):
            continue
        if len(chosen) < relations and len(degree.keys() | {one, other}) <= regions:
            chosen.append((one, said, other))
            degree.update((one, other))
            known.update(news)
    return chosen


def relations_of_nearest_pairs(images: Images, regions: Sequence[int]) -> list[Relation]:
    """Where regions lie, from larger ones: of the nearest pairs, MAX_DEGREE a region, none that closes a ring."""
    assert images.boxes is not None
    boxes = images.boxes.float()
    classes, area = relation_classes(boxes)[0].tolist(), _areas(images)
    centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
    pairs = sorted(combinations(regions, 2), key=lambda pair: float((centres[pair[0]] - centres[pair[1]]).norm()))
    chosen: list[Relation] = []
    degree: Counter[int] = Counter()
    groups = DisjointSets(len(centres))
    for pair in pairs:
        one, other = sorted(pair, key=lambda region: area[region])
        said = RELATION_CLASSES[classes[one][other]]
        if classes[one][other] and max(degree[one], degree[other]) < MAX_DEGREE and groups.join(one, other):
            chosen.append((one, SUBJECT_PREDICATE.get(said, said), other))
            degree.update((one, other))
    return chosen


def select_regions(images: Images, labels: Sequence[str], limit: int, first: Iterable[int] = ()) -> list[int]:
    """The regions `first` and then the largest, labelled ones alone where there are labels; no thing twice."""
    chosen, area, some_labelled = list(first), _areas(images), any(labels)
    overlap = _overlap(images)
    for region in sorted(range(len(labels)), key=lambda region: -area[region]):
        twice = any(overlap[region, other] > SAME_THING_IOU for other in chosen)
        if len(chosen) < limit and region not in chosen and not twice and (labels[region] or not some_labelled):
            chosen.append(region)
    return chosen


def _areas(images: Images) -> list[float]:
    if images.boxes is None:
        return [0.0] * images.mask.shape[1]
    return (images.boxes[0, :, 2:] - images.boxes[0, :, :2]).clamp(min=0).prod(1).tolist()


def _overlap(images: Images) -> Float[np.ndarray, "region region"]:
    boxes = torch.zeros(1, images.mask.shape[1], 4) if images.boxes is None else images.boxes.float()
    return iou(boxes)[0].numpy()


def _labels(split: Split, images: Images) -> list[str]:
    """The class name of each real region."""
    if images.labels is None:
        return [""] * int(images.mask.sum())
    return [split.classes[number] if number else "" for number in images.labels[images.mask].tolist()]


def _stored_relations(split: Split, row: int, num_regions: int) -> list[Relation]:
    """The image's relations in the data, the surest first; of one pair's, the surest alone."""
    found = split.relations
    if found is None:
        return []
    own = slice(*found.bounds[row : row + 2].tolist())
    order = np.argsort(-found.confidence[own].astype(np.float32), kind="stable") + own.start
    told: dict[tuple[int, int], str] = {}
    for at in order.tolist():
        pair = int(found.source[at]), int(found.target[at])
        if found.confidence[at] >= split.relation_threshold and max(pair) < num_regions and pair[0] != pair[1]:
            told.setdefault(pair, found.names[found.label[at]])
    return [(one, said, other) for (one, other), said in told.items()]


def _parses(split: Split, texts: Sequence[int]) -> list[Parse]:
    """Parsed by our own parser; the edges are the data's where they are roles."""
    parses = own_parser()([split.captions[text] for text in texts])
    stored = split.text_relations
    if stored is None or "roles" not in split.fields:
        return parses
    for number, text in enumerate(texts):
        own = slice(*stored.bounds[text : text + 2].tolist())
        edges = zip(stored.source[own].tolist(), stored.target[own].tolist(), stored.label[own].tolist(), strict=True)
        limit = len(parses[number].words)
        kept = tuple(edge for edge in edges if max(edge[:2]) < limit and edge[0] != edge[1])
        parses[number] = replace(parses[number], edges=kept)
    return parses


# The page -------------------------------------------------------------------------------------------------------------


def draw_image(look: ImageContents, path: str | os.PathLike[str]) -> None:
    """Write the page to `path` as PNG, whole or not at all: the image, the graph of its regions, its sentences."""
    colour_of = {region: PALETTE[place % len(PALETTE)] for place, region in enumerate(look.regions)}
    named = Counter(look.labels)
    alone = {label: region for region, label in zip(look.regions, look.labels, strict=True) if named[label] == 1}
    colours = {label: colour_of[region] for label, region in alone.items() if label}

    image = (min(PANEL, PANEL * look.aspect), min(PANEL, PANEL / look.aspect))
    graph = region_graph(look, colour_of, (WIDTH - image[0], max(image[1], LEAST)))
    body = max(image[1], graph.size[1])
    columns, width = columns_of(look, image[0] + GAP + graph.size[0], colours)
    height = max(map(_height, columns))

    top = MARGIN + 0.6
    axes = make_canvas(width + 2 * MARGIN, top + body + AIR + height + 0.2 + MARGIN)
    draw_text(axes, MARGIN, MARGIN + 0.08, look.id, 13.0, INK, weight="bold")
    draw_text(axes, MARGIN, MARGIN + 0.34, look.summary(), 9.5, PLAIN)
    tags = [node.name if len(graph.nodes) <= MAX_NAMED else node.name.split()[0] for node in graph.nodes]
    marked = [MarkedRegion(place, node.colour, tags[place]) for place, node in enumerate(graph.nodes)]
    above = top + (body - image[1]) / 2
    draw_regions(axes, look.boxes, marked, look.photograph, (MARGIN, above, MARGIN + image[0], above + image[1]))
    left, above = MARGIN + image[0] + GAP, top + (body - graph.size[1]) / 2
    axes.add_patch(Rectangle((left, above), *graph.size, fill=False, edgecolor=PAPER, lw=1.2))
    draw_graph(axes, graph, left, above)
    for number, column in enumerate(columns):
        left, y = MARGIN + number * (width + GAP) / 2, top + body + AIR
        for block in column:
            block.draw(axes, left, y)
            y += block.height + AIR
    note = "relations of words in the data" if look.roles else "sentences parsed by Regard"
    note += "; a thing has the colour of the one region of its name"
    if look.sentences:
        draw_text(axes, MARGIN, top + body + AIR + height + 0.1, note, 9.0, PLAIN)
    save_canvas(axes, path)


def region_graph(look: ImageContents, colour_of: Mapping[int, str], size: tuple[float, float]) -> GraphDrawing:
    """The shown regions about where their boxes' centres are, and on an ellipse where there are no boxes."""
    labels = zip(look.regions, look.labels, strict=True)
    nodes = [Node(shorten(f"{region}  {label}".strip()), (), colour_of[region]) for region, label in labels]
    angle = np.linspace(0, 2 * np.pi, len(nodes), endpoint=False)
    centres = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.4 + 0.5
    if look.boxes is not None:
        centres = (look.boxes[:, :2] + look.boxes[:, 2:]).astype(np.float64) / 2
        # Half as they are, half evenly spread: crowds come apart, and left stays left.
        centres = (centres + (centres.argsort(0, kind="stable").argsort(0) + 0.5) / max(len(nodes), 1)) / 2
    place = {region: number for number, region in enumerate(look.regions)}
    arrows = [Arrow(place[one], place[other], said) for one, said, other in look.relations]
    return lay_out_near(nodes, arrows, centres, size)


def columns_of(
    look: ImageContents, width: float, colours: Mapping[str, str]
) -> tuple[list[list[SentenceBlock]], float]:
    """The sentences in two columns of about one height, or in one where a graph is wider; and how wide all is."""
    told, half = list(zip(look.sentences, look.parses, strict=True)), (width - GAP) / 2
    blocks = [SentenceBlock.of(sentence, parse, half, colours) for sentence, parse in told]
    if any(block.width > half for block in blocks):
        blocks = [SentenceBlock.of(sentence, parse, width, colours) for sentence, parse in told]
        return [blocks], max(width, *(block.width for block in blocks))
    columns: list[list[SentenceBlock]] = [[], []]
    for block in blocks:
        min(columns, key=_height).append(block)
    return columns, width


def _height(column: Sequence[SentenceBlock]) -> float:
    return sum((block.height + AIR for block in column), 0.0)
