"""`regard serve` in a process of its own, for the tests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN = "a-token-of-the-tests"
EXPOSED = ("width", "objects", "taken", "place")


class Server:
    """`regard serve` in a process of its own, on a free port of 127.0.0.1."""

    def __init__(self, folder: Path, *options: str, token: str = TOKEN, seconds: float = 60) -> None:
        environment = {**os.environ, "REGARD_TOKEN": token, "OMP_NUM_THREADS": "1", "REGARD_KERNELS": "0"}
        exposed = [part for name in EXPOSED for part in ("--expose", name)]
        command = [sys.executable, "-m", "regard", "serve", str(folder), "--port", "0", "--device", "cpu"]
        self.log = folder.parent / "server.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *exposed, *options], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
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
        assert " at http://127.0.0.1:" in line, line
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
