"""Verbs of the predictor of relations: fit, measure, predict."""

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from regard.cli.common import Json, OutputFile, SplitName, console, write_json
from regard.files import InputError

app = cyclopts.App(name="relations", help="Learn relations between regions and predict them.", help_format="markdown")

Count = Annotated[int | None, Parameter(validator=cyclopts.validators.Number(gte=1))]
PredictorFile = Annotated[Path, Parameter(help="File that `regard relations fit` wrote.")]


@app.command
def fit(
    *sources: Path,
    out: OutputFile,
    classes: Count = None,
    predicates: Count = None,
    split: SplitName = "train",
    json_: Json = None,
) -> None:
    """Fit a predictor of relations to annotated images.

    The predictor finds the relations between regions from their classes and boxes. It is fitted to nine tenths of the
    images and measured on the last tenth, then fitted to all images and written.

    Parameters
    ----------
    sources
        Data folders with boxes, labels and relations, relationships.json of Visual Genome, or scene graphs with boxes.
    out
        File of the predictor (.safetensors).
    classes
        Keep this number of the most frequent classes (Visual Genome's convention: 150). Default: classes that occur at
        least 10 times.
    predicates
        Keep this number of the most frequent predicates (Visual Genome's convention: 50). Default: predicates that
        occur at least 10 times.
    """
    from regard.relations.annotation_readers import read_annotations
    from regard.relations.predictor import fit as run
    from regard.relations.recall import measure_held_out, render

    if not sources:
        raise InputError("Expected at least one source of annotated relations: regard relations fit DIR --out FILE.")
    with console.status("reading"):
        images = read_annotations(sources, split).most_frequent(classes, predicates)
    console.print(f"{images}")
    with console.status("fitting to nine tenths of the images"):
        rows = measure_held_out(images)
    console.print(render(rows))
    with console.status("fitting to all images"):
        run(images).save(out)
    console.print(f"Wrote {out}. Next: regard relations predict {out} DATA")
    write_json(json_, {name: row.to_dict() for name, row in rows.items()})


@app.command
def measure(predictor: PredictorFile, source: Path, *, split: SplitName = "test", json_: Json = None) -> None:
    """Measure a predictor on annotated relations.

    The boxes and classes of the regions are given (PredCls). Only relations whose classes and predicate the predictor
    knows are counted.

    Parameters
    ----------
    source
        A source of annotated relations, as for `regard relations fit`.
    """
    from regard.relations.annotation_readers import read_annotations
    from regard.relations.predictor import Predictor
    from regard.relations.recall import measure, predictor_variants, render

    learned = Predictor.load(predictor)
    images = read_annotations([source], split)
    known = images.renumbered(learned.classes, learned.predicates)
    skipped = len(images.relations) - len(known.relations)
    console.print(f"{known}; skipped {skipped:,} relations with other names")
    rows = {name: measure(variant, known) for name, variant in predictor_variants(learned).items()}
    console.print(render(rows))
    write_json(json_, {name: row.to_dict() for name, row in rows.items()})


@app.command
def predict(predictor: PredictorFile, folder: Path, *, keep: Count = None) -> None:
    """Predict the relations between the regions of a data folder.

    The predictor reads the labels and boxes of the regions. Splits that already have relations keep them.

    Parameters
    ----------
    folder
        Data folder with boxes and labels. {split}_relations.npz is written beside them.
    keep
        Number of the most probable pairs to keep per image. Default: the expected number of relations of the image, at
        most 25.
    """
    from regard.relations.from_predictor import predict_folder
    from regard.relations.predictor import Predictor

    for line in predict_folder(Predictor.load(predictor), folder, keep):
        console.print(line)
