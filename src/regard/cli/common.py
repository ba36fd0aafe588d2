"""What the verbs share: the console, option types with their help, the progress bar, and writing of JSON files."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.markup import escape

from regard.console import PlainConsole
from regard.files import InputError, replacing, visible
from regard.launchers import is_first

if TYPE_CHECKING:
    from regard.data import Split
    from regard.training.trained_run import EmbeddingRun, TrainedRun

SAME_OPTIONS = "Start all processes with the same options."

console = PlainConsole(quiet=not is_first())  # of several processes, the first one prints


def check_writable(type_: Any, path: Path | None) -> None:
    """Raise ValueError if no file can be written at `path`. A validator: it runs before the work of the verb."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder: expected the name of a file.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{above} is not a folder.")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{above} is read-only.")


OutputFile = Annotated[Path, Parameter(validator=check_writable)]
Json = Annotated[
    Path | None, Parameter(name="--json", validator=check_writable, help="Also write the results to this JSON file.")
]
Png = Annotated[Path | None, Parameter(validator=check_writable, help="Also draw the results to this PNG file.")]
Device = Annotated[str, Parameter(help="auto (CUDA if there is a GPU, otherwise the CPU), cpu or cuda.")]
RecipeName = Annotated[str, Parameter(help="Name of a built-in recipe (`regard recipes` lists them), or a TOML file.")]
Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative="",
        show_default=False,
        help="A setting that replaces the recipe's, such as train.epochs=5. May be repeated.",
    ),
]
RUN_HELP = "(the `--out` of `regard train`), or hf://user/name on the Hugging Face hub."
Run = Annotated[Path, Parameter(help=f"Folder of a trained run {RUN_HELP}")]
RunOfSeveral = Annotated[Path, Parameter(help=f"One or more folders of trained runs {RUN_HELP}")]
RunData = Annotated[Path | None, Parameter(help="Data folder. Default: the one that the run was trained on.")]
SplitName = Annotated[str, Parameter(help="Split of the data folder.")]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "tf32"],
    Parameter(
        help="Precision of the matrix products of pairs. bfloat16 changes recalls by a few tenths; it is "
        "faster on hardware with units for it, and slower elsewhere. "
        "tf32: float32 with rounded factors, on CUDA only. auto: bfloat16 if the hardware has it, otherwise float32."
    ),
]
SentenceParser = Annotated[
    Literal["own", "spacy"],
    Parameter(help="own: the small parser included in Regard. spacy: the English model of spaCy, if installed."),
]


def divided(verb: Callable[..., Callable[[], None]]) -> Callable[..., None]:
    """Make a verb whose work the processes of a job divide; the first one prints and writes files.

    `verb` checks and opens what it needs, and returns the function that does the work. All processes end with the same
    line if one cannot begin, or if their options differ. `device` becomes that of the process.
    """

    @functools.wraps(verb)
    def in_every_process(*values: Any, **options: Any) -> None:
        from regard.ranks import check_same, joined, together

        with joined(options.pop("device", "auto")) as device:
            given = inspect.signature(verb).bind(*values, **options).arguments
            check_same("command", lambda: "\n".join(f"{name} {value}" for name, value in given.items()), SAME_OPTIONS)
            work = together(lambda: verb(*values, **options, device=str(device)))
            together(work)

    return in_every_process


def check_same_inputs(runs: "Sequence[TrainedRun | EmbeddingRun]", splits: "Sequence[Split]") -> None:
    """Raise SharedError if the processes of a job read different runs or data. All models are loaded."""
    from regard.ranks import check_same, together

    together(lambda: [run.model for run in runs])
    files = "All processes must read the same files."
    check_same("run", lambda: "\n".join(f"{run.folder} {run.fingerprint}" for run in runs), files)
    check_same("split", lambda: "\n".join(split.digest() for split in splits), files)


def settle_precision(precision: str, device: str) -> Any:
    """Return the precision to use on `device`. If it is chosen here, print which it is and why.

    Raises InputError for tf32 without CUDA.
    """
    from regard.runtime import choose_precision

    chosen, reason = choose_precision(precision, device)  # type: ignore[arg-type]  # cyclopts has checked it
    if precision == "auto":
        console.print(reason)
    return chosen


def check_runs(runs: Sequence[Path | str]) -> None:
    """Raise InputError if `runs` is empty."""
    if not runs:
        raise InputError("Expected at least one run folder.")


def check_sentences(sentences: Sequence[str], verb: str) -> None:
    """Raise InputError if `sentences` is empty."""
    if not sentences:
        raise InputError(f'Expected at least one sentence in quotes: {verb} "a dog runs after a man".')


class ProgressBar:
    """A progress bar as a context manager. It shows nothing if the output is not a terminal."""

    def __init__(self, text: str, total: int | None) -> None:
        from rich.progress import Progress

        self.progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task(escape(visible(text)), total=total)

    def __enter__(self) -> "ProgressBar":
        self.progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.progress.stop()

    def advance(self, amount: int) -> None:
        """Count `amount` more items as done."""
        self.progress.advance(self.task, amount)

    def reach(self, done: int, total: int) -> None:
        """Set the number of items that are done, and of all items."""
        self.progress.update(self.task, completed=done, total=total)


def write_json(path: Path | None, values: Any) -> None:
    """Write `values` to `path` if there is one. Of several processes, the first one writes."""
    if path is not None and is_first():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
