"""Shortlists by Milvus, against the server of milvus-lite on a loopback address."""

import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest

from regard.files import InputError
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.training.trained_run import TrainedRun

pytest.importorskip("pymilvus", reason="Milvus requires pymilvus")
pytest.importorskip("milvus_lite", reason="the tests use the server of milvus-lite")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # pymilvus itself uses what it deprecates
SENTENCES = [f"w{word} near w{word + 1}" for word in range(1, 7)]


@pytest.fixture
def server(tmp_path):
    """The address of a server, and a function that stops it."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "milvus_lite.cmdline", "server", "--data-dir", str(tmp_path / "milvus")]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            with closing(socket.socket()) as probe:
                if process.poll() is None and probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process.kill
    finally:
        process.kill()
        process.wait()


def answers(index):
    found = index.search(SENTENCES, k=4, shortlist=6)
    return [[(hit.id, pytest.approx(hit.score, abs=1e-6)) for hit in answer.hits] for answer in found]


def test_milvus_chooses_the_same_shortlists_while_it_is_current(index, collection, server, monkeypatch):
    address, stop = server
    expected = answers(index)
    assert index.mirror(address) == 24
    assert index.mirror(address) == 0
    opened, asked = Index(index.folder), []
    nearest = opened._state.nearest.nearest
    monkeypatch.setattr(opened._state.nearest, "nearest", lambda *args: asked.append(args) or nearest(*args))
    assert answers(opened) == expected
    assert len(asked) == 1  # one request for all sentences
    opened.search(SENTENCES, k=2, shortlist=3, where="split = 'dev'")
    assert len(asked) == 1
    assert opened.check(SENTENCES)[24] == 100

    opened.remove(["dev2", "dev3"])
    assert opened._state.nearest is None
    expected = answers(opened)
    assert opened.mirror(address) == 2
    assert opened._state.nearest is not None
    assert answers(opened) == expected

    opened.build(Encoder(TrainedRun(collection / "other")), "v2")
    opened.use("v2")
    expected = answers(opened)
    assert opened.mirror(address) == 22  # the vectors of the other model
    assert answers(opened) == expected

    opened.ping()
    from fastapi.testclient import TestClient  # absent without the packages of the server

    from regard.web.server import build_app
    from regard.web.settings import Settings

    with TestClient(build_app(opened, Settings()), "http://127.0.0.1:8000") as client:
        assert client.get("/v1/health").json() == {"status": "ok"}
        stop()
        health = client.get("/v1/health")
        assert health.status_code == 503
        assert health.json()["detail"] == "The Milvus server of the shortlists cannot be used."  # not its address
    with pytest.raises(InputError, match=r"Milvus at .* cannot be used"):
        answers(opened)
    opened.mirror("")
    assert answers(opened) == expected
