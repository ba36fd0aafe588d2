"""What the scripts of this folder share: a small data folder, a run on it, an index of it, and commands to run."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from regard.cli import main

SMALL = ("train.epochs=1", "train.batch_size=24", "words.word_dim=8", "scan.dim=16")


def call(*arguments: object) -> tuple[int, str]:
    """Run the command line in this process, and return its exit code and its errors."""
    before, sys.argv = sys.argv, ["regard", *map(str, arguments)]
    out, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as end:
        return int(end.code or 0), errors.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("the command line did not exit")


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "regard", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def training(folder: Path, run: str) -> tuple[object, ...]:
    """Return the command that trains a small run."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return ("train", "scan-scenes", "--data", folder / "data", "--out", folder / run, *settings)


def make(folder: Path, index: bool = False) -> None:
    """Write `data`, `converted`, `run` and, if asked for, `index` to a folder."""
    sizes = ("--train", 64, "--dev", 6, "--test", 6, "--pictures", 6)
    commands = [
        ("data", "scenes", "--out", folder / "data", *sizes),
        ("data", "convert", folder / "data", "--out", folder / "converted"),
        training(folder, "run"),
    ]
    if index:
        commands.append(("index", folder / "run", folder / "data", "--split", "test", "--out", folder / "index"))
    for command in commands:
        code, errors = call(*command)
        if code:
            raise SystemExit(errors)
