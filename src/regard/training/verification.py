"""Verify the folder of a run: every file can be read, and fits its checksum if it has one."""

from collections.abc import Callable, Iterator
from pathlib import Path

from regard.checksums import check_tensors
from regard.files import InputError
from regard.training.checkpoint import STATE, check_state, load_state
from regard.training.trained_run import RECIPE, TrainedRun


def verify(folder: Path) -> Iterator[tuple[str, InputError | None]]:
    """Yield each part of a run with the error that reading it raises, or None. Raises InputError if it is no run."""
    run = TrainedRun(folder)
    folder = run.folder
    parts: list[tuple[str, Callable[[], object]]] = [
        (RECIPE, lambda: run.recipe),
        ("tokenizer", lambda: run.tokenizer),
        ("weights", lambda: (run.model, run.names)),
    ]
    if (folder / STATE).exists():
        parts.append((STATE, lambda: (check_state(folder / STATE), load_state(folder, run.recipe, resume=True))))
    for path in sorted(folder.glob("*_scores.safetensors")):
        parts.append((path.name, lambda path=path: check_tensors(path)))  # type: ignore[misc]  # of a default
    for name, read in parts:
        try:
            read()
        except InputError as error:
            yield name, error
        else:
            yield name, None
