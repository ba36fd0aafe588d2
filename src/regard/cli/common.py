"""What the verbs share: the console, types of options, the progress bar, and writing."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from regard.files import replacing

# Of several processes (torchrun numbers them in RANK), the first alone speaks.
console = Console(highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")


def check_writable(type_: Any, path: Path | None) -> None:
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


Device = Annotated[str, Parameter(help="auto, cpu or cuda.")]
Json = Annotated[Path | None, Parameter(name="--json", validator=check_writable)]
Png = Annotated[Path | None, Parameter(validator=check_writable)]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]


class ProgressBar:
    """A progress bar as a context; silent where there is no terminal."""

    def __init__(self, text: str, total: int | None) -> None:
        from rich.progress import Progress

        self.progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task(text, total=total)

    def __enter__(self) -> "ProgressBar":
        self.progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.progress.stop()

    def advance(self, amount: int) -> None:
        self.progress.advance(self.task, amount)

    def reach(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)


def write_json(path: Path | None, values: Any) -> None:
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
