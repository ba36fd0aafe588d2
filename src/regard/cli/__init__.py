"""The command line: `regard VERB`. Bad input ends with one line on standard error and exit code 2, not a traceback.

Each family of verbs has a file in this folder, which is imported when one of its verbs runs or prints its help. These
files import torch, numpy and matplotlib inside functions, so that `--help` and completion do not wait for them.
"""

import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cyclopts

from regard import __version__
from regard.cli.process import tune_process
from regard.files import InputError, Stopped, sweep, visible
from regard.launchers import UnclearJob, is_first
from regard.launchers import job as place_in_job  # `regard.cli.job` is a file

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says of a full disk

# The verbs of each group of the root help, as file:function. An `app` has verbs of its own and the name of its file.
VERBS = {
    "Train and evaluate": (
        "training:train",
        "training:recipes",
        "evaluation:evaluate",
        "evaluation:metrics",
        "evaluation:twins",
        "probing:probe",
        "ensemble:ensemble",
        "training:ablate",
        "training:verify",
        "importing:import_",
    ),
    "Search and explain": ("index:app", "search:search", "serve:serve", "explain:explain", "explain:look"),
    "Share": ("sharing:card", "sharing:push"),
    "Data": ("extract:extract", "data:app", "relations:app", "words:app"),
    "Several machines": ("job:app",),
    "Demonstration and speed": ("bench:demo", "bench:bench", "bench:compile_"),
}

# The verbs that several processes of a job can do together. With any other, each would do all of it, in the same files.
DIVIDED = ("train", "evaluate", "twins", "probe", "extract")

app = cyclopts.App(
    name="regard",
    help="Relation-aware image-text matching: train, evaluate, search and explain.",
    help_format="plaintext",  # importing the markdown renderer takes 60 ms, and the list of verbs does not need it
    version=__version__,
    suppress_keyboard_interrupt=False,  # _run reports the interruption
)
for rank, (title, paths) in enumerate(VERBS.items()):
    group = cyclopts.Group(title, sort_key=rank)
    for position, path in enumerate(paths):
        file, _, function = path.partition(":")
        if function == "app":
            app.command(f"regard.cli.{path}", name=file, group=group, sort_key=position)
        else:
            app.command(f"regard.cli.{path}", group=group, sort_key=position, help_format="markdown")
setup = cyclopts.Group("Setup and help", sort_key=len(VERBS))
app.command(
    "regard.cli.completion:install_completion", name="--install-completion", group=setup, help_format="markdown"
)
for flag, summary in {"--help": "Print this help and exit.", "--version": "Print the version and exit."}.items():
    app[flag].group, app[flag].help = setup, summary


def main() -> None:
    """Run the command line and exit: with code 2 after bad input or an interruption, with 1 after a fault of Regard."""
    tune_process()
    with _sigterm_as_interruption():
        code = _run(sys.argv[1:])
    sys.exit(code)


@contextmanager
def _sigterm_as_interruption() -> Iterator[None]:
    """End as after Ctrl-C when SIGTERM is received during the block, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: list[str]) -> int:
    """Run one command, and return its exit code."""
    try:
        _check_alone(arguments)
        for folder in _folders(arguments):
            sweep(folder)
        if all(argument.startswith("-") for argument in arguments):
            app.resolved_commands()  # the root help shows the summary of a verb only if the verb is imported
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.stdout:  # None if it was closed
            sys.stdout.flush()
    except cyclopts.MissingArgumentError as error:
        verb, argument = " ".join(error.command_chain or ()), error.argument
        name = argument.name if argument else "an argument"
        if argument and argument.index is not None:  # a positional argument, which the help shows in capitals
            name = name.removeprefix("--").upper()
        return _fail(f"regard {verb} requires {name}: see regard {verb} --help.")
    except (InputError, Stopped, cyclopts.CycloptsError) as error:
        return _fail(str(error), is_shared=getattr(error, "is_shared", True))
    except KeyboardInterrupt:
        return _fail("Interrupted.", is_shared=True)
    except BrokenPipeError:
        return 0
    except Exception as error:  # nothing ends in a traceback
        return _report(error)
    return 0


def _check_alone(arguments: list[str]) -> None:
    """Raise UnclearJob if a launcher has started several processes of a verb that is for one."""
    verb = arguments[0] if arguments else ""
    if verb in DIVIDED or verb.startswith("-"):
        return
    try:
        own = place_in_job()
    except UnclearJob:  # a variable that some other program left
        return
    if own.world > 1:
        raise UnclearJob(
            f"{own.launcher} has started {own.world} processes, but `regard {verb}` works in one: start it without "
            f"{own.launcher}. {', '.join(DIVIDED[:-1])} and {DIVIDED[-1]} work in several."
        )


def _folders(arguments: Iterable[str]) -> set[Path]:
    """The folders that the arguments name, or that contain what they name."""
    values = (argument.partition("=")[2] if argument.startswith("--") else argument for argument in arguments)
    paths = {Path(value) for value in values if value and "\0" not in value}
    folders = {folder for path in paths for folder in (path, path.parent, path / "photographs")}
    return {folder for folder in folders if os.path.isdir(folder)}


def _report(error: Exception) -> int:
    """Print one line about an error that no reader expected: of the system, or a fault of Regard."""
    causes = list(_causes(error))
    if any(_is_full_disk(cause) for cause in causes):
        where = next((cause.filename for cause in causes if isinstance(cause, OSError) and cause.filename), None)
        notes = [note for cause in causes for note in getattr(cause, "__notes__", ())]
        what_is_left = " ".join(notes) or "No partial file was left."
        return _fail(f"The disk is full ({where or 'while reading or writing'}). {what_is_left}")
    if isinstance(error, OSError):
        return _fail(f"{error.strerror or error}: {error.filename or 'while reading or writing'}")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="regard-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            traceback.print_exception(error, file=file)
        where = f"The details are in {file.name}"
    except OSError as failure:
        where = f"The details could not be saved ({failure.strerror})"
    return _fail(f"Unexpected {type(error).__name__}: {str(error)[:300]}. {where}; please report them.", 1)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, at most ten."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _is_full_disk(error: BaseException) -> bool:
    """Whether an error is, or contains, that of the system; libraries in Rust and C++ raise theirs with its text."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return "No space left on device" in str(error) or "(os error 28)" in str(error)


def _fail(text: str, code: int = 2, is_shared: bool = False) -> int:
    """Print one line, and return the exit code. What all processes of a job share, the first one prints."""
    if is_shared and not is_first():
        return code
    with suppress(OSError):  # standard error is full or closed
        print(f"regard: {visible(' '.join(text.split()))}", file=sys.stderr)
    return code
