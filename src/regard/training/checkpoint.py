"""Checkpoints: the state that a run is resumed from, and whether a folder contains the run to resume."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from regard.checksums import ChecksummedFile, check_file
from regard.files import InputError, replacing, sweep
from regard.lease import leased
from regard.matcher import Matcher
from regard.training.config import Natural
from regard.training.recipe import Recipe
from regard.training.trained_run import ORIGIN, RECIPE

STATE = "last.pt"
ZIP_END = 22  # bytes at the end of a zip archive, which a checkpoint is
# Training settings that may differ between a run and its resumption. With other epochs, a cosine schedule continues as
# that of the new number, so that the learning rate of earlier steps was another.
FREE_TO_CHANGE = {"epochs", "patience", "validate_every", "log_every", "save_minutes", "tensorboard"}


class Position:
    """How far training has come, and the best validation so far: saved in a checkpoint beside the tensors."""

    def __init__(self, epoch: int = 0, batch: int = 0, best: float = -1.0, best_epoch: int = 0) -> None:
        self.epoch, self.batch, self.best, self.best_epoch = epoch, batch, best, best_epoch


def save_state(out: Path, model: Matcher, optimizer: Any, position: Position, data: dict[str, int]) -> None:
    """Write the state to resume from, whole or not at all.

    `data` are numbers of the training data that must be the same when the run is resumed.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with replacing(out / STATE) as temporary, ChecksummedFile(temporary) as file:
        try:
            torch.save(state | {"position": vars(position), "data": data}, cast(Any, file))
        except RuntimeError as error:  # torch hides the reason why the file could not be written
            raise error.__context__ or error from None


@contextmanager
def own_folder(out: Path) -> Iterator[Callable[[], None]]:
    """Create the folder of a run, and keep other processes out of it during the block. It is removed if it stays empty.

    Yields the function that `leased` yields. Raises InputError if another process is training in it.
    """
    is_new = not os.path.lexists(out)
    if not is_new and not out.is_dir():
        yield lambda: None  # `load_state` refuses it
        return
    out.mkdir(parents=True, exist_ok=True)
    try:
        with leased(out, f"Another process is training in {out}: wait until it ends, or name another --out.") as check:
            sweep(out)
            yield check
    finally:
        if is_new:
            with suppress(OSError):  # not empty
                out.rmdir()


def load_state(out: Path, recipe: Recipe, resume: bool) -> "State | None":
    """Return the state to resume from, or None for a new run.

    Raises InputError if `out` contains anything but a run of this recipe, a run while `resume` is False, or a run that
    was imported, which has no such state.
    """
    if not (out / RECIPE).is_file():
        # Temporary files of a killed process are hidden files.
        if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
            raise InputError(f"{out} already exists and is not a run: name another --out.")
        return None
    if (out / ORIGIN).is_file():
        raise InputError(
            f"{out} was imported, so it cannot be continued: name another --out, and start from it with --set "
            f"train.init={out}."
        )
    if not resume:
        raise InputError(f"{out} already contains a run: continue it with --resume, or name another --out.")
    _check_same_settings(out, recipe)
    if not (out / STATE).is_file():
        return None
    try:
        check_state(out / STATE)
        return _STATE.validate_python(torch.load(out / STATE, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises almost any exception
        raise InputError(
            f"{out / STATE} is damaged ({type(error).__name__}): remove it to train from the beginning."
        ) from None


def check_state(path: Path) -> bool:
    """Return whether a checkpoint has a checksum. Raises InputError if it does not fit the content."""
    with open(path, "rb") as file:
        file.seek(-min(ZIP_END, path.stat().st_size), os.SEEK_END)
        ends_as_zip = file.read(4) == b"PK\5\6"  # a checkpoint without a checksum ends here
    if not check_file(path) and not ends_as_zip:
        raise InputError(f"{path} is cut short, or damaged at its end: copy it again, or train from the beginning.")
    return not ends_as_zip


class _SavedPosition(TypedDict):
    epoch: Natural
    batch: Natural
    best: float
    best_epoch: Natural


class State(TypedDict):
    """The contents of a checkpoint."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    position: _SavedPosition
    data: dict[str, int]


_STATE = TypeAdapter(State)


def _check_same_settings(out: Path, recipe: Recipe) -> None:
    """Raise InputError if the run in `out` was started with other settings."""
    before = Recipe.read(out / RECIPE)
    free = {name: getattr(recipe.train, name) for name in FREE_TO_CHANGE}
    if replace(before, train=replace(before.train, **free)) == recipe:
        return
    changed = []
    if before.model == recipe.model:
        old, new = _flat_settings(before), _flat_settings(recipe)
        free_keys = {f"train.{name}" for name in FREE_TO_CHANGE}
        changed = [
            f"{key} = {value!r} (then {old[key]!r})"
            for key, value in new.items()
            if old[key] != value and key not in free_keys
        ]
    raise InputError(
        f"{out} was started with other settings: now {', '.join(changed) or recipe.model}. Name another --out."
    )


def _flat_settings(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe by its name as `--set` takes it, such as cmsei.graph.directed."""

    def flatten(prefix: str, table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in table.items():
            if isinstance(value, dict):
                yield from flatten(f"{prefix}.{key}", value)
            else:
                yield f"{prefix}.{key}", value

    tables = {recipe.model: recipe.options, "words": recipe.words, "data": recipe.data, "train": recipe.train}
    return dict(setting for name, table in tables.items() for setting in flatten(name, asdict(table)))
