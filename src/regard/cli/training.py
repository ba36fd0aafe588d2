"""Verbs that train: train, recipes, ablate."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import Device, Json, Settings, console, write_json
from regard.files import InputError


def train(
    recipe: str, *, data: Path, out: Path, set_: Settings = (), resume: bool = False, device: Device = "auto"
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


def recipes() -> None:
    """List the recipes of the package."""
    from regard.training.recipe import recipe_names

    for name in recipe_names():
        console.print(name)


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
    device: Device = "auto",
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
    write_json(json_, {"split": split, "rows": to_dicts(found)})
