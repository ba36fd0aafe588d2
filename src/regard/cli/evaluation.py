"""Verbs that measure: evaluate, metrics, twins."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import Parameter

from regard.cli.common import Device, Json, ProgressBar, check_writable, console, write_json
from regard.files import InputError, replacing

Protocol = Literal["full", "5fold"]
Scores = Annotated[Path | None, Parameter(validator=check_writable)]


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
    device: Device = "auto",
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
        no_runs()
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
            with ProgressBar(f"scoring with {run}", scores.size) as bar:
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
    write_json(json_, measured.to_dict())


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
    write_json(json_, found.to_dict())


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
    write_json(json_, report.to_dict())


def twins(*runs: Path, data: Path, split: str = "test", json_: Json = None, device: Device = "auto") -> None:
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
    for run in runs or no_runs():
        opened = open_for(run, data, split)
        found[str(run)] = ask(scores_of(load(run, device), opened), opened)
        answers = "  ".join(f"{kind} {value:5.1f}" for kind, value in found[str(run)].items())
        console.print(f"{run}: {answers}  (percent right; chance is 50)", markup=False)
    write_json(json_, found)


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


def no_runs() -> NoReturn:
    raise InputError("Name at least one run folder.")
