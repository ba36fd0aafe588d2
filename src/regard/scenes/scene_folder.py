"""Write the made world to a data folder in the compact form. The bytes do not depend on the number of processes."""

import io
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regard.checksums import save_arrays
from regard.files import InputError, check_new_folder, replacing
from regard.relations.from_sentences import parse_split
from regard.scenes import crop_features
from regard.scenes.catalogue import KINDS
from regard.scenes.grammar import PER_IMAGE, sentences
from regard.scenes.pen import HEIGHT, WIDTH
from regard.scenes.predicates import PREDICATES
from regard.scenes.scene import REGIONS, Scene, SceneRandom, make_twin, random_scene
from regard.scenes.scene_drawing import SceneDrawing, draw_scene

CLASSES = tuple(KINDS)
CYCLE = 5  # the first two of every five images are twins
RELATION_TWINS = 0.65  # the fraction of twins that differ in a relation; the others differ in colours
CHUNK = 40  # images drawn and written at once: a multiple of CYCLE
MIN_VISIBLE = 0.4  # a scene is replaced if a smaller fraction of one of its things is visible

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
    """Draw a made world of pictures and sentences and write it to the new folder `out`, in the compact form.

    `train`, `dev` and `test` are the numbers of images; a split of 0 is left out. Each image has 2 to 8 regions, its
    true relations and five sentences. Two of every five images are twins, listed in `{split}_twins.npz`. The first
    `pictures` images of each split are also written as `{split}_pictures/<id>.png`.

    The same seed gives the same bytes. Image i depends neither on the number of images nor on the number of processes,
    `workers`. `progress(n)` is called with the number of images written since the last call. Images are written as they
    are drawn: memory grows by about 60 bytes per image. A failed call leaves no folder.

    Raises InputError if `out` exists and is not an empty folder, or if a number is out of range.
    """
    out, sizes = Path(out), {"train": train, "dev": dev, "test": test}
    check_new_folder(out)
    for name, given, least in (*((name, size, 0) for name, size in sizes.items()), ("seed", seed, 0),
                               ("pictures", pictures, 0), ("workers", workers, 1)):  # fmt: skip
        if not least <= given < 2**63:
            raise InputError(f"Expected {name} to be a whole number from {least} to 2**63 - 1, got {given}.")
    if not any(sizes.values()):
        raise InputError("Expected at least one image, got 0 for train, dev and test.")
    tasks = (
        ChunkTask(seed, name, number, first, min(first + CHUNK, size), pictures)
        for number, (name, size) in enumerate(sizes.items())
        for first in range(0, size, CHUNK)
    )
    with replacing(out) as folder, closing(_make_chunks(tasks, workers)) as chunks:
        folder.mkdir()
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
        for name, size in sizes.items():
            if size:
                _write_split(folder, name, size, chunks, progress)
                parse_split(folder, name)


@dataclass(frozen=True)
class ChunkTask:
    """The images to make for one chunk: rows `first` to `last` - 1 of a split. Rows below `pictures` become PNGs."""

    seed: int
    split: str
    number: int  # of the split
    first: int
    last: int
    pictures: int


@dataclass(frozen=True)
class SceneChunk:
    """What is written for some consecutive images of a split."""

    arrays: dict[str, np.ndarray]  # by file name, without the split and ".npy"; one row per image or per sentence
    captions: list[str]
    relations: np.ndarray  # int [relation, 4]: image row, subject, object, predicate
    twins: list[tuple[int, int, str]]  # two image rows, and how the images differ
    pngs: dict[str, bytes]  # by image id


def image_id(split: str, row: int) -> str:
    return f"{split}-{row:07d}"


# Making ---------------------------------------------------------------------------------------------------------------


def _make_chunks(tasks: Iterator[ChunkTask], workers: int) -> Generator[SceneChunk, None, None]:
    """Yield the chunks in the order of the tasks. Worker processes make a few chunks ahead."""
    if workers == 1:
        yield from map(make_chunk, tasks)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _ignore_interrupts)
    try:
        with _interrupts_blocked():  # the workers start with the first tasks
            pending = deque(pool.submit(make_chunk, task) for task in islice(tasks, 3 * workers))
        while pending:
            yield pending.popleft().result()
            pending += (pool.submit(make_chunk, task) for task in islice(tasks, 1))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let no interruption arrive during the block, nor in processes that start in it, until `_ignore_interrupts`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the pool


def make_chunk(task: ChunkTask) -> SceneChunk:
    """Draw the images of a task, and compute their features, sentences and relations."""
    scenes, twins = _draw_task(task)
    rows, size = range(task.first, task.last), len(scenes)
    labels = np.zeros((size, REGIONS), np.int16)
    boxes = np.zeros((size, REGIONS, 4), np.float32)
    num_regions = np.array([len(scene.things) for scene, _ in scenes], np.int16)
    captions: list[str] = []
    relations: list[tuple[int, int, int, int]] = []
    pngs: dict[str, bytes] = {}
    for i, (row, (scene, drawing)) in enumerate(zip(rows, scenes, strict=True)):
        labels[i, : num_regions[i]] = [CLASSES.index(thing.kind.name) + 1 for thing in scene.things]
        boxes[i, : num_regions[i]] = drawing.boxes / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
        captions += sentences(scene, SceneRandom(task.seed, task.number, row, 1))
        relations += sorted((row, fact.subject, fact.object, PREDICATES.index(fact.predicate)) for fact in scene.facts)
        if row < task.pictures:
            buffer = io.BytesIO()
            drawing.picture.save(buffer, "PNG")
            pngs[image_id(task.split, row)] = buffer.getvalue()
    crops = np.stack([crop_features.crop(drawing.picture, box) for _, drawing in scenes for box in drawing.boxes])
    extents = np.concatenate([drawing.boxes[:, 2:] - drawing.boxes[:, :2] for _, drawing in scenes])
    ims = np.zeros((size, REGIONS, crop_features.DIM), np.float16)
    ims[np.arange(REGIONS) < num_regions[:, None]] = crop_features.features_of_crops(crops, extents)
    arrays: dict[str, np.ndarray] = {
        "ims": ims,
        "num_regions": num_regions,
        "boxes": boxes,
        "sizes": np.tile(np.array([WIDTH, HEIGHT], np.int32), (size, 1)),
        "labels": labels,
        "image_of_text": np.repeat(np.array(rows, np.int32), PER_IMAGE),
    }
    return SceneChunk(arrays, captions, np.array(relations, np.int32), twins, pngs)


def _draw_task(task: ChunkTask) -> tuple[list[tuple[Scene, SceneDrawing]], list[tuple[int, int, str]]]:
    """Return the scenes of a task with their drawings, and the twins: the first two of every CYCLE images."""
    scenes: list[tuple[Scene, SceneDrawing]] = []
    twins: list[tuple[int, int, str]] = []
    for row in range(task.first, task.last):
        key = task.seed, task.number, row
        if row % CYCLE > 1:
            scenes += draw_images("", *key)
        elif row % CYCLE == 0:
            twin = "relation" if SceneRandom(*key, 0).chance(RELATION_TWINS) else "attribute"
            scenes += draw_images(twin, *key)
            twins.append((row, row + 1, twin))
    if len(scenes) > task.last - task.first:  # the split ends between two twins
        scenes.pop()
        twins.pop()
    return scenes, twins


def draw_images(twin: str, *key: int) -> list[tuple[Scene, SceneDrawing]]:
    """Return a random scene with its drawing and, if `twin` is given, its twin with its drawing.

    Scenes are chosen until at least MIN_VISIBLE of each thing is visible in each drawing.
    """
    stream = 0
    while True:
        stream += 2
        scene = random_scene(SceneRandom(*key, stream), twin)
        drawn = [
            (each, draw_scene(each, SceneRandom(*key, stream + 1)))
            for each in ([scene, make_twin(scene)] if twin else [scene])
        ]
        if all(drawing.min_visible >= MIN_VISIBLE for _, drawing in drawn):
            return drawn


# Writing --------------------------------------------------------------------------------------------------------------


def _write_split(folder: Path, split: str, size: int, chunks: Iterator[SceneChunk], progress: Progress | None) -> None:
    """Append the chunks of a split to its files. Relations, whose number is not known, go to a temporary file first."""
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
                    _write_npy_header(columns[name], array, rows_of.get(name, size))
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
    arrays: dict[str, np.ndarray] = {
        "image": facts[:, 0],
        "subject": facts[:, 1].astype(np.int16),
        "object": facts[:, 2].astype(np.int16),
        "predicate": facts[:, 3].astype(np.int16),
        "confidence": np.ones(len(facts), np.float16),
        "predicates": np.array(PREDICATES),
    }
    save_arrays(folder / f"{split}_relations.npz", arrays)
    raw.unlink()
    pairs = {
        "first": np.array([first for first, _, _ in twins], np.int32),
        "second": np.array([second for _, second, _ in twins], np.int32),
        "kind": np.array([kind for _, _, kind in twins], "U9"),
    }
    save_arrays(folder / f"{split}_twins.npz", pairs)


def _write_npy_header(file: BinaryIO, array: np.ndarray, rows: int) -> None:
    shape = (rows, *array.shape[1:])
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
    )
