"""What every part that meets the user shares: errors that become one line, and writing that is whole or absent."""

import difflib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MANY = 30  # choices that one line names


class InputError(ValueError):
    """Bad input: what was given, what was expected, what to do. On the command line, one line and exit code 2."""


class Stopped(Exception):
    """Long work was asked to stop, and has saved its state: what to do to go on."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """`Did you mean 'x'?`, or the choices when none is near: the end of an error about an unknown name."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Choose one of: {', '.join(choices[:MANY])}{', …' if len(choices) > MANY else '.'}"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    The block may write a file or make a folder there. A folder replaces only a folder that is empty or absent. A link
    stays a link, and a device or a pipe (/dev/stdout) is written as it is. An OSError names `path`.
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
