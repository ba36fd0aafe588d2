"""Verbs that work on data folders: check, convert, relations, parse, scenes, spatial, collage."""

import os
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from regard.cli.common import Device, ProgressBar, SentenceParser, console

app = cyclopts.App(name="data", help="Check, convert and generate data folders.", help_format="markdown")

CaptionsPerImage = Annotated[
    int | None,
    Parameter(help="Captions per image. Required only if the files do not contain the image of each caption."),
]


@app.command
def check(
    folder: Path, *, captions_per_image: CaptionsPerImage = None, deep: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Report the layout and the faults of a data folder.

    Also reports what each model can use of it. The exit code is 1 if a fault must be repaired before training.

    Parameters
    ----------
    folder
        Data folder.
    deep
        Also compare all arrays with their checksums.
    """
    from regard.data import check as check_folder

    report = check_folder(folder, captions_per_image=captions_per_image, deep=deep)
    console.print(str(report))
    if report.errors:
        raise SystemExit(1)


@app.command
def convert(
    source: Path,
    *,
    out: Path,
    captions_per_image: CaptionsPerImage = None,
    scene_graphs: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
) -> None:
    """Convert a data folder of any known layout to the compact layout.

    The compact layout stores features in float16 and each image once.

    Parameters
    ----------
    source
        Data folder to read.
    out
        New folder to write.
    scene_graphs
        JSON file of scene graphs, from which relations are read. May be repeated.
    """
    from regard.data import convert as run

    with ProgressBar("converting", None) as bar:
        notes = run(source, out, captions_per_image=captions_per_image, scene_graphs=scene_graphs, progress=bar.reach)
    for note in notes:
        console.print(f"Note: {note}.")
    console.print(f"Wrote {out}. Next: regard data check {out}")


@app.command
def relations(folder: Path) -> None:
    """Compute relations between regions from their boxes.

    This is for data without scene graphs. The relations are inside, covers, overlaps and eight directions. Splits that
    already have relations keep them.

    Parameters
    ----------
    folder
        Data folder with boxes. {split}_relations.npz is written beside them.
    """
    from regard.data.layout import Files, check_splits, data_folder
    from regard.relations.from_boxes import write_box_relations

    for split in check_splits(folder):
        path = Files(data_folder(folder), split).path("relations.npz")
        if not _is_kept(split, path):
            degree = write_box_relations(folder, split)
            console.print(f"{split}: {degree:.2f} relations per region, from boxes only (no scene-graph model)")


@app.command
def parse(folder: Path, *, by: SentenceParser = "own") -> None:
    """Parse the sentences of a data folder.

    A relation states that one word is the subject, the object, an attribute or a modifier of another. Splits that
    already have relations between words keep them.

    Parameters
    ----------
    folder
        Data folder. {split}_text_relations.npz is written beside its sentences.
    """
    from regard.data.layout import Files, check_splits, data_folder
    from regard.data.lines import Lines
    from regard.relations.from_sentences import parse_split
    from regard.words import parser
    from regard.words.scripts import is_english

    splits = check_splits(folder)
    read = parser(by)
    for split in splits:
        files = Files(data_folder(folder), split)
        if not _is_kept(split, files.path("text_relations.npz")):
            if not is_english(Lines(files.path("caps.txt"))):
                console.print(f"{split}: the sentences do not look like English. Expect few and wrong relations.")
            with ProgressBar(f"parsing {split}", len(Lines(files.path("caps.txt")))) as bar:
                degree = parse_split(folder, split, read, bar.advance)
            console.print(f"{split}: {degree:.2f} relations between words per sentence")


@app.command
def scenes(
    *, out: Path, train: int = 2000, dev: int = 200, test: int = 200, seed: int = 0, pictures: int = 200
) -> None:
    """Generate Scenes, a data set of drawn images and their sentences.

    Each image has exact relations and five sentences. Two images of five are twins: they contain the same things with
    other relations or attributes.

    Parameters
    ----------
    out
        New folder to write.
    train
        Number of images in the training split.
    dev
        Number of images in the validation split.
    test
        Number of images in the test split.
    seed
        Random seed. The same seed generates the same bytes.
    pictures
        Number of images per split that are saved as PNG files.
    """
    from regard.scenes import make_scenes

    with ProgressBar("drawing", train + dev + test) as bar:
        sizes = {"train": train, "dev": dev, "test": test}
        # Another process takes some seconds to start, in which this one draws a thousand images.
        workers = min(os.cpu_count() or 1, 1 + sum(sizes.values()) // 5000)
        make_scenes(out, **sizes, seed=seed, pictures=pictures, workers=workers, progress=bar.advance)
    console.print(f"Wrote {out}. Next: regard train cmsei-scenes --data {out} --out runs/cmsei-scenes")


@app.command
def spatial(
    folder: Path,
    *,
    out: Path,
    sure: float = 0.25,
    sentences: int = 5,
    captions: Annotated[bool, Parameter(negative="")] = False,
    device: Device = "auto",
) -> None:
    """Make sentences of place about pictures, with mirror images as twins.

    The sentences state which thing is left of, right of, above, below, inside or larger than another, from the labels
    and boxes of detections. What is ambiguous is left out. A picture with things left and right of each other has only
    sentences about these, and a twin: its mirror image, with left and right exchanged in each sentence. `regard twins`
    measures, and train.twins trains, whether a model distinguishes them.

    Parameters
    ----------
    folder
        Data folder with boxes and labels. If `regard extract` made it and its photographs are still there, mirrored
        photographs are described anew. Otherwise mirror images have the features of the originals.
    out
        New folder to write. It contains links to the features of FOLDER, not copies.
    sure
        Smallest confidence of a thing that a sentence names.
    sentences
        Largest number of sentences per picture.
    captions
        Keep all pictures and their own sentences, and add sentences of place and mirror images to train only.
    """
    from regard.extract.spatial import make_spatial, render_report
    from regard.runtime import device_named

    device = device_named(device)
    with ProgressBar("stating", None) as bar:
        report = make_spatial(
            folder, out, sure=sure, sentences=sentences, captions=captions, device=device, progress=bar.advance
        )
    console.print(render_report(report, out))


@app.command
def collage(
    photographs: Path,
    *,
    out: Path,
    like: Path | None = None,
    boxes: Path | None = None,
    detector: str | None = None,
    features: str | None = None,
    project: str | None = None,
    classes: str | None = None,
    regions: int | None = None,
    sure: float = 0.5,
    train: int = 1000,
    dev: int = 100,
    test: int = 100,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Compose cut-outs of photographs into pictures with exact relations.

    Each picture shows two things from two photographs on a third one, left and right of or above and below each other.
    The next picture is its twin: the same things in exchanged places. Sentences, boxes, labels and relations are known.
    Of each photograph, all pictures are in one split.

    Parameters
    ----------
    photographs
        Folder of photographs. Its subfolders are searched too.
    out
        New folder to write.
    like
        A folder that `regard extract` wrote, whose detector and features are used.
    boxes
        File of the boxes to cut out, in place of a detector: a JSON object per line, with the file and its boxes
        (docs/data.md).
    detector
        As for `regard extract`.
    features
        As for `regard extract`. Default: colours.
    project
        As for `regard extract`.
    classes
        As for `regard extract`.
    regions
        Largest number of regions per picture: the whole picture, its things, and windows. Default: 36.
    sure
        Smallest score of a detection that is cut out.
    train
        Number of pictures in the training split.
    dev
        Number of pictures in the validation split.
    test
        Number of pictures in the test split.
    seed
        Random seed. The same seed makes the same pictures.
    """
    from regard.extract.collage import make_collages
    from regard.runtime import device_named

    device = device_named(device)
    options = {"detector": detector, "features": features, "project": project, "classes": classes, "regions": regions}
    given = {name: value for name, value in options.items() if value is not None}
    with ProgressBar("composing", None) as bar:
        used = make_collages(
            photographs,
            out,
            given,
            like=like,
            boxes=boxes,
            train=train,
            dev=dev,
            test=test,
            seed=seed,
            sure=sure,
            device=device,
            progress=bar.reach,
        )
    for split, count in used.items():
        console.print(f"  {split:5} from {count:,} photographs")
    console.print(f"Wrote {out}. Next: regard look {out} {next(iter(used))}-000000 --out look.png")


def _is_kept(split: str, path: Path) -> bool:
    """Report whether the file of a split exists already, and is not written again."""
    if path.exists():
        console.print(f"{split}: keeps {path}")
    return path.exists()
