"""The command line: `regard VERB`. One clear line and exit code 2 for bad input; no traceback for a user's mistake."""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from regard import __version__
from regard.files import InputError, Stopped, replacing

# Heavy modules are imported where they are used, so that --help answers at once.

# Of several processes (torchrun numbers them in RANK), the first alone speaks.
console = Console(highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")
app = cyclopts.App(
    name="regard",
    help="Match pictures and sentences by what is in them and how it is related.",
    version=__version__,
    console=console,
    suppress_keyboard_interrupt=False,  # _guarded tells of it
)
data_app = cyclopts.App(name="data", help="Check, convert and make data folders.")
app.command(data_app)
words_app = cyclopts.App(name="words", help="Look at sentences as the models see them.")
app.command(words_app)
relations_app = cyclopts.App(
    name="relations", help="Learn relations between regions from annotated ones, and predict them."
)
app.command(relations_app)

Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]


def _writable(type_: Any, path: Path | None) -> None:
    """Before the work and not after it: a file can be written there."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{above} is no folder.")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{above} is read-only.")


Json = Annotated[Path | None, Parameter(name="--json", validator=_writable)]
Png = Annotated[Path | None, Parameter(validator=_writable)]
Scores = Annotated[Path | None, Parameter(validator=_writable)]
Graphs = Annotated[tuple[Path, ...], Parameter(negative="")]
Protocol = Literal["full", "5fold"]
Count = Annotated[int | None, Parameter(validator=cyclopts.validators.Number(gte=1))]


@app.command
def train(
    recipe: str, *, data: Path, out: Path, set_: Settings = (), resume: bool = False, device: str = "auto"
) -> None:
    """Train a recipe on a data folder.

    Parameters
    ----------
    recipe
        A recipe of the package (`regard recipes` lists them) or a TOML file.
    data
        The data folder; `regard data check` says what is in it.
    out
        The run's folder, which is made.
    set_
        A setting over the recipe's, such as train.epochs=5. May be repeated.
    resume
        Go on with the run in `out`.
    device
        auto, cpu or cuda.
    """
    from regard.metrics import render
    from regard.training.loop import train as run
    from regard.training.recipe import Recipe

    found = run(Recipe.read(recipe, list(set_)), data, out, resume=resume, device=device, console=console)
    console.print(f"{out}: the best weights, on validation")
    console.print(render(found), markup=False)
    console.print(f"Next: regard evaluate {out} --data {data} --split test")


@app.command
def recipes() -> None:
    """List the recipes of the package."""
    from regard.training.recipe import recipe_names

    for name in recipe_names():
        console.print(name)


@app.command
def evaluate(
    *runs: Path,
    data: Path | None = None,
    split: str = "test",
    protocol: Protocol = "full",
    shortlist: str | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    encodings: Literal["float32", "float16"] = "float32",
    json_: Json = None,
    save_scores: Scores = None,
    device: str = "auto",
) -> None:
    """Measure a run on a split; several runs together are an ensemble (the mean of their scores).

    Parameters
    ----------
    runs
        Run folders, one or more.
    data
        The data folder; by default the one that the first run was trained on.
    split
        Which split of it.
    protocol
        full: every image against every text. 5fold: the mean over five consecutive folds of images (COCO 1K).
    shortlist
        Of one run: score exactly only the 50 (say) best of each query by summary vectors, and compare with all pairs.
        auto: the fewest that keep every recall of the validation split within 0.1.
    precision
        Of the products of pairs. bfloat16 is faster, and moves recalls by some tenths.
    encodings
        How the images' encodings are held in memory: float16 halves them.
    json_
        Write the metrics there.
    save_scores
        Write the score matrix there (.npy, float32, image x text), and the map beside it (.image_of_text.npy). The
        matrix then lies in the file, and not in memory.
    device
        auto, cpu or cuda.
    """
    import numpy as np

    from regard.evaluation.evaluate import scores_of
    from regard.metrics import recalls, render
    from regard.runtime import device_named
    from regard.training.checkpoint import data_of, load, open_for, recipe_of

    device = device_named(device)
    if not runs:
        _no_runs()
    recipe_of(runs[0])  # a folder that is no run is told before data that is not named
    data = data or data_of(runs[0])
    if shortlist is not None:
        if len(runs) > 1 or protocol != "full" or save_scores or precision != "float32" or encodings != "float32":
            raise InputError(
                "--shortlist takes one run, the protocol full and float32; it has no whole matrix to save."
            )
        _shortlisted(runs[0], data, split, shortlist, json_, device)
        return
    splits = [open_for(run, data, split) for run in runs]
    first = splits[0]
    for run, other in zip(runs, splits, strict=True):
        if list(other.ids) != list(first.ids) or not np.array_equal(other.image_of_text, first.image_of_text):
            raise InputError(f"{run} reads other images or sentences of {data} {split} than {runs[0]}: no ensemble.")
    with _matrix(save_scores, (first.num_images, first.num_texts)) as scores:
        for run, opened in zip(runs, splits, strict=True):
            with _Bar(f"scoring with {run}", scores.size) as bar:
                out = scores if opened is first else None
                found = scores_of(load(run, device), opened, out, None, bar.advance, precision, encodings)
            if opened is not first:
                scores += found.numpy()
        scores /= len(runs)
        measured = recalls(scores, first.image_of_text, protocol)
    names = " + ".join(map(str, runs))
    console.print(f"{names} on {data} {split}: {first.num_images:,} images, {first.num_texts:,} texts", markup=False)
    console.print(render(measured), markup=False)
    if save_scores:
        _write_array(save_scores.with_suffix(".image_of_text.npy"), first.image_of_text)
    _write_json(json_, measured.to_dict())


def _shortlisted(run: Path, data: Path, split: str, shortlist: str, json_: Path | None, device: str) -> None:
    from regard.evaluation.cascade import cascade, smallest
    from regard.training.checkpoint import load, open_for, recipe_of

    if shortlist != "auto" and not (shortlist.isdigit() and int(shortlist)):
        raise InputError(f"--shortlist {shortlist!r} is neither auto nor a number of 1 or more.")
    model, opened = load(run, device), open_for(run, data, split)
    if shortlist == "auto":
        validation = recipe_of(run).data.validation
        with console.status(f"choosing the length of the list on {validation}"):
            count = smallest(model, open_for(run, data, validation))
    else:
        count = int(shortlist)
    with console.status(f"scoring with {run}"):
        found = cascade(model, opened, count)
    console.print(f"{run} on {data} {split}: {opened.num_images:,} images, {opened.num_texts:,} texts", markup=False)
    console.print(found.render(), markup=False)
    _write_json(json_, found.to_dict())


@app.command
def search(
    run: Path,
    *sentences: str,
    data: Path | None = None,
    split: str = "test",
    count: int = 10,
    shortlist: int = 100,
    json_: Json = None,
    device: str = "auto",
) -> None:
    """Find the images of a split that answer a sentence best.

    Parameters
    ----------
    run
        A run folder.
    sentences
        One or more, each in quotes.
    data
        The data folder; by default the one that the run was trained on.
    split
        Which split of it.
    count
        How many images to tell.
    shortlist
        Score exactly only so many best images by summary vectors; 0: all.
    json_
        Write the images found there.
    device
        auto, cpu or cuda.
    """
    from regard.runtime import device_named
    from regard.search.gallery import Index
    from regard.training.checkpoint import data_of, load, open_for

    if not sentences:
        raise InputError('Give at least one sentence, in quotes: regard search RUN "a dog runs after a man".')
    model = load(run, device_named(device))
    opened = open_for(run, data or data_of(run), split)
    with console.status(f"reading {opened.num_images:,} images"):
        found = Index.of(model, opened).ask(sentences, count, shortlist or None)
    for sentence, hits in zip(sentences, found, strict=True):
        console.print(sentence, markup=False)
        for hit in hits:
            said = next(iter(opened.captions[row] for row in (opened.image_of_text == hit.image).nonzero()[0]), "")
            console.print(f"  {hit.score:8.4f}  {hit.id}  {said}", markup=False)
    answers = dict(zip(sentences, found, strict=True))
    _write_json(json_, {sentence: [vars(hit) for hit in hits] for sentence, hits in answers.items()})


@app.command
def look(
    data: Path,
    image: str,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), validator=_writable)],
    split: str | None = None,
    photographs: Path | None = None,
    regions: int = 12,
    relations: int = 12,
    sentences: int = 5,
) -> None:
    """Draw an image of a data folder: its regions, their relations as a graph, and the graphs of its sentences.

    Parameters
    ----------
    data
        The data folder.
    image
        An image's id, as in {split}_ids.txt.
    out
        The picture, a PNG file.
    split
        Look only there; by default in every split.
    photographs
        The folder of the photographs; by default the one that the data folder names, or its own pictures.
    regions
        How many regions are drawn at most: those of the relations, then the largest.
    relations
        How many relations are drawn at most, the surest first. Where there are more, two a region and no repeats.
    sentences
        How many sentences are drawn at most.
    """
    from regard.explain.image import draw_look, find, legend, photograph_of
    from regard.explain.image import look as seen

    opened, row = find(data, image, split)
    photograph = photograph_of(opened, row, photographs)
    found = seen(opened, row, photograph, regions=regions, relations=relations, sentences=sentences)
    draw_look(found, out)
    console.print(f"{image}   {legend(found)}", markup=False)
    where = f"with {photograph}" if photograph else "without its photograph (--photographs says where it lies)"
    console.print(f"Wrote {out}, {where}", markup=False)


@app.command
def metrics(
    scores: Path,
    image_of_text: Path,
    *,
    against: Path | None = None,
    protocol: Protocol = "full",
    json_: Json = None,
) -> None:
    """Measure any score matrix (CLIP's, BLIP's, your own), with bootstrap intervals over images.

    Parameters
    ----------
    scores
        A .npy file: float, image x text; larger is better.
    image_of_text
        A .npy file: for each text, the row of its image.
    against
        Another matrix of the same images and texts: a paired test of the difference in rSum.
    protocol
        full, or 5fold: the mean over five consecutive folds of images.
    json_
        Write the metrics there.
    """
    from regard.evaluation.compare import measure

    report = measure(scores, image_of_text, against, protocol)
    console.print(report.render(), markup=False)
    _write_json(json_, report.to_dict())


@app.command
def twins(*runs: Path, data: Path, split: str = "test", json_: Json = None, device: str = "auto") -> None:
    """Ask whether runs tell the made world's twins apart: the same things, differently related.

    Parameters
    ----------
    runs
        Run folders, one or more; each is asked alone.
    data
        A folder made by `regard data scenes`.
    split
        Which split of it.
    json_
        Write the percentages there.
    device
        auto, cpu or cuda.
    """
    from regard.evaluation.evaluate import scores_of
    from regard.evaluation.probe import twins as ask
    from regard.runtime import device_named
    from regard.training.checkpoint import load, open_for

    device = device_named(device)
    found = {}
    for run in runs or _no_runs():
        opened = open_for(run, data, split)
        found[str(run)] = ask(scores_of(load(run, device), opened), opened)
        answers = "  ".join(f"{kind} {value:5.1f}" for kind, value in found[str(run)].items())
        console.print(f"{run}: {answers}  (percent right; chance is 50)", markup=False)
    _write_json(json_, found)


@app.command
def ablate(
    recipe: str,
    *,
    data: Path | None = None,
    out: Path | None = None,
    set_: Settings = (),
    rows: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    part: str = "1/1",
    split: str = "test",
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    only_measure: Annotated[bool, Parameter(negative="")] = False,
    json_: Json = None,
    device: str = "auto",
) -> None:
    """Train a recipe's model with one mechanism taken away at a time, and tabulate what each row reaches.

    What has been trained is not trained again, and what was interrupted goes on. Several machines may share `out`,
    each with a part of the rows; each table shows what any of them has finished.

    Parameters
    ----------
    recipe
        A recipe of the package (`regard recipes` lists them) or a TOML file.
    data
        The data folder.
    out
        The folder for the rows' runs, the table (ablation.md, ablation.json) and its picture.
    set_
        A setting for every row, such as a smaller budget: train.epochs=3. May be repeated.
    rows
        Only this row; may be repeated. By default all of the model's.
    part
        2/4: the second of four machines, which trains every fourth row.
    split
        The split to measure on.
    list_
        Only say which rows there are.
    only_measure
        Tabulate what is trained, and train nothing.
    json_
        Write the table there too.
    device
        auto, cpu or cuda.
    """
    from regard.runtime import device_named
    from regard.training.ablate import chosen, measure_rows, table, to_dicts, train_rows, write
    from regard.training.recipe import Recipe

    device = device_named(device)
    model = Recipe.read(recipe, list(set_)).model
    wanted = chosen(model, rows)
    if list_:
        for name, settings in wanted.items():
            console.print(f"{name:20}{' '.join(settings) or 'the recipe as it is'}", markup=False)
        return
    if data is None or out is None:
        raise InputError("regard ablate needs --data and --out (or --list).")
    if not only_measure:
        train_rows(recipe, chosen(model, rows, part), data, out, list(set_), device, console)
    found = measure_rows(wanted, data, out, split, device)
    if not found:
        raise InputError(f"No row of {model} has been trained in {out}: leave --only-measure out.")
    write(found, out)
    console.print(table(found), markup=False)
    console.print(f"Wrote {out / 'ablation.md'}, ablation.json and ablation.png", markup=False)
    _write_json(json_, {"split": split, "rows": to_dicts(found)})


@app.command
def extract(
    photographs: Path,
    *,
    out: Path,
    like: Path | None = None,
    captions: Path | None = None,
    split: str | None = None,
    detector: str | None = None,
    features: str | None = None,
    pool: Literal["crop", "map"] | None = None,
    pixels: Literal["raw", "unit", "symmetric", "imagenet", "clip"] | None = None,
    project: str | None = None,
    classes: str | None = None,
    regions: int | None = None,
    windows: bool | None = None,
    sure: float | None = None,
    overlap: float | None = None,
    side: int | None = None,
    relations: str | None = None,
    workers: int = min(os.cpu_count() or 1, 8),
    device: str = "auto",
) -> None:
    """Make a data folder of a folder of photographs: regions, features, relations.

    What has been extracted is not extracted again: after an interruption, or when photographs were added, the same
    command does the rest; options that are left out are as before. Under torchrun the processes divide the work.

    Parameters
    ----------
    photographs
        The folder; folders in it are looked through too.
    out
        The data folder, new or begun by this command.
    like
        Another data folder of this command: extract as it was, for a run that was trained on it.
    captions
        A table (CSV, TSV) with the columns file, sentence and perhaps split. Without a split, eight photographs in ten
        are for training, one for validation, one for test. Photographs without a sentence are the split rest.
        "none": no longer.
    split
        All photographs, or with captions all that have some, are this split; without captions it is test. "none": no
        longer.
    detector
        A .onnx file, a model of transformers (folder or name on the hub), or grid: windows alone, the default.
    features
        A .onnx file, a model of transformers, or colours: colours and edges, without weights, the default.
    pool
        Of a model of transformers. crop: each region is a picture (the default). map: one pass a photograph.
    pixels
        What values an .onnx backbone reads: raw is 0 to 255, unit 0 to 1, symmetric -1 to 1. The default is what a
        preprocessor_config.json beside it says, else imagenet.
    project
        A .npz of mean and components, which the features are projected by.
    classes
        A file that names the detector's classes, or those that an open detector shall look for: a name a line.
    regions
        The most regions of a photograph, 1 to 100; the default is 36. The first is the whole.
    windows
        Fill up with windows what the detector leaves (the default).
    sure
        A detection of this score comes before the windows; the default is 0.25.
    overlap
        Regions that overlap an earlier one by a larger IoU are left out; the default is 0.7.
    side
        A larger photograph is scaled down to so many pixels; the default is 1024.
    relations
        boxes: geometric ones (the default); none; or a file of `regard relations fit`.
    workers
        Threads that read and decode photographs ahead of the model.
    device
        auto, cpu or cuda.
    """
    from regard.extract.extraction import extract as run
    from regard.extract.extraction import told
    from regard.runtime import device_named

    chosen = {"detector": detector, "features": features, "pool": pool, "pixels": pixels, "project": project,
              "classes": classes, "regions": regions, "windows": windows, "sure": sure, "overlap": overlap,
              "side": side}  # fmt: skip
    given = {name: value for name, value in chosen.items() if value is not None}
    with _Bar("extracting", None) as bar:
        report = run(
            photographs,
            out,
            given,
            like=like,
            captions=captions,
            split=split,
            relations=relations,
            workers=workers,
            device=device_named(device),
            progress=bar.reach,
        )
    console.print(told(report, out), markup=False)


@app.command
def bench(
    *,
    models: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    quick: Annotated[bool, Parameter(negative="")] = False,
    data: Path | None = None,
    split: str = "test",
    dim: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
    json_: Json = None,
    png: Png = None,
    device: str = "auto",
) -> None:
    """Measure how fast each model scores, encodes and trains, beside what the machine could do and the field's loop.

    Parameters
    ----------
    models
        Only these, such as: --models scan cmsei. By default all.
    quick
        Half a minute a model: fewer pairs, and no training.
    data
        A data folder; by default random features of Flickr30K's size (1,000 images of 36 regions, 5,000 sentences).
    split
        Which split of it.
    dim
        The width of the models; by default each one's published one.
    precision
        Of the products of pairs, with the floor of that precision. The field's loop stays in float32.
    json_
        Write the rows there.
    png
        Draw them there.
    device
        auto, cpu or cuda.
    """
    from regard.bench.inputs import Inputs, OfSplit, Random
    from regard.bench.measurement import bench as run
    from regard.bench.report import draw, table
    from regard.data import Split
    from regard.files import nearest
    from regard.models import MODELS
    from regard.runtime import device_named

    device = device_named(device)
    for name in models:
        if name not in MODELS:
            raise InputError(f"There is no model {name!r}. {nearest(name, MODELS)}")
    inputs: Inputs = Random(200, 1000) if quick else Random()
    if data is not None:
        inputs = OfSplit.of(Split.open(data, split))
    with console.status("measuring") as status:
        rows = run(
            models or tuple(MODELS),
            inputs,
            seconds=4.0 if quick else 60.0,
            dim=dim,
            train=not quick,
            precision=precision,
            device=device,
            told=lambda text: status.update(f"measuring {text}"),
        )
    console.print(table(rows), markup=False)
    _write_json(json_, [row.to_dict() for row in rows])
    if png:
        draw(rows, png)


@app.command
def demo(*, out: Path = Path("demo"), device: str = "auto") -> None:
    """Draw the made world, train CMSEI and SCAN on it, measure both, and show an alignment. A few minutes.

    Parameters
    ----------
    out
        The folder for data, runs and pictures. A second call goes on where the first stopped.
    device
        auto, cpu or cuda.
    """
    from regard.demo import demo as run

    run(out, console, device)


@data_app.command
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


@data_app.command
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

    with _Bar("converting", None) as bar:
        write(source, out, captions_per_image=captions_per_image, scene_graphs=scene_graphs, progress=bar.reach)
    console.print(f"Wrote {out}. Next: regard data check {out}")


@data_app.command
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


@data_app.command
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
        with _Bar(f"parsing {split}", len(Lines(files.path("caps.txt")))) as bar:
            degree = parse_split(folder, split, read, bar.advance)
        console.print(f"{split}: {degree:.2f} relations between words a sentence")


@data_app.command
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

    with _Bar("drawing", train + dev + test) as bar:
        sizes = {"train": train, "dev": dev, "test": test}
        # Another process is some seconds in starting, in which this one draws a thousand pictures.
        workers = min(os.cpu_count() or 1, 1 + sum(sizes.values()) // 5000)
        make_scenes(out, **sizes, seed=seed, pictures=pictures, workers=workers, progress=bar.advance)
    console.print(f"Wrote {out}. Next: regard train cmsei-scenes --data {out} --out runs/cmsei-scenes")


@words_app.command(name="parse")
def parse_words(
    *sentences: str,
    file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    by: Literal["own", "spacy"] = "own",
    json_: Json = None,
    png: Png = None,
) -> None:
    """Say what is in sentences: tokens, things, what they are like, and who does what to whom.

    Parameters
    ----------
    sentences
        One or more, each in quotes.
    file
        A text file of sentences, one a line; - is standard input.
    by
        own: the small parser that comes with Regard. spacy: spaCy's English model, where it is installed.
    json_
        Write all of it there, with the edges between words and their roles.
    png
        Draw the sentences' graphs there.
    """
    from regard.data.lines import Lines
    from regard.words import parser

    if file is not None:
        sentences += tuple(sys.stdin.read().splitlines() if str(file) == "-" else Lines(file))
    if not sentences:
        raise InputError('Give at least one sentence, in quotes: regard words parse "a man rides a horse".')
    parses = parser(by)(sentences)
    for sentence, found in zip(sentences, parses, strict=True):
        console.print(sentence, markup=False)
        attributes = "; ".join(f"{thing}: {what}" for thing, what in found.attributes)
        console.print(f"  tokens        {' '.join(found.words) or '-'}", markup=False)
        console.print(f"  noun phrases  {', '.join(found.noun_phrases) or '-'}", markup=False)
        console.print(f"  attributes    {attributes or '-'}", markup=False)
        for triple in found.triples:
            console.print(f"  relation      {' | '.join(triple)}", markup=False)
    told = zip(sentences, parses, strict=True)
    _write_json(json_, [{"sentence": sentence, **found.to_dict()} for sentence, found in told])
    if png:
        from regard.explain import draw_sentences

        draw_sentences(sentences, parses, png)


@relations_app.command
def fit(
    *sources: Path,
    out: Annotated[Path, Parameter(validator=_writable)],
    classes: Count = None,
    predicates: Count = None,
    split: str = "train",
    json_: Json = None,
) -> None:
    """Fit a predictor of relations from classes and boxes: on nine images of ten, measured on the tenth; then on all.

    Parameters
    ----------
    sources
        Data folders with boxes, labels and relations, Visual Genome's relationships.json, scene graphs with boxes.
    out
        The predictor's file (.safetensors).
    classes
        Keep only so many most frequent classes (Visual Genome's convention: 150). By default those seen 10 times.
    predicates
        Keep only so many most frequent predicates (Visual Genome's convention: 50). By default those seen 10 times.
    split
        Which split of the data folders.
    json_
        Write the metrics there.
    """
    from regard.relations.annotation_readers import annotations
    from regard.relations.predictor import fit as run
    from regard.relations.recall import measure_held_out, render

    if not sources:
        raise InputError("Name at least one source of annotated relations: regard relations fit DIR --out FILE.")
    with console.status("reading"):
        pictures = annotations(sources, split).frequent(classes, predicates)
    console.print(f"{pictures}", markup=False)
    with console.status("fitting to nine images of ten"):
        rows = measure_held_out(pictures)
    console.print(render(rows), markup=False)
    with console.status("fitting to all"):
        run(pictures).save(out)
    console.print(f"Wrote {out}. Next: regard relations predict {out} DATA", markup=False)
    _write_json(json_, {name: row.to_dict() for name, row in rows.items()})


@relations_app.command
def measure(predictor: Path, source: Path, *, split: str = "test", json_: Json = None) -> None:
    """Measure a predictor on annotated relations, boxes and classes given (PredCls), of the names that it knows.

    Parameters
    ----------
    predictor
        A file that `regard relations fit` wrote.
    source
        As for fit.
    split
        Which split of a data folder.
    json_
        Write the metrics there.
    """
    from regard.relations.annotation_readers import annotations
    from regard.relations.predictor import Predictor
    from regard.relations.recall import measure, render, rungs

    learned = Predictor.load(predictor)
    pictures = annotations([source], split)
    known = pictures.named(learned.classes, learned.predicates)
    console.print(f"{known}; {len(pictures.relations) - len(known.relations):,} of other names left out", markup=False)
    rows = {name: measure(rung, known) for name, rung in rungs(learned).items()}
    console.print(render(rows), markup=False)
    _write_json(json_, {name: row.to_dict() for name, row in rows.items()})


@relations_app.command
def predict(predictor: Path, folder: Path, *, keep: Count = None) -> None:
    """Predict the relations of a data folder's regions from their labels and boxes.

    Splits that have relations keep them.

    Parameters
    ----------
    predictor
        A file that `regard relations fit` wrote.
    folder
        A data folder with boxes and labels; {split}_relations.npz is written beside them.
    keep
        So many most probable pairs of each image. By default as many as it probably has, 25 at most.
    """
    from regard.relations.from_predictor import predict as run
    from regard.relations.predictor import Predictor

    for line in run(Predictor.load(predictor), folder, keep):
        console.print(line, markup=False)


def _no_runs() -> NoReturn:
    raise InputError("Name at least one run folder.")


class _Bar:
    """A progress bar as a context; silent where there is no terminal."""

    def __init__(self, text: str, total: int | None) -> None:
        from rich.progress import Progress

        self.progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task(text, total=total)

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.progress.stop()

    def advance(self, amount: int) -> None:
        self.progress.advance(self.task, amount)

    def reach(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)


@contextmanager
def _matrix(path: Path | None, shape: tuple[int, int]) -> Iterator[Any]:
    """A float32 matrix in memory, or in the .npy file `path`, which is there once the block ends well."""
    import numpy as np

    if path is None:
        yield np.empty(shape, np.float32)
        return
    with replacing(path) as temporary:
        scores = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now; it would be a signal while the map is written
            with open(temporary, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        yield scores


def _write_array(path: Path, values: Any) -> None:
    import numpy as np

    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values)


def _write_json(path: Path | None, values: Any) -> None:
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def main() -> None:
    """Run the command line; the exit code is 2 for bad input and for an interruption."""
    sys.exit(_guarded(lambda: app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")))


def _guarded(command: Callable[[], Any]) -> int:
    try:
        command()
    except (InputError, Stopped, cyclopts.CycloptsError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("Interrupted.")
    except BrokenPipeError:
        return 0
    except OSError as error:
        where = error.filename or "while reading or writing"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _fail(f"The disk is full ({where}): nothing was left half-written.")
        return _fail(f"{error.strerror or error}: {where}")
    return 0


def _fail(text: str) -> int:
    print(f"regard: {' '.join(text.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
