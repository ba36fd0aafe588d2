"""`regard serve` in a process of its own, for the tests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TOKEN = "a-token-of-the-tests"
EXPOSED = ("width", "objects", "taken", "place")


class Server:
    """`regard serve` in a process of its own, by default with an index and on a free port of 127.0.0.1.

    `folder` is the index; without one, `options` name the shards and `log` is the file for its log. `before` is put
    before the command.
    """

    def __init__(
        self,
        folder: Path | None,
        *options: str,
        token: str = TOKEN,
        seconds: float = 60,
        port: int = 0,
        expose: Sequence[str] = EXPOSED,
        log: Path | None = None,
        before: Sequence[str] = (),
    ) -> None:
        environment = {**os.environ, "REGARD_TOKEN": token, "OMP_NUM_THREADS": "1", "REGARD_KERNELS": "0"}
        command = [*before, sys.executable, "-m", "regard", "serve", "--port", str(port), *options]
        if folder:
            exposed = [part for name in expose for part in ("--expose", name)]
            command += [str(folder), "--device", "cpu", *exposed]
        self.log = log or folder.parent / "server.log"
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment)
        try:
            self.url = self._wait(seconds)
        except BaseException as error:
            self.process.kill()
            self.stop()
            raise AssertionError(f"The server does not answer. Its log: {self.log.read_text()}") from error

    def _wait(self, seconds: float) -> str:
        """Wait until the server answers, and return its address."""
        import httpx  # absent without the packages of the server

        assert self.process.stdout
        line, until = self.process.stdout.readline(), time.monotonic() + seconds
        assert " at http://" in line, line
        while True:
            try:
                httpx.get(f"{line.split()[-1]}/v1/health").raise_for_status()
                return line.split()[-1]
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self) -> int:
        """Stop with SIGTERM and return the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=40)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stdout
            self.process.stdout.close()


@contextmanager
def serving(folder: Path, *options: str, token: str = TOKEN) -> Iterator[Server]:
    server = Server(folder, *options, token=token)
    try:
        yield server
    finally:
        server.stop()
