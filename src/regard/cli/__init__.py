"""The command line: `regard VERB`. Bad input ends with one line on standard error and exit code 2, not a traceback.

Each family of verbs has a file in this folder, which is imported when one of its verbs runs or prints its help. These
files import torch, numpy and matplotlib inside functions, so that `--help` and completion do not wait for them.
"""

import errno
import sys

import cyclopts

from regard import __version__
from regard.cli.process import tune_process
from regard.files import InputError, Stopped

# The verbs of each group of the root help, as file:function. An `app` has verbs of its own and the name of its file.
VERBS = {
    "Train and evaluate": (
        "training:train",
        "training:recipes",
        "evaluation:evaluate",
        "evaluation:metrics",
        "evaluation:twins",
        "training:ablate",
    ),
    "Search and explain": ("index:app", "search:search", "serve:serve", "explain:explain", "explain:look"),
    "Data": ("extract:extract", "data:app", "relations:app", "words:app"),
    "Demonstration and speed": ("bench:demo", "bench:bench", "bench:compile_"),
}

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
    """Run the command line and exit: with code 2 after bad input or an interruption."""
    tune_process()
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    """Run one command, and return its exit code."""
    try:
        if all(argument.startswith("-") for argument in arguments):
            app.resolved_commands()  # the root help shows the summary of a verb only if the verb is imported
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.MissingArgumentError as error:
        verb, argument = " ".join(error.command_chain or ()), error.argument
        name = argument.name if argument else "an argument"
        if argument and argument.index is not None:  # a positional argument, which the help shows in capitals
            name = name.removeprefix("--").upper()
        return _fail(f"regard {verb} requires {name}: see regard {verb} --help.")
    except (InputError, Stopped, cyclopts.CycloptsError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("Interrupted.")
    except BrokenPipeError:
        return 0
    except OSError as error:
        where = error.filename or "while reading or writing"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _fail(f"The disk is full ({where}). No partial file was left.")
        return _fail(f"{error.strerror or error}: {where}")
    return 0


def _fail(text: str) -> int:
    print(f"regard: {' '.join(text.split())}", file=sys.stderr)
    return 2
