"""Verbs of the predictor of relations: fit, measure, predict."""

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from regard.cli.common import Json, check_writable, console, write_json
from regard.files import InputError

app = cyclopts.App(name="relations", help="Learn relations between regions, and predict them.", help_format="markdown")

Count = Annotated[int | None, Parameter(validator=cyclopts.validators.Number(gte=1))]


@app.command
def fit(
    *sources: Path,
    out: Annotated[Path, Parameter(validator=check_writable)],
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
    write_json(json_, {name: row.to_dict() for name, row in rows.items()})


@app.command
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
    write_json(json_, {name: row.to_dict() for name, row in rows.items()})


@app.command
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
