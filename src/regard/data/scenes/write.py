"""Scenes on disk: a compact folder, drawn by any number of processes, the same bytes whatever the number."""

import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regard.data.scenes import features
from regard.data.scenes.draw import Drawing, draw
from regard.data.scenes.grammar import PER_IMAGE, sentences
from regard.data.scenes.kinds import KINDS
from regard.data.scenes.pen import HEIGHT, WIDTH
from regard.data.scenes.world import PREDICATES, REGIONS, Dice, Draft, draft, turned
from regard.files import InputError, replacing

CLASSES = tuple(KINDS)
CYCLE = 5  # of so many images, the first two are twins
RELATION_TWINS = 0.65  # of the twins, this part differs in its relation, the rest in its colours
CHUNK = 40  # images that are drawn and written at once: a multiple of CYCLE
SEEN = 0.4  # a scene in which less than this part of a thing is seen is drafted anew

Progress = Callable[[int], object]


def make_scenes(
    out: str | os.PathLike[str],
    *,
    train: int = 2000,
    dev: int = 200,
    test: int = 200,
    seed: int = 0,
    pictures: int = 200,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Draw a made world of pictures and sentences into the new folder `out`, in the compact form.

    Each split gets its number of images (0 leaves the split out), each with 2 to 8 regions, its true relations and five
    sentences; two images of five are twins, listed in `{split}_twins.npz`. The first `pictures` images of a split are
    kept as `{split}_pictures/<id>.png`. The same seed gives the same bytes, and image i is the same however many there
    are and however many processes, `workers`, draw. `progress(n)` is told of every n images written. Memory does not
    grow with the size. The folder is there whole or not at all.

    Raises InputError where `out` exists and is not an empty folder, or a number makes no sense.
    """
    out, sizes = Path(out), {"train": train, "dev": dev, "test": test}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already: want a folder that is new or empty. Name another, or remove it.")
    for name, given in (*sizes.items(), ("seed", seed), ("pictures", pictures), ("workers", workers - 1)):
        if given < 0:
            raise InputError(f"{name} is {given + (name == 'workers')}: want {int(name == 'workers')} or more.")
    if not any(sizes.values()):
        raise InputError("train, dev and test are all 0: want at least one image.")
    tasks = [
        Task(seed, name, number, first, min(first + CHUNK, size), pictures)
        for number, (name, size) in enumerate(sizes.items())
        for first in range(0, size, CHUNK)
    ]
    with replacing(out) as folder:
        folder.mkdir()
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
        chunks = _made(tasks, workers)
        for name, size in sizes.items():
            if size:
                _write(folder, name, size, chunks, progress)


@dataclass(frozen=True)
class Task:
    """The images `first` to `last` - 1 of a split; those below `pictures` are kept as PNG."""

    seed: int
    split: str
    number: int
    first: int
    last: int
    pictures: int


@dataclass(frozen=True)
class Chunk:
    """What is written of a task: arrays of a row an image, and what is written beside them."""

    arrays: dict[str, np.ndarray]  # by file name, without the split and ".npy"
    captions: list[str]
    relations: np.ndarray  # int [relation, 4]: image row, subject, object, predicate
    twins: list[tuple[int, int, str]]  # image rows and how they differ
    pngs: dict[str, bytes]  # by image id


def image_id(split: str, row: int) -> str:
    return f"{split}-{row:07d}"


# Making ---------------------------------------------------------------------------------------------------------------


def _made(tasks: list[Task], workers: int) -> Iterator[Chunk]:
    """The chunks, in the order of the tasks."""
    if workers == 1:
        yield from map(make, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks)), _ignore_interrupts) as pool:
        yield from pool.imap(make, tasks)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool


def make(task: Task) -> Chunk:
    """Draw and describe the images of a task."""
    rows = range(task.first, task.last)
    labels = np.zeros((len(rows), REGIONS), np.int16)
    boxes = np.zeros((len(rows), REGIONS, 4), np.float32)
    num_regions = np.zeros(len(rows), np.int16)
    captions: list[str] = []
    relations: list[tuple[int, int, int, int]] = []
    twins: list[tuple[int, int, str]] = []
    pngs: dict[str, bytes] = {}
    crops: list[np.ndarray] = []
    extents: list[np.ndarray] = []
    for i, row in enumerate(rows):
        if row % CYCLE == 0:
            twin = "relation" if Dice(task.seed, task.number, row, 0).chance(RELATION_TWINS) else "attribute"
            scenes = compose(twin, task.seed, task.number, row)
            if row + 1 < task.last:
                twins.append((row, row + 1, twin))
        elif row % CYCLE > 1:
            scenes = compose("", task.seed, task.number, row)
        scene, drawing = scenes[-1 if row % CYCLE else 0]
        num_regions[i] = real = len(scene.things)
        labels[i, :real] = [CLASSES.index(thing.kind.name) + 1 for thing in scene.things]
        boxes[i, :real] = drawing.boxes / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
        crops += [features.crop(drawing.picture, box) for box in drawing.boxes]
        extents.append(drawing.boxes[:, 2:] - drawing.boxes[:, :2])
        captions += sentences(scene, Dice(task.seed, task.number, row, 1))
        relations += sorted((row, fact.subject, fact.object, PREDICATES.index(fact.predicate)) for fact in scene.facts)
        if row < task.pictures:
            buffer = io.BytesIO()
            drawing.picture.save(buffer, "PNG")
            pngs[image_id(task.split, row)] = buffer.getvalue()
    ims = np.zeros((len(rows), REGIONS, features.DIM), np.float16)
    ims[np.arange(REGIONS) < num_regions[:, None]] = features.describe(np.stack(crops), np.concatenate(extents))
    arrays: dict[str, np.ndarray] = {
        "ims": ims,
        "num_regions": num_regions,
        "boxes": boxes,
        "sizes": np.tile(np.array([WIDTH, HEIGHT], np.int32), (len(rows), 1)),
        "labels": labels,
        "image_of_text": np.repeat(np.array(rows, np.int32), PER_IMAGE),
    }
    return Chunk(arrays, captions, np.array(relations, np.int32).reshape(-1, 4), twins, pngs)


def compose(twin: str, *key: int) -> list[tuple[Draft, Drawing]]:
    """A scene and its drawing; with `twin`, its twin's too. Drafted anew until every thing is well seen."""
    for attempt in count(1):
        scene = draft(Dice(*key, 2 * attempt), twin)
        scenes = [scene, turned(scene)] if twin else [scene]
        drawn = [(each, draw(each, Dice(*key, 2 * attempt + 1))) for each in scenes]
        if all(drawing.seen >= SEEN for _, drawing in drawn):
            return drawn
    raise AssertionError("unreachable")


# Writing --------------------------------------------------------------------------------------------------------------


def _write(folder: Path, split: str, size: int, chunks: Iterator[Chunk], progress: Progress | None) -> None:
    """Append the split's chunks to its files; what has no known length is collected in a file of its own first."""
    rows_of = {"image_of_text": size * PER_IMAGE}
    twins: list[tuple[int, int, str]] = []
    done = 0
    raw = folder / f"{split}_relations.raw"
    with ExitStack() as stack:

        def create(name: str) -> BinaryIO:
            return stack.enter_context(open(folder / f"{split}_{name}", "wb"))

        ids, captions, relations = create("ids.txt"), create("caps.txt"), create("relations.raw")
        columns: dict[str, BinaryIO] = {}
        while done < size:
            chunk = next(chunks)
            for name, array in chunk.arrays.items():
                if name not in columns:
                    columns[name] = create(f"{name}.npy")
                    _header(columns[name], array, rows_of.get(name, size))
                columns[name].write(array.tobytes())
            num_images = len(chunk.arrays["ims"])
            ids.write("".join(f"{image_id(split, row)}\n" for row in range(done, done + num_images)).encode())
            captions.write("".join(f"{sentence}\n" for sentence in chunk.captions).encode())
            relations.write(chunk.relations.tobytes())
            twins += chunk.twins
            for name, png in chunk.pngs.items():
                path = folder / f"{split}_pictures" / f"{name}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(png)
            done += num_images
            if progress:
                progress(num_images)
    facts = np.memmap(raw, np.int32, "r").reshape(-1, 4)
    np.savez(
        folder / f"{split}_relations.npz",
        image=facts[:, 0],
        subject=facts[:, 1].astype(np.int16),
        object=facts[:, 2].astype(np.int16),
        predicate=facts[:, 3].astype(np.int16),
        confidence=np.ones(len(facts), np.float16),
        predicates=np.array(PREDICATES),
    )
    raw.unlink()
    np.savez(
        folder / f"{split}_twins.npz",
        first=np.array([first for first, _, _ in twins], np.int32),
        second=np.array([second for _, second, _ in twins], np.int32),
        kind=np.array([kind for _, _, kind in twins], "U9"),
    )


def _header(file: BinaryIO, array: np.ndarray, rows: int) -> None:
    shape = (rows, *array.shape[1:])
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
    )
