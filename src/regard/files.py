"""InputError for bad input, and files that are written whole or not at all."""

import difflib
import fcntl
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MANY = 30  # choices listed in one line
COMPARED = 2000  # choices among which the nearest is looked for; difflib takes 0.1 ms for each
# Of messages: control characters but tab and newline, marks that reorder text, and bytes that are not UTF-8.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(ValueError):
    """Bad input: what was given, what was expected, what to do. The command line prints one line and exits with 2."""

    is_shared = False  # whether all processes of a job raise it, so that the first one alone prints it


class Stopped(Exception):
    """Long work was stopped by the user after saving its state; the message says how to continue."""

    is_shared = True


def missing_extra(need: str, extra: str) -> InputError:
    """Return the error about a package that an extra of Regard installs; `need` is the beginning of the message."""
    return InputError(f'{need}: pip install ".[{extra}]" in the clone of Regard.')


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `Did you mean 'x'?`, or the choices if none is similar: the end of an error about an unknown name.

    Of very many choices, such as the ids of a collection, only some are named.
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5) if len(choices) <= COMPARED else []
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Choose one of: {', '.join(choices[:MANY])}{', …' if len(choices) > MANY else '.'}"


def visible(text: str) -> str:
    """Return text in which what would control a terminal, or cannot be printed, is escaped: ESC becomes \\x1b."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


def is_utf8(text: str) -> bool:
    """Return whether text can be written as UTF-8: names of files, and JSON, may contain half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Keep other processes out of a folder, or of what a lock file stands for, during the block.

    Raises InputError with `message` if another process is in it. The lock of a process that was killed is free.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(message) from None
        yield
    finally:
        os.close(descriptor)


def parse_json(text: str | bytes) -> Any:
    """Return the value that JSON text describes. Raises ValueError if it is not JSON, or nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def absolute_if_there(name: str) -> str:
    """Return the absolute path of a file or folder that is there; another name, such as one on a hub, unchanged."""
    return os.path.abspath(name) if os.path.exists(name) else name


def check_new_folder(out: Path) -> None:
    """Raise InputError if `out` exists, unless it is an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty. Give a new folder, or remove it first.")


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
    target = Path(os.path.realpath(path)) if path.is_symlink() else path  # Path.resolve fails for a circular link
    temporary = target.with_name(f".{target.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # of a killed process with the same number, as processes in a container often have
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
        _remove(temporary)


def sweep(folder: Path) -> None:
    """Remove what `replacing` left in a folder when its process was killed; of this machine only."""
    name = re.compile(rf"\..+\.{re.escape(platform.node())}\.([0-9]+)\.tmp", re.DOTALL)
    for entry in folder.glob(".*.tmp"):
        if (found := name.fullmatch(entry.name)) and not _is_alive(int(found[1])):
            with suppress(OSError):  # another user's, or removed by another process
                _remove(entry)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with suppress(NotADirectoryError):
            path.unlink(missing_ok=True)
