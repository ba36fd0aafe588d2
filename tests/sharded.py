"""A collection as one index and as the indexes of two and three shards, and servers of them in threads."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

import made
from regard.files import InputError
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.training.trained_run import TrainedRun

NUM_FOLDERS = 6  # of 24 pictures each
SHARDS = {1: "whole", 2: "two", 3: "three"}


def make_collection(folder: Path) -> Path:
    """Write data folders, runs `run` and `other`, and indexes: whole/0, two/0 and 1, three/0 to 2, with equal rows."""
    for number in range(NUM_FOLDERS):
        made.folder(folder / f"data{number}", seed=number)
    made.run(folder / "run", folder / "data0")
    made.run(folder / "other", folder / "data0", seed=1)
    for count, name in SHARDS.items():
        for shard, numbers in enumerate(np.array_split(np.arange(NUM_FOLDERS), count)):
            add_folders(folder, folder / name / str(shard), numbers.tolist())
    return folder


def add_folders(folder: Path, path: Path, numbers: Sequence[int], run: str = "run") -> Index:
    path.parent.mkdir(exist_ok=True)
    index = Index.create(path, Encoder(TrainedRun(folder / run)))
    for number in numbers:
        index.add(folder / f"data{number}", prefix=f"{number}/")
    return index


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of two to five words that the data folders have."""
    random = np.random.default_rng(seed)
    words = [random.integers(1, 9, random.integers(2, 6)) for _ in range(count)]
    return [" ".join(f"w{word}" for word in own) for own in words]


@contextmanager
def running(app, port: int = 0) -> Iterator[str]:
    """Serve an application in a thread of this process, on a port of 127.0.0.1, and yield the address."""
    import uvicorn

    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def running_shards(indexes: Sequence[Path], port: int = 0, **settings) -> Iterator[list[str]]:
    """Serve indexes in threads, and yield their addresses."""
    from regard.web.server import build_app
    from regard.web.settings import Settings

    options = Settings(**{"refresh_seconds": 0.0, "expose": ("objects",), **settings})
    with ExitStack() as stack:
        yield [stack.enter_context(running(build_app(Index(path), options), port)) for path in indexes]


@contextmanager
def running_front(urls: Sequence[str], allow_silent: bool = False, **settings) -> Iterator[str]:
    """Serve a front server of shards in a thread, and yield its address."""
    import asyncio

    from regard.web.cluster import Cluster
    from regard.web.front import build_front
    from regard.web.settings import Settings

    options = Settings(**{"refresh_seconds": 0.05, "shard_seconds": 5.0, **settings})
    cluster = Cluster(urls, options)
    with ThreadPoolExecutor(1) as threads:  # as this one may have an event loop
        threads.submit(asyncio.run, cluster.check(allow_silent)).result()
    with running(build_front(cluster, options)) as url:
        yield url


def wait_until(is_so, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def refusal(urls: Sequence[str], allow_silent: bool = False) -> str:
    """The line with which a front server refuses to start."""
    try:
        with running_front(urls, allow_silent):
            raise AssertionError("It started.")
    except InputError as error:
        return str(error)
