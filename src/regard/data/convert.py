"""Convert a data folder of any layout to the compact layout: float16 features, each image once."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from regard.data.layout import Files, Pairing, data_folder, features_of, read_json, splits_of
from regard.data.lines import Lines, write_lines
from regard.data.relation_files import IMAGE_FILE, TEXT_FILE
from regard.data.rows import NpyWriter, save_array
from regard.data.scene_graphs import SceneGraphs, with_dependencies
from regard.data.sources import open_records, records_of
from regard.data.split import Split
from regard.files import InputError, check_new_folder, replacing

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    captions_per_image: int | None = None,
    scene_graphs: Sequence[str | os.PathLike[str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write the splits of `source`, in any layout of docs/data.md, to the new folder `out` in the compact layout.

    `scene_graphs` are files that SceneGraphs reads; labels, relations and, if the source has none, sentences come from
    them. `progress(done, total)` is called with numbers of images. `out` is renamed into place when it is complete, so
    an interruption or a full disk leaves nothing. Returns notes on what was skipped, left out or suspected. Raises
    InputError for data that cannot be read, and if `out` exists and is not empty.
    """
    out = Path(out)
    check_new_folder(out)
    graphs = SceneGraphs.load([Path(path) for path in scene_graphs]) if scene_graphs else None
    splits, notes = open_splits(source, captions_per_image, graphs)
    total, done = sum(split.num_images for split in splits), 0
    try:
        with replacing(out) as folder:
            folder.mkdir()
            for split in splits:
                for rows in _write(split, folder):
                    done += rows
                    if progress:
                        progress(done, total)
            classes = next((split.classes for split in splits if split.labels), ())
            if classes:
                write_lines(folder / "labels.txt", classes[1:])
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(
            f"{out}: {error.strerror}. Nothing was kept; free some space or choose another place."
        ) from None
    return notes


def open_splits(
    source: str | os.PathLike[str], captions_per_image: int | None = None, graphs: SceneGraphs | None = None
) -> tuple[list[Split], list[str]]:
    """Open every split of a folder of any layout, with the relations of its other files or of `graphs`.

    Returns notes on what was skipped, left out or suspected, too.
    """
    folder = data_folder(source)
    names, notes = splits_of(folder), list[str]()
    if not names and (records := records_of(folder)):
        chosen = sorted(path.name.removesuffix("_ids.txt") for path in folder.glob("*_ids.txt"))
        if not chosen:
            raise InputError(
                f"{folder} has no *_ids.txt: expected *_ids.txt and *_caps.txt with the ids and sentences of a split."
            )
        splits = [open_records(records, Files(folder, name), captions_per_image) for name in chosen]
        notes += records.notes
    elif graphs:
        splits = [_open_with(graphs, Files(folder, name), captions_per_image) for name in names]
    else:
        splits = [Split.open(folder, name, captions_per_image=captions_per_image) for name in names]
    if not splits:
        raise InputError(
            f"{folder} contains no *_ims.npy, *.tsv or *.npz. Give the folder of a layout in docs/data.md."
        )
    splits = [with_dependencies(split) for split in splits]
    return ([graphs.added_to(split) for split in splits] if graphs else splits), notes


def _open_with(graphs: SceneGraphs, files: Files, captions_per_image: int | None) -> Split:
    """A split whose sentences may come from the scene graphs, and whose ids may be a JSON list."""
    if files.path("caps.txt").exists():
        return Split.open(files.folder, files.split, captions_per_image=captions_per_image)
    features, index = features_of(files), files.found("ids.txt", "index.json")
    if not index:
        raise InputError(f"{files.path('ids.txt')} is not there: expected the image id of each row, to find its graph.")
    listed = Lines(index) if index.suffix == ".txt" else read_json(index)
    given = [entry.get("id") if isinstance(entry, dict) else entry for entry in listed]
    if wrong := [name for name in given if not isinstance(name, str | int) or isinstance(name, bool)]:
        raise InputError(f"{index} has the id {wrong[0]!r:.40}: expected a list of ids, or of records with an `id`.")
    ids = list(map(str, given))
    if len(ids) != len(features):
        raise InputError(
            f"{index} has {len(ids)} ids: expected one for each of {len(features)} rows of {features.path}."
        )
    captions, image_of_text = graphs.captions(ids)
    return Split.of(files, features, captions, ids, Pairing(len(features), image_of_text))


def _write(split: Split, folder: Path) -> Iterator[int]:
    """Write one split in the compact layout; yields the number of images of each step."""
    files = Files(folder, split.name)
    pictures = replace(split, relations=None)
    shape = split.features.shape
    with ExitStack() as stack:

        def writer(name: str, shape: tuple[int, ...], dtype: str) -> NpyWriter:
            return stack.enter_context(NpyWriter(files.path(name), shape, dtype))

        features = writer("ims.npy", shape, "<f2")
        boxes = writer("boxes.npy", (*shape[:2], 4), "<f4") if split.boxes else None
        labels = writer("labels.npy", shape[:2], "<i2") if split.labels else None
        for rows in split.features.blocks():
            images = pictures.images(rows)
            features.write_rows(_to_float16(images.features.numpy(), split, int(rows[0])))
            if boxes and images.boxes is not None:
                boxes.write_rows(images.boxes.numpy())
            if labels and images.labels is not None:
                labels.write_rows(images.labels.numpy())
            yield len(rows)
    write_lines(files.path("ids.txt"), split.ids)
    write_lines(files.path("caps.txt"), split.captions)
    save_array(files.path("image_of_text.npy"), split.image_of_text.astype(np.int32))
    if split.region_counts is not None:
        save_array(files.path("num_regions.npy"), split.region_counts.astype(np.int16))
    if split.sizes is not None:
        save_array(files.path("sizes.npy"), split.sizes.astype(np.int32))
    if split.relations:
        split.relations.save(files.path("relations.npz"), IMAGE_FILE)
    if split.text_relations:
        split.text_relations.save(files.path("text_relations.npz"), TEXT_FILE)
    if (twins := Files(split.folder, split.name).path("twins.npz")).exists():  # by image row, and rows are kept
        shutil.copyfile(twins, files.path("twins.npz"))


def _to_float16(features: np.ndarray, split: Split, first: int) -> np.ndarray:
    """The features as float16. Raises InputError if they are not finite, or too large for float16."""
    with np.errstate(over="ignore"):
        out = features.astype(np.float16)
    wrong = ~np.isfinite(out).all((1, 2))
    if wrong.any():
        row = int(wrong.argmax())
        large = np.isfinite(features[row]).all()
        what = f"values up to {np.abs(features[row]).max():g}, beyond float16" if large else "NaN or infinity"
        raise InputError(
            f"{split.folder}/{split.name}: features of image {first + row} ({split.ids[first + row]}) contain {what}. "
            + ("Scale them first." if large else "Extract them again; `regard data check` lists all.")
        )
    return out
