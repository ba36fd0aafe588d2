"""Verbs that train: train, recipes, ablate."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import Device, Json, RecipeName, Run, Settings, SplitName, console, write_json
from regard.files import InputError

RowNames = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]
Flag = Parameter(negative="", show_default=False)
ALL_ROWS = "1/1"  # the one part of all rows


def train(
    recipe: RecipeName,
    *,
    data: Path,
    out: Path,
    set_: Settings = (),
    resume: Annotated[bool, Flag] = False,
    device: Device = "auto",
) -> None:
    """Train a model from a recipe on a data folder.

    Parameters
    ----------
    data
        Data folder. `regard data check` reports its contents.
    out
        Folder of the run, which is created.
    resume
        Continue the run in `--out`.
    """
    from regard.metrics import render
    from regard.ranks import joined, together
    from regard.training.loop import train as run
    from regard.training.recipe import Recipe

    with joined(device):
        settings = together(lambda: Recipe.read(recipe, list(set_)))
        recalls = run(settings, data, out, resume=resume, device=device, console=console)
    console.print(f"{out}: metrics of the best weights on the validation split")
    console.print(render(recalls))
    console.print(f"Next: regard evaluate {out} --data {data} --split test")


def recipes() -> None:
    """List the built-in recipes."""
    from regard.training.recipe import recipe_names

    for name in recipe_names():
        console.print(name)


def verify(run: Run) -> None:
    """Check that every file of a run can be read and fits its checksum.

    The exit code is 1 if a file is damaged.
    """
    from regard.training.verification import verify as parts_of

    damaged = False
    for name, error in parts_of(run):
        console.print(f"{name:24}{error or 'whole'}")
        damaged = damaged or error is not None
    if damaged:
        raise SystemExit(1)


def ablate(
    recipe: RecipeName,
    *,
    data: Path | None = None,
    out: Path | None = None,
    set_: Settings = (),
    rows: RowNames = (),
    part: str = ALL_ROWS,
    split: SplitName = "test",
    list_: Annotated[bool, Parameter(name="--list"), Flag] = False,
    only_measure: Annotated[bool, Flag] = False,
    json_: Json = None,
    device: Device = "auto",
) -> None:
    """Train a model without each of its mechanisms, and compare.

    Each row of the table is a run of the recipe without one mechanism of the model. Finished runs are not trained
    again, and interrupted runs continue. Several machines may share `--out` and train a part of the rows each; the
    table shows the runs that any of them has finished.

    Parameters
    ----------
    data
        Data folder. Required unless `--list` is given.
    out
        Folder for the runs, the table (ablation.md, ablation.json) and its picture. Required unless `--list` is given.
    rows
        Train and measure only this row. May be repeated. Default: all rows of the model.
    part
        The part of the rows to train. 2/4: the second of four machines, which trains every fourth row.
    list_
        List the rows and their settings, and exit.
    only_measure
        Measure the finished runs without training.
    """
    from regard.runtime import device_named
    from regard.training.ablate import measure_rows, select_rows, table, to_dicts, train_rows, write_tables
    from regard.training.recipe import Recipe

    device = device_named(device)
    model = Recipe.read(recipe, list(set_)).model
    wanted = select_rows(model, rows)
    if part != ALL_ROWS and (list_ or only_measure):
        raise InputError("--part divides the training: it cannot be used with --list or --only-measure.")
    if list_:
        for name, settings in wanted.items():
            console.print(f"{name:20}{' '.join(settings) or 'the recipe without changes'}")
        return
    if data is None or out is None:
        raise InputError("regard ablate requires --data and --out (or --list).")
    if not only_measure:
        train_rows(recipe, select_rows(model, rows, part), data, out, list(set_), device, console)
    measured = measure_rows(wanted, data, out, split, device)
    if not measured:
        raise InputError(f"{out} has no finished run of {model}: repeat the command without --only-measure.")
    write_tables(measured, out)
    console.print(table(measured))
    console.print(f"Wrote {out / 'ablation.md'}, ablation.json and ablation.png")
    write_json(json_, {"split": split, "rows": to_dicts(measured)})
