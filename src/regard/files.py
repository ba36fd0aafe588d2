"""InputError for bad input, and files that are written whole or not at all."""

import difflib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MANY = 30  # choices listed in one line


class InputError(ValueError):
    """Bad input: what was given, what was expected, what to do. The command line prints one line and exits with 2."""


class Stopped(Exception):
    """Long work was stopped by the user after saving its state; the message says how to continue."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `Did you mean 'x'?`, or the choices if none is similar: the end of an error about an unknown name."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Choose one of: {', '.join(choices[:MANY])}{', …' if len(choices) > MANY else '.'}"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if the block succeeds and is removed if it fails.

    The block may write a file or create a folder there. A folder only replaces an empty or absent folder. A symbolic
    link is kept and its target replaced. A device or a pipe (/dev/stdout) is written directly. An OSError names `path`.
    """
    path = Path(path)
    if path.parent == Path("/dev") or (path.exists() and not (path.is_file() or path.is_dir())):
        yield path
        return
    target = path.resolve() if path.is_symlink() else path
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file():
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            with suppress(NotADirectoryError):
                temporary.unlink(missing_ok=True)
