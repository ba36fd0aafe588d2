"""A lock that holds between machines: on a shared file system, of which it assumes only exclusive creation.

`files.locked` ends with the process that holds it, but some network file systems keep it within one machine. A lease is
a numbered file beside it, which its holder writes anew every few seconds. The file with the highest number counts. If
it has not changed for `LEASE` seconds, by the clock of the process that waits for it, the holder is taken to be gone,
and one process succeeds in creating the file with the next number. A holder that was only paused finds that file.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regard.files import InputError, locked

BEAT = 5.0  # seconds between two writes
LEASE = 30.0  # seconds without a write after which the holder is taken to be gone
RETRIES = 20  # of a file that is listed, but was removed


@contextmanager
def leased(path: Path, message: str) -> Iterator[Callable[[], None]]:
    """Keep other processes out of a folder, or of what a lock file stands for, also those of other machines.

    Yields a function that raises InputError if another machine has taken over meanwhile: call it before writing. Raises
    InputError with `message` if another process is inside. The lease of a process that was killed is free: at once on
    its own machine, and after `LEASE` seconds on another.
    """
    with locked(path, message):
        lease = Lease(path / ".lease" if path.is_dir() else path, message)
        lease.acquire()
        try:
            yield lease.check
        finally:
            lease.release()


def is_held(path: Path) -> bool:
    """Return whether a process is inside what the lock file `path` stands for; of another machine, after some beats."""
    if not path.exists():
        return False
    try:
        with locked(path, ""):
            lease = Lease(path, "")
            return lease.is_of_another_machine() and lease.beats_within(3 * BEAT)
    except InputError:
        return True


class Lease:
    """The numbered files beside `path`, of which this process may hold the last one."""

    def __init__(self, path: Path, message: str) -> None:
        self.path, self.message = path, message
        self.machine, self.token = _machine(), uuid.uuid4().hex
        self.number, self.beats = 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> None:
        """Create the next file. Raises InputError if the holder of the last one writes to it.

        The lock of `files.locked` is held, so that the last holder is not a process of this machine.
        """
        seen, since = None, time.monotonic()
        while True:
            number, content = self._last()
            is_free = not number or _holder(content).get("machine") == self.machine
            is_stale = content == seen and time.monotonic() - since > LEASE
            if (is_free or is_stale) and self._create(number + 1):
                break
            if content != seen:
                if seen is not None:
                    raise InputError(f"{self.message} It runs on {_holder(content).get('host', 'another machine')}.")
                seen, since = content, time.monotonic()
            time.sleep(BEAT / 10)
        for place, other in self.files().items():
            if place < self.number:
                other.unlink(missing_ok=True)
        self.thread.start()

    def check(self) -> None:
        """Raise InputError if another process has taken over."""
        holder = _holder(self._last()[1])
        if holder.get("token") != self.token:
            raise InputError(f"{self.message} It took over on {holder.get('host', 'another machine')} meanwhile.")

    def release(self) -> None:
        """Remove the file, if it is still that of this process."""
        self.ended.set()
        self.thread.join()
        if self._is_held():
            self._file(self.number).unlink(missing_ok=True)

    def files(self) -> dict[int, Path]:
        """Return the files by their numbers."""
        prefix = f"{self.path.name}."
        found = {path.name.removeprefix(prefix): path for path in self.path.parent.iterdir()}
        return {int(name): path for name, path in found.items() if name.isdecimal() and path.name.startswith(prefix)}

    def is_of_another_machine(self) -> bool:
        """Return whether the last file was written on another machine."""
        number, content = self._last()
        return bool(number) and _holder(content).get("machine") != self.machine

    def beats_within(self, seconds: float) -> bool:
        """Return whether the last file changes within some seconds."""
        first, until = self._last(), time.monotonic() + seconds
        while time.monotonic() < until:
            if self._last() != first:
                return True
            time.sleep(BEAT / 10)
        return False

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            self.beats += 1
            with suppress(OSError, InputError):  # the next one may succeed
                if not self._is_held():
                    return
                # Only the digits of `beats` change, so that a reader never sees a part. "r+" does not create the file:
                # a holder that stood still after the line above must not bring back what its successor has removed.
                with open(self._file(self.number), "r+", encoding="utf-8") as file:
                    file.write(self._content())

    def _is_held(self) -> bool:
        return _holder(self._last()[1]).get("token") == self.token

    def _create(self, number: int) -> bool:
        """Create the file with this number, and return whether it is the last one, and no other process created it."""
        try:
            with open(self._file(number), "x", encoding="utf-8") as file:
                file.write(self._content())
        except FileExistsError:
            return False
        if self._last()[0] != number:
            self._file(number).unlink(missing_ok=True)
            return False
        self.number = number
        return True

    def _content(self) -> str:
        holder = {"host": platform.node(), "machine": self.machine, "process": os.getpid(), "token": self.token}
        return json.dumps({**holder, "beats": f"{self.beats:012}"})

    def _last(self) -> tuple[int, str]:
        """The highest number, and the content of its file; 0 if there is none."""
        for _ in range(RETRIES):
            number, file = max(self.files().items(), default=(0, None))
            try:
                return number, file.read_text("utf-8", "replace") if file else ""
            except FileNotFoundError:  # released between the listing and the reading
                time.sleep(0.1)
        raise InputError(f"{self.path.parent} lists {file}, which cannot be read: remove it if nothing runs there.")

    def _file(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _machine() -> str:
    """What names this machine since it was started, also among copies with the same host name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return platform.node()


def _holder(content: str) -> dict[str, object]:
    """Who wrote a file; empty if it is being created."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
