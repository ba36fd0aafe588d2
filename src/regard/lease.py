"""A lock that holds between machines: on a shared file system, of which it assumes only exclusive creation and rename.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regard.files import InputError, is_alive, locked

BEAT = 5.0  # seconds between two writes
LEASE = 30.0  # seconds without a write after which the holder is taken to be gone


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


class Lease:
    """The numbered files beside `path`, of which this process may hold the last one."""

    def __init__(self, path: Path, message: str) -> None:
        self.path, self.message, self.number, self.beats = path, message, 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> None:
        """Create the next file. Raises InputError if the holder of the last one writes to it."""
        seen, since = None, time.monotonic()
        while True:
            number, content = self._last()
            is_stale = content == seen and time.monotonic() - since > LEASE
            if (not number or is_stale or _is_of_a_dead_process(content)) and self._create(number + 1):
                break
            if content != seen:
                if seen is not None:
                    raise InputError(f"{self.message} It runs on {_holder(content).get('host', 'another machine')}.")
                seen, since = content, time.monotonic()
            time.sleep(BEAT / 10)
        for place, other in self._files().items():
            if place < self.number:
                other.unlink(missing_ok=True)
        self.thread.start()

    def check(self) -> None:
        """Raise InputError if another process has taken over."""
        number, content = self._last()
        if number != self.number:
            host = _holder(content).get("host", "another machine")
            raise InputError(f"{self.message} It took over from this one, which had stood still, on {host}.")

    def release(self) -> None:
        """Remove the file."""
        self.ended.set()
        self.thread.join()
        self._file(self.number).unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            self.beats += 1
            temporary = self.path.with_name(f".{self.path.name}.{platform.node()}.{os.getpid()}.tmp")
            with suppress(OSError):  # the next one may succeed
                if self._last()[0] != self.number:  # taken over
                    return
                temporary.write_text(self._content(), "utf-8")
                os.replace(temporary, self._file(self.number))

    def _create(self, number: int) -> bool:
        """Create the file with this number, and return whether no other process has done so."""
        try:
            with open(self._file(number), "x", encoding="utf-8") as file:
                file.write(self._content())
        except FileExistsError:
            return False
        self.number = number
        return True

    def _content(self) -> str:
        return json.dumps({"host": platform.node(), "process": os.getpid(), "beats": self.beats})

    def _last(self) -> tuple[int, str]:
        """The highest number, and the content of its file; 0 if there is none."""
        number, file = max(self._files().items(), default=(0, None))
        with suppress(FileNotFoundError):
            return number, file.read_text("utf-8", "replace") if file else ""
        return self._last()  # released between the listing and the reading

    def _files(self) -> dict[int, Path]:
        prefix = f"{self.path.name}."
        found = {path.name.removeprefix(prefix): path for path in self.path.parent.iterdir()}
        return {int(name): path for name, path in found.items() if name.isdecimal() and path.name.startswith(prefix)}

    def _file(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _holder(content: str) -> dict[str, object]:
    """Who wrote a file; empty if it is being created."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_of_a_dead_process(content: str) -> bool:
    """Whether the holder ran on this machine and has ended."""
    holder = _holder(content)
    process = holder.get("process")
    return holder.get("host") == platform.node() and isinstance(process, int) and not is_alive(process)
