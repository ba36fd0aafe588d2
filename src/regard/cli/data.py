"""Verbs of data folders: check, convert, relations, parse, scenes."""

import os
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from regard.cli.common import ProgressBar, console
from regard.files import InputError

app = cyclopts.App(name="data", help="Check, convert and generate data folders.", help_format="markdown")

Graphs = Annotated[tuple[Path, ...], Parameter(negative="")]


@app.command
def check(folder: Path, *, captions_per_image: int | None = None) -> None:
    """Say what layout a data folder has, what each model can use of it, and everything that is wrong with it.

    The exit code is 1 where something must be mended before training.

    Parameters
    ----------
    folder
        The data folder.
    captions_per_image
        Needed only where the files do not say which sentence belongs to which image.
    """
    from regard.data import check as look

    report = look(folder, captions_per_image=captions_per_image)
    console.print(str(report), markup=False, soft_wrap=True)
    if report.errors:
        raise SystemExit(1)


@app.command
def convert(source: Path, *, out: Path, captions_per_image: int | None = None, scene_graphs: Graphs = ()) -> None:
    """Write a data folder of any known layout in the compact form: float16, each image once.

    Parameters
    ----------
    source
        The folder as it is.
    out
        A new folder.
    captions_per_image
        Needed only where the files do not say which sentence belongs to which image.
    scene_graphs
        JSON files of scene graphs to take relations from. May be repeated.
    """
    from regard.data import convert as write

    with ProgressBar("converting", None) as bar:
        write(source, out, captions_per_image=captions_per_image, scene_graphs=scene_graphs, progress=bar.reach)
    console.print(f"Wrote {out}. Next: regard data check {out}")


@app.command
def relations(folder: Path) -> None:
    """Make relations from boxes (inside, covers, overlaps, eight directions) for data that has no scene graph.

    Splits that have relations keep them.

    Parameters
    ----------
    folder
        A data folder with boxes; {split}_relations.npz is written beside them.
    """
    from regard.data.layout import Files, data_folder, splits_of
    from regard.relations.from_boxes import relate

    splits = splits_of(folder)
    if not splits:
        raise InputError(f"{folder} holds no *_ims.npy: give a data folder, as `regard data convert` writes it.")
    for split in splits:
        path = Files(data_folder(folder), split).path("relations.npz")
        if path.exists():
            console.print(f"{split}: keeps {path}", markup=False)
            continue
        degree = relate(folder, split)
        console.print(f"{split}: {degree:.2f} relations a region, from boxes alone (no scene-graph model)")


@app.command
def parse(folder: Path, *, by: Literal["own", "spacy"] = "own") -> None:
    """Parse the sentences: which word is subject, object or attribute of which.

    Splits that have relations between words keep them.

    Parameters
    ----------
    folder
        A data folder; {split}_text_relations.npz is written beside its sentences.
    by
        own: the small parser that comes with Regard. spacy: spaCy's English model, where it is installed.
    """
    from regard.data.layout import Files, data_folder, splits_of
    from regard.data.lines import Lines
    from regard.relations.from_sentences import parse_split
    from regard.words import parser

    splits = splits_of(folder)
    if not splits:
        raise InputError(f"{folder} holds no *_ims.npy: give a data folder, as `regard data convert` writes it.")
    read = parser(by)
    for split in splits:
        files = Files(data_folder(folder), split)
        if files.path("text_relations.npz").exists():
            console.print(f"{split}: keeps {files.path('text_relations.npz')}", markup=False)
            continue
        with ProgressBar(f"parsing {split}", len(Lines(files.path("caps.txt")))) as bar:
            degree = parse_split(folder, split, read, bar.advance)
        console.print(f"{split}: {degree:.2f} relations between words a sentence")


@app.command
def scenes(
    *, out: Path, train: int = 2000, dev: int = 200, test: int = 200, seed: int = 0, pictures: int = 200
) -> None:
    """Draw the made world: pictures with relations, five sentences each, and twins.

    Parameters
    ----------
    out
        A new folder.
    train
        Images of the training split.
    dev
        Images of the validation split.
    test
        Images of the test split.
    seed
        The same seed gives the same bytes.
    pictures
        How many pictures of each split are kept as PNG.
    """
    from regard.scenes import make_scenes

    with ProgressBar("drawing", train + dev + test) as bar:
        sizes = {"train": train, "dev": dev, "test": test}
        # Another process is some seconds in starting, in which this one draws a thousand pictures.
        workers = min(os.cpu_count() or 1, 1 + sum(sizes.values()) // 5000)
        make_scenes(out, **sizes, seed=seed, pictures=pictures, workers=workers, progress=bar.advance)
    console.print(f"Wrote {out}. Next: regard train cmsei-scenes --data {out} --out runs/cmsei-scenes")
