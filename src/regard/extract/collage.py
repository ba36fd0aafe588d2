"""Compose cut-outs of photographs into pictures with exact relations, and twins. `regard data collage PHOTOS`.

Each picture shows two things, cut out of two photographs, on a third one. Its twin is the same picture with the two
things in exchanged places. Things are far harder to recognise than in Scenes and their relations as certain.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from regard.data.layout import Files, extraction_of
from regard.data.lines import Lines, write_lines
from regard.data.relation_files import IMAGE_FILE, Triples
from regard.data.rows import NpyWriter, save_array
from regard.data.twins import save_twins
from regard.extract.extractor import ComposedExtractor, Detections
from regard.extract.options import Options
from regard.files import InputError, check_new_folder, parse_json, replacing
from regard.photographs import decode_photograph, list_photographs
from regard.relations.from_sentences import parse_split
from regard.relations.places import CONVERSE, PREDICATES, Fact, intersections, places, state, triples_of

KIND = "exchange"
SIDE = 640  # pixels of the longer side of a picture
MIN_SIDE = 48  # pixels of the shorter side of a cut-out
MAX_ASPECT = 8  # of a cut-out: its longer side over its shorter one. A thinner one would be all edge when it is pasted
EXTENT = (0.30, 0.42)  # of a thing: the larger of its width and height, in fractions of the picture
PLACES = (0.26, 0.74)  # of the two centres along the axis in which they differ
JITTER = 0.04  # of a centre
FEATHER = 3  # pixels over which the edge of a cut-out fades
SENTENCES = 5  # per picture
QUALITY = 92  # of the JPEG files
BATCH = 8  # pictures per call of the backbone
ATTEMPTS = 200  # to find two things and a background for a picture
PARTS = {"train": 0.7, "dev": 0.85, "test": 1.0}  # cumulative shares of the photographs, if all splits are made

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Photograph:
    """A photograph and what is in it."""

    name: str
    boxes: np.ndarray  # float [thing, 4], fractions of the photograph
    names: tuple[str, ...]  # classes of the things
    is_usable: np.ndarray  # bool [thing]: can be cut out

    @property
    def cutouts(self) -> list[int]:
        return np.flatnonzero(self.is_usable).tolist()


@dataclass(frozen=True)
class Collage:
    """A picture to compose: a background, and two things with their places."""

    background: str
    names: tuple[str, str]  # classes of the two things
    sources: tuple[str, str]  # their photographs
    cuts: np.ndarray  # float [2, 4], their boxes in these
    boxes: np.ndarray  # float [2, 4], their boxes in the picture

    def exchanged(self) -> "Collage":
        """Return the twin: the centres of the two things are exchanged, and each keeps its size."""
        centres, halves = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2, (self.boxes[:, 2:] - self.boxes[:, :2]) / 2
        boxes = np.concatenate([centres[::-1] - halves, centres[::-1] + halves], 1)
        return Collage(self.background, self.names, self.sources, self.cuts, boxes)


def make_collages(
    photographs: Path,
    out: Path,
    options: dict[str, Any] | None = None,
    *,
    like: Path | None = None,
    boxes: Path | None = None,
    train: int = 1000,
    dev: int = 100,
    test: int = 100,
    seed: int = 0,
    sure: float = 0.5,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, int]:
    """Compose pictures of the photographs under a folder, and write them to the new data folder `out`.

    `options` are fields of `Options` by name, or those of the data folder `like`. The things to cut out are those of
    the file `boxes` (`read_boxes`), or else the detections with a score of at least `sure`. `train`, `dev` and `test`
    are the numbers of pictures; half of them are twins of the others. No two splits have pictures of the same
    photograph. The features are those of the known boxes and of windows. The same seed makes the same pictures.
    Returns the number of photographs per split. `progress(done, total)` is called with numbers of pictures.

    Raises InputError for unusable input, and if the photographs of a split have too few things.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    if odd := [f"--{name} {count}" for name, count in sizes.items() if count % 2]:
        raise InputError(f"{' '.join(odd)}: expected even numbers, because each picture has a twin.")
    check_new_folder(out)
    if not 0 <= sure <= 1:
        raise InputError(f"--sure {sure}: expected a score from 0 to 1.")
    if min(sizes.values()) < 0 or not any(sizes.values()):
        raise InputError(f"Expected two pictures or more, got {train} for train, {dev} for dev and {test} for test.")
    stored = extraction_of(like) if like else {}
    if like and not stored:
        raise InputError(f"--like {like}: expected a folder that `regard extract` wrote.")
    resolved = Options.resolve(options or {}, stored.get("options", {}), like or out).with_precision(device)
    extractor = resolved.extractor(device)
    listed = list_photographs(photographs)
    known = read_boxes(boxes) if boxes else None
    if known is not None:
        if not set(known) & set(listed):
            raise InputError(f"{boxes} names no photograph of {photographs}, such as {listed[0]!r}.")
        listed = [name for name in listed if name in known]
    if known is None and extractor.detector is None:
        raise InputError("Nothing says what to cut out: pass --boxes FILE, --detector MODEL or --like DIR.")
    album = [_look(photographs, name, known, extractor, sure) for name in listed]
    classes = ("none", *sorted({name for photograph in album for name in photograph.names}))
    parts = _part(album, sizes)
    done, total = 0, sum(sizes.values())
    with replacing(out) as folder:
        folder.mkdir(parents=True)
        write_lines(folder / "labels.txt", classes[1:])
        for split, size in sizes.items():
            if size:
                for count in _write_split(folder, split, size, parts[split], photographs, classes, extractor, seed):
                    done += count
                    if progress:
                        progress(done, total)
                parse_split(folder, split)
    return {split: len(parts[split]) for split, size in sizes.items() if size}


def read_boxes(path: Path) -> dict[str, list[tuple[str, list[float], bool]]]:
    """Return the things in each photograph, as (class, box as fractions of the photograph, whether it can be cut out).

    The file has a JSON object per line: `file`, and `boxes` (or `gt`), a list of objects with `label` and `box`, x1 y1
    x2 y2 as fractions; things with `crowd` are not cut out, and `null` in place of the list says that it is not known
    what a photograph shows. Raises InputError with the line that is none of that.
    """
    out: dict[str, list[tuple[str, list[float], bool]]] = {}
    for number, line in enumerate(Lines(path), 1):
        try:
            record = parse_json(line)
            things = record["boxes"] if "boxes" in record else record["gt"]
            if things is not None:
                out[record["file"]] = [
                    (str(thing["label"]), _check_box(thing["box"]), not thing.get("crowd")) for thing in things
                ]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise InputError(
                f'{path}, line {number}: expected {{"file": "a.jpg", "boxes": [{{"label": "dog", "box": [x1, y1, x2, '
                "y2]}, ...]}, boxes as fractions of the photograph."
            ) from None
    return out


def _check_box(box: Any) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    if not (0 <= x1 < x2 <= 1.001 and 0 <= y1 < y2 <= 1.001):
        raise ValueError("not fractions")
    return [x1, y1, x2, y2]


# Choosing -------------------------------------------------------------------------------------------------------------


def _look(
    folder: Path,
    name: str,
    known: dict[str, list[tuple[str, list[float], bool]]] | None,
    extractor: ComposedExtractor,
    sure: float,
) -> Photograph:
    """Find the things in a photograph, and which of them can be cut out: whole, not small, and not behind another."""
    image = _read(folder, name)
    if known is not None:
        things = known[name]
    else:
        assert extractor.detector is not None
        found = extractor.detector([image])[0]
        things = [
            (extractor.detector.classes[label], box.tolist(), bool(score >= sure))
            for label, box, score in zip(found.labels.tolist(), found.boxes, found.scores, strict=True)
            if score >= sure / 2
        ]
    boxes = np.array([box for _, box, _ in things], np.float64).reshape(-1, 4)
    size = boxes[:, 2:] - boxes[:, :2]
    covered = intersections(boxes) / size.prod(1)[:, None]
    np.fill_diagonal(covered, 0)
    usable = np.array([can for _, _, can in things], bool)
    sides = size * image.size
    usable &= (sides.min(1) >= MIN_SIDE) & (sides.max(1) <= MAX_ASPECT * sides.min(1))
    usable &= (size.max(1) < 0.95) & (covered.max(1, initial=0) < 0.3)
    return Photograph(name, boxes, tuple(label for label, _, _ in things), usable)


def _part(album: Sequence[Photograph], sizes: dict[str, int]) -> dict[str, list[Photograph]]:
    """Divide the photographs among the splits that are made, by the order of the hashes of their names."""
    ordered = sorted(album, key=lambda photograph: hashlib.sha256(photograph.name.encode()).digest())
    shares = {split: share for split, share in PARTS.items() if sizes[split]}
    ends = [round(len(ordered) * share / max(shares.values())) for share in shares.values()]
    return {split: ordered[start:end] for split, start, end in zip(shares, [0, *ends[:-1]], ends, strict=True)}


def _choose(photographs: Sequence[Photograph], split: str, chance: Random) -> Collage:
    """Choose two things of different classes, a background that shows neither class, and their places."""
    sources = [photograph for photograph in photographs if photograph.cutouts]
    for _ in range(ATTEMPTS if len(sources) > 1 else 0):
        pair = chance.sample(sources, 2)
        things = [chance.choice(photograph.cutouts) for photograph in pair]
        names = (pair[0].names[things[0]], pair[1].names[things[1]])
        background = chance.choice(photographs)
        if names[0] == names[1] or background in pair or set(names) & set(background.names):
            continue
        cuts = np.array([photograph.boxes[thing] for photograph, thing in zip(pair, things, strict=True)])
        axis, order = chance.randrange(2), chance.sample(PLACES, 2)
        centres = np.full((2, 2), 0.5) + [[chance.uniform(-JITTER, JITTER) for _ in range(2)] for _ in range(2)]
        centres[:, axis] += np.array(order) - 0.5
        halves = np.array([[chance.uniform(*EXTENT) / 2] * 2 for _ in range(2)])
        boxes = np.concatenate([centres - halves, centres + halves], 1)
        return Collage(background.name, names, (pair[0].name, pair[1].name), cuts, boxes)
    raise InputError(
        f"The {len(photographs)} photographs of {split} have no two things of different classes that can be cut out, "
        f"and a third photograph without these classes. Add photographs, lower --sure, or make fewer splits."
    )


# Composing ------------------------------------------------------------------------------------------------------------


def _read(folder: Path, name: str) -> Image.Image:
    try:
        return decode_photograph(name, (folder / name).read_bytes(), 2 * SIDE)[0]
    except OSError as error:
        raise InputError(f"{folder / name} cannot be read: {error.strerror}. Remove it, or copy it again.") from None


def _compose(collage: Collage, background: Image.Image, sources: Sequence[Image.Image]) -> tuple[Image.Image, Collage]:
    """Paste the things of a collage on its background. Their boxes shrink to the shapes of the cut-outs."""
    scale = SIDE / max(background.size)
    picture = background.resize((round(background.width * scale), round(background.height * scale)))
    boxes = np.empty((2, 4))
    for place, (photograph, cut, box) in enumerate(zip(sources, collage.cuts, collage.boxes, strict=True)):
        size = np.array(photograph.size * 2)
        left, top, right, bottom = (cut * size).round().astype(int).tolist()
        thing = photograph.crop((left, top, right, bottom))
        extent = (box[2:] - box[:2]) * picture.size
        fit = float((extent / thing.size).min())
        thing = thing.resize((max(1, round(thing.width * fit)), max(1, round(thing.height * fit))))
        corner = ((box[:2] + box[2:]) / 2 * picture.size - np.array(thing.size) / 2).round().astype(int)
        inner = Image.new("L", thing.size, 0)
        inner.paste(255, (FEATHER, FEATHER, thing.width - FEATHER, thing.height - FEATHER))
        picture.paste(thing, tuple(corner.tolist()), inner.filter(ImageFilter.GaussianBlur(FEATHER / 2)))
        boxes[place] = np.concatenate([corner, corner + thing.size]) / np.array(picture.size * 2)
    return picture, Collage(collage.background, collage.names, collage.sources, collage.cuts, boxes)


def _pairs(
    folder: Path, photographs: Sequence[Photograph], split: str, count: int, seed: int
) -> Iterator[list[tuple[Image.Image, Collage]]]:
    """Yield pictures with their twins. In both pictures of a pair, the relation of the two things is clear."""
    for number in range(count):
        chance = Random(f"{seed} {split} {number}")
        while True:
            collage = _choose(photographs, split, chance)
            background, *sources = (_read(folder, name) for name in (collage.background, *collage.sources))
            both = [_compose(each, background, sources) for each in (collage, collage.exchanged())]
            found = [int(places(own.boxes)[0, 1]) for _, own in both]
            if found[0] and found[1] == CONVERSE[found[0]]:
                yield both
                break


def _write_split(
    folder: Path,
    split: str,
    size: int,
    photographs: Sequence[Photograph],
    source: Path,
    classes: Sequence[str],
    extractor: ComposedExtractor,
    seed: int,
) -> Iterator[int]:
    """Write a split of `size` pictures in the compact layout; yields the number of pictures of each step."""
    files, width = Files(folder, split), extractor.num_regions
    pictures = files.path("pictures")
    pictures.mkdir()
    ids, captions, sizes = list[str](), list[str](), list[tuple[int, int]]()
    counts, image_of_text, triples = list[int](), list[int](), list[np.ndarray]()
    with (
        NpyWriter(files.path("ims.npy"), (size, width, extractor.feature_dim), "<f2") as features_file,
        NpyWriter(files.path("boxes.npy"), (size, width, 4), "<f4") as boxes_file,
        NpyWriter(files.path("labels.npy"), (size, width), "<i2") as labels_file,
    ):
        waiting: list[tuple[Image.Image, Detections]] = []
        for both in _pairs(source, photographs, split, size // 2, seed):
            first = len(ids)
            for (picture, own), stated in zip(both, _sentences(both[0][1], f"{seed} {split} {first}"), strict=True):
                row = len(ids)
                ids.append(f"{split}-{row:06d}")
                picture.save(pictures / f"{ids[-1]}.jpg", quality=QUALITY)
                captions += stated
                image_of_text += [row] * len(stated)
                sizes.append(picture.size)
                labels = np.array([classes.index(name) for name in own.names])
                things = Detections(own.boxes.astype(np.float32), labels, np.ones(2, np.float32))
                regions = extractor.select_regions(things)
                counts.append(len(regions.boxes))
                triples.append(triples_of(row, regions.boxes.astype(np.float64), regions.labels > 0))
                waiting.append((picture, regions))
            if len(waiting) >= BATCH or len(ids) == size:
                vectors = extractor.backbone([picture for picture, _ in waiting], [own.boxes for _, own in waiting])
                for (_, regions), own_vectors in zip(waiting, vectors, strict=True):
                    for file, values in (
                        (features_file, own_vectors),
                        (boxes_file, regions.boxes),
                        (labels_file, regions.labels),
                    ):
                        padded = np.zeros((1, width, *values.shape[1:]), values.dtype)
                        padded[0, : len(values)] = values
                        file.write_rows(padded)
                yield len(waiting)
                waiting = []
    write_lines(files.path("ids.txt"), ids)
    write_lines(files.path("caps.txt"), captions)
    save_array(files.path("image_of_text.npy"), np.array(image_of_text, np.int32))
    save_array(files.path("sizes.npy"), np.array(sizes, np.int32))
    if min(counts) < width:
        save_array(files.path("num_regions.npy"), np.array(counts, np.int16))
    image, subject, other, predicate = np.concatenate(triples).T
    Triples.of(image, subject, other, predicate, PREDICATES, size).save(files.path("relations.npz"), IMAGE_FILE)
    save_twins(files.path("twins.npz"), [(row, row + 1) for row in range(0, size, 2)], KIND)


def _sentences(collage: Collage, seed: str) -> tuple[list[str], list[str]]:
    """The sentences of a picture, and those of its twin."""
    found = places(collage.boxes)
    facts: list[Fact] = [(0, int(found[0, 1]), 1), (1, int(found[1, 0]), 0)]
    stated = state(facts, collage.names, SENTENCES, seed, CONVERSE)
    return [own for own, _ in stated], [other for _, other in stated]
