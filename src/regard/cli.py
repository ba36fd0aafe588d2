"""The command line: `regard VERB`. One clear line and exit code 2 for bad input; no traceback for a user's mistake."""

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from regard import __version__
from regard.files import InputError, Stopped, replacing

# Heavy modules are imported where they are used, so that --help answers at once.

console = Console(highlight=False)
app = cyclopts.App(
    name="regard",
    help="Match pictures and sentences by what is in them and how it is related.",
    version=__version__,
    console=console,
)
data_app = cyclopts.App(name="data", help="Check, convert and make data folders.")
app.command(data_app)

Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]
Protocol = Literal["full", "5fold"]


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
    from regard.recipe import Recipe
    from regard.train import train as run

    found = run(Recipe.read(recipe, list(set_)), data, out, resume=resume, device=device, console=console)
    console.print(f"{out}: the best weights, on validation")
    console.print(render(found), markup=False)
    console.print(f"Next: regard evaluate {out} --data {data} --split test")


@app.command
def recipes() -> None:
    """List the recipes of the package."""
    from regard.recipe import recipe_names

    for name in recipe_names():
        console.print(name)


@app.command
def evaluate(
    *runs: Path,
    data: Path,
    split: str = "test",
    protocol: Protocol = "full",
    json_: Annotated[Path | None, Parameter(name="--json")] = None,
    save_scores: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure a run on a split; several runs together are an ensemble (the mean of their scores).

    Parameters
    ----------
    runs
        Run folders, one or more.
    data
        The data folder.
    split
        Which split of it.
    protocol
        full: every image against every text. 5fold: the mean over five consecutive folds of images (COCO 1K).
    json_
        Write the metrics there.
    save_scores
        Write the score matrix there (.npy, float32, image x text), and the map beside it (.image_of_text.npy).
    device
        auto, cpu or cuda.
    """
    import numpy as np
    import torch

    from regard.checkpoint import load
    from regard.data import Split
    from regard.evaluate import ensemble, scores_of
    from regard.metrics import recalls, render
    from regard.recipe import Recipe

    if not runs:
        raise InputError("Name at least one run folder: regard evaluate RUN --data DIR.")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    matrices, opened = [], None
    for run in runs:
        model, settings = load(run, where), Recipe.read(run / "recipe.toml").data
        this = Split.open(
            data,
            split,
            captions_per_image=settings.captions_per_image,
            relation_threshold=settings.relation_threshold,
        )
        if opened is not None and not np.array_equal(opened.image_of_text, this.image_of_text):
            raise InputError(f"{run} reads {data} {split} with another map of sentences to images than {runs[0]} does.")
        opened = this
        with _bar(f"scoring with {run}", this.num_images * this.num_texts) as advance:
            matrices.append(scores_of(model, this, progress=advance))
    assert opened is not None
    scores = ensemble(matrices).numpy()
    found = recalls(scores, opened.image_of_text, protocol)
    if save_scores:
        with replacing(save_scores) as temporary, open(temporary, "wb") as file:
            np.save(file, scores)
        with replacing(save_scores.with_suffix(".image_of_text.npy")) as temporary, open(temporary, "wb") as file:
            np.save(file, opened.image_of_text)
    console.print(f"{' + '.join(map(str, runs))} on {data} {split}: {opened.num_images:,} images, {opened.num_texts:,} texts")
    console.print(render(found), markup=False)
    _write_json(json_, found.to_dict())


def _bar(text: str, total: int) -> Any:
    """A progress bar as a context that gives `advance(amount)`."""
    from contextlib import contextmanager

    from rich.progress import Progress

    @contextmanager
    def bar() -> Any:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(text, total=total)
            yield lambda amount: progress.advance(task, amount)

    return bar()


def _write_json(path: Path | None, values: dict[str, Any]) -> None:
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def main() -> None:
    """Run the command line; the exit code is 2 for bad input and for an interruption."""
    sys.exit(_guarded(lambda: app(exit_on_error=False, print_error=False, result_action="return_value")))


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
        if error.errno == errno.ENOSPC:
            return _fail(f"The disk is full ({error.filename or 'while writing'}): nothing was left half-written.")
        if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
            return _fail(f"{error.strerror}: {error.filename}")
        raise
    return 0


def _fail(text: str) -> int:
    print(f"regard: {' '.join(text.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
