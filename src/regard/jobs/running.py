"""Run the parts of a job: one after another on this machine, or by Ray on the machines of a cluster.

Ray runs in a process of its own (ray_driver.py). What it prints goes to a file, its signal handlers stay away from this
process, and an address that does not answer is known after CONNECT seconds, when Ray itself would still try.
"""

import os
import pickle
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regard.files import InputError, Stopped, missing_extra, parse_json, replacing
from regard.jobs.job_folder import JobFolder

CONNECT = 60.0  # seconds; Ray starts in 2 to 10, and later on a busy machine
STOP = 20.0  # seconds that the process of Ray has to end its tasks
POLL = 1.0  # seconds between two looks at the folder

# A part: its argument, the file to write its result to, its number, and whether to stop.
Work = Callable[[Any, Path, int, Callable[[], bool]], object]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Machines:
    """Where parts run: on the Ray cluster at `address`, or on this machine if it is "".

    Each part takes `cpus` processors, and one GPU if `device` is cuda.
    """

    address: str = ""
    cpus: float = 1.0
    device: str = "cpu"

    @property
    def own_device(self) -> str:
        """The device for what this machine does itself."""
        return "cpu" if self.address else self.device


def run_parts(
    folder: JobFolder,
    work: Work,
    arguments: Sequence[Any],
    machines: Machines,
    is_stopped: Callable[[], bool],
    progress: Progress | None = None,
) -> None:
    """Return when the part of each argument is finished. Parts that are finished already are not done again.

    `work` must be picklable. Raises InputError if a part does, Stopped if `is_stopped` returns True or the job is
    cancelled, and what else a part raises. What is finished is kept.
    """

    def is_ended() -> bool:
        return is_stopped() or folder.is_cancelled()

    def report() -> None:
        if progress:
            progress(len(folder.finished()), len(arguments))

    missing = sorted(set(range(len(arguments))) - folder.finished())
    report()
    if machines.address and missing:
        payloads = {number: pickle.dumps((folder.out, number, arguments[number])) for number in missing}
        _run_on_ray(folder, pickle.dumps(work), payloads, machines, is_ended, report)
        if not is_ended():
            folder.wait_for(len(arguments))
    for number in [] if machines.address else missing:
        if is_ended():
            break
        do_part(work, arguments[number], folder, number, is_ended)
        report()
    if is_ended():
        how = "Cancelled" if folder.is_cancelled() else "Stopped"
        raise Stopped(f"{how}. What is finished is kept in {folder.out}; run the same command to continue.")
    folder.check_owned()


def do_part(work: Work, argument: Any, folder: JobFolder, number: int, is_stopped: Callable[[], bool]) -> None:
    """Do one part, unless it is finished. The result is written whole, or not at all if the job is to stop."""
    if folder.part(number).exists():
        return
    with replacing(folder.part(number)) as temporary:
        work(argument, temporary, number, is_stopped)
        if is_stopped():
            raise Stopped("Stopped.")


def do_payload(work: bytes, payload: bytes) -> str:
    """Do a part on a machine of the cluster, and return why it was refused; "" if it was not."""
    try:
        out, number, argument = pickle.loads(payload)
        folder = JobFolder(out)
        if not folder.folder.is_dir():
            raise InputError(
                f"{socket.gethostname()} does not see {folder.folder}: expected a folder on storage that all machines "
                "share, under the same path."
            )
        do_part(pickle.loads(work), argument, folder, number, folder.is_cancelled)
    except InputError as error:
        return str(error)
    except Stopped:
        return ""  # the process that gave out the part knows why
    return ""


# Ray ------------------------------------------------------------------------------------------------------------------


def check_address(address: str) -> None:
    """Raise InputError if Ray is not installed, or nothing listens at an address such as 10.0.0.1:6379."""
    if find_spec("ray") is None:
        raise missing_extra("--ray requires Ray", "scale")
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16 or "/" in host:
        raise InputError(
            f"--ray {address}: expected auto, or an address such as 10.0.0.1:6379 (see `ray start --head`)."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"--ray {address}: nothing answers there ({error.strerror or error}). {REMEDY}") from None


REMEDY = "`ray start --head` starts a cluster, and prints its address."


def _run_on_ray(
    folder: JobFolder,
    work: bytes,
    payloads: dict[int, bytes],
    machines: Machines,
    is_ended: Callable[[], bool],
    report: Callable[[], None],
) -> None:
    """Run the parts by a process of Ray, which ends when its standard input is closed, or this process ends."""
    check_address(machines.address)
    settings = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONUNBUFFERED": "1"}
    with open(folder.folder / "ray.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "regard.jobs.ray_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | settings,
            start_new_session=True,  # Ctrl-C is for this process
        )
    assert process.stdin
    assert process.stdout
    lines = _Lines(process.stdout.fileno())
    try:
        with suppress(BrokenPipeError):  # it has ended, which the next lines report
            gpus = int(machines.device == "cuda")
            pickle.dump((machines.address, machines.cpus, gpus, work, payloads), process.stdin)
            process.stdin.flush()
        until = time.monotonic() + CONNECT
        is_connected = is_finished = False
        while not is_finished and not is_ended():
            line = lines.next(POLL)
            if line is None:
                report()
                if not is_connected and time.monotonic() > until:
                    raise InputError(f"--ray {machines.address}: what answers there is not a Ray cluster. {REMEDY}")
                continue
            message = parse_json(line) if line else {"failed": "the process of Ray ended"}
            is_connected = is_connected or "connected" in message
            is_finished = "finished" in message
            if "refused" in message:
                raise InputError(message["refused"])
            if "failed" in message:
                raise Stopped(
                    f"A part failed: {message['failed']}. {folder.folder / 'ray.log'} has the details. What is "
                    f"finished is kept in {folder.out}; run the same command to continue."
                )
        report()
    finally:
        with suppress(BrokenPipeError):  # of what it did not read before it ended
            process.stdin.close()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _Lines:
    """The lines of a pipe, each waited for with a timeout."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.buffer = descriptor, b""

    def next(self, timeout: float) -> bytes | None:
        """Return the next line; None if there is none yet, and b"" at the end."""
        while b"\n" not in self.buffer:
            if not select.select([self.descriptor], [], [], timeout)[0]:
                return None
            data = os.read(self.descriptor, 2**16)
            if not data:
                return b""
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line
