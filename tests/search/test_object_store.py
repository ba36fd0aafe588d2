"""An index whose rows are in an object store, here a server of S3's protocol on this machine."""

import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from commands import refused, regard
from regard.search.index import Index
from sharded import wait_until

pytestmark = pytest.mark.slow

STORE = "s3://bucket/pictures"
SENTENCES = ["w3 near w5, w1 w2", "w7 near w2"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with an empty bucket, and its process."""
    command = shutil.which("moto_server", path=str(Path(sys.executable).parent)) or shutil.which("moto_server")
    if command is None:
        pytest.skip("needs a server of S3's protocol: pip install 'moto[server]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = open(tmp_path_factory.mktemp("s3") / "server.log", "wb")  # noqa: SIM115  # open as long as the process runs
    process = subprocess.Popen([command, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:

        def is_up() -> bool:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=5).close()
            except urllib.error.URLError:
                return False
            return True

        wait_until(is_up, 60)
        yield url, process
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(autouse=True)
def access(server, monkeypatch):
    settings = {"ENDPOINT": server[0], "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    settings |= {"ACCESS_KEY_ID": "of-the-tests", "SECRET_ACCESS_KEY": "of-the-tests"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_an_index_in_an_object_store_is_as_one_on_disk(collection, tmp_path, server):
    folder = tmp_path / "index"
    made = ("index", collection / "cmsei", collection / "data", "--out", folder, "--device", "cpu")
    assert regard(*made, "--store", STORE).code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", "lock"]
    index, local = Index(folder), Index(collection / "index")
    for own, other in zip(index.search(SENTENCES, k=5), local.search(SENTENCES, k=5), strict=True):
        assert own.hits == other.hits
    reader = Index(shutil.copytree(folder, tmp_path / "copy"))  # as on another machine
    index.remove(["train3"])
    assert (len(reader), reader.refresh(), len(reader)) == (len(local), True, len(local) - 1)
    index.add(collection / "data")
    index.compact()
    assert (len(index), index.verify()) == (len(local), [])
    assert f"rows at {STORE}" in regard("index", "info", folder).out

    assert "copy them with the tools of the object store" in refused("index", "backup", folder, tmp_path / "backup")
    again = (*made[:3], "--out", tmp_path / "again", "--device", "cpu")
    assert "has rows of another index" in refused(*again, "--store", STORE)
    assert "is no address: expected one such as s3://bucket" in refused(*again, "--store", "bucket/pictures")
    assert "refuses (NoSuchBucket): check the address" in refused(*again, "--store", "s3://other/pictures")
    assert not (tmp_path / "again" / "index.json").exists()
    assert "is an index already" in refused(*made)

    server[1].terminate()
    server[1].wait()
    assert "does not answer, or refuses (Connect): check the address" in refused("search", folder, "w1")
