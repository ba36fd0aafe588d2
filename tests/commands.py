"""The command line in this process, for the tests."""

import contextlib
import io
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from regard.cli import main

HEAVY = {"torch", "numpy", "matplotlib", "transformers"}
TINY = ("--set", "train.epochs=1", "--set", "train.log_every=1", "--set", "words.word_dim=8", "--set")


@dataclass
class CommandResult:
    code: int
    out: str
    err: str


def regard(*arguments: object) -> CommandResult:
    """Run the command line, and return what it prints and its exit code."""
    before, sys.argv = sys.argv, ["regard", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return CommandResult(end.value.code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """Run the command line on bad input, and return its one line of standard error."""
    result = regard(*arguments)
    assert result.code == 2, result
    assert re.fullmatch(r"regard: [^\n]+\n", result.err), result.err
    return result.err.removeprefix("regard: ").strip()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def training(data: Path, *more: str, recipe: str = "cmsei-scenes") -> tuple[object, ...]:
    return ("train", recipe, "--data", data, "--out", data.parent / "run", *TINY, "train.batch_size=24", *more)


@contextlib.contextmanager
def room_for(size: int):
    """Limit the size of files that this process writes to `size` bytes, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def interrupted(begun, *arguments: object, by: int = signal.SIGINT) -> tuple[int, str]:
    """Run the command line in its own process group, press Ctrl-C once `begun()` is true, and return (code, errors).

    `by` is another signal to send in place of Ctrl-C.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "regard", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # The tests may run in a background job of a shell, whose children ignore Ctrl-C by default.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 60
        while not begun():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, by)
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, err


def damage(path: Path, change) -> None:
    np.save(path, change(np.load(path)))


def launcher(processes: int) -> list[str]:
    """The beginning of a command that Python runs in some processes of one job, started by torchrun if several."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(torchrun if processes > 1 else [])]


def rank_environment() -> dict[str, str]:
    """The environment of such processes: one thread each, and the modules of the tests."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def launched(processes: int, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a Python command in some processes, and return what they printed."""
    words = [*launcher(processes), *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, env=rank_environment())


def loaded_by(code: str, environment: dict[str, str] | None = None, also: Iterable[str] = ()) -> set[str]:
    """Return the heavy modules, and those of `also`, that a fresh interpreter has loaded after `code`."""
    code = f"import sys\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    return {*HEAVY, *also} & set(done.stdout.splitlines()[-1].split())
