"""The API under load, and with generated requests."""

import io
import random
import shutil
import socket
import threading
import time
from itertools import product
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from PIL import Image

from regard.search.index import Index
from web_servers import TOKEN, serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis, which makes the requests, is absent")
from schemathesis.checks import CHECKS, load_all_checks  # noqa: E402  # only if it is installed
from schemathesis.core.parameters import ParameterLocation  # noqa: E402  # only if it is installed

pytestmark = pytest.mark.slow

BEARER = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS = settings(
    max_examples=20,
    phases=[Phase.generate],  # a failure is not made smaller, which takes minutes
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SECONDS = 20
SENTENCES = ("a man rides a horse", "a horse rides a man", "a dog", "a red thing to the left of a car", "two cats")


@pytest.fixture(scope="module")
def api(web_world, tmp_path_factory):
    folder = shutil.copytree(web_world / "index", tmp_path_factory.mktemp("api") / "index")
    with serving(folder) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/v1/openapi.json")


load_all_checks()
# Reading needs no token here; and a search by a column that does not exist is valid by the document.
REJECTION = CHECKS.get_by_names(["negative_data_rejection"])
EXCLUDED = CHECKS.get_by_names(["ignored_auth", "positive_data_acceptance"])


def test_the_api_is_as_its_document_says(api):
    """Requests generated from the document, valid and invalid, get the answers that it describes."""
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) >= 10
    for operation, mode in product(operations, schemathesis.GenerationMode):
        # Some operations have no invalid requests.
        if mode.is_negative and not (operation.body or operation.query or operation.path_parameters):
            continue

        @settings(SETTINGS)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            wrong = {place for place, part in case.meta.components.items() if part.mode.is_negative}
            assume(len(repr(case.query)) < 10_000)  # uvicorn itself refuses addresses of more than 64 kB
            # A request that is only without the token is valid, as reading needs none here.
            excluded = [*EXCLUDED, *(REJECTION if wrong == {ParameterLocation.HEADER} else [])]
            case.call_and_validate(headers=BEARER, excluded_checks=excluded)

        check()


def test_readers_and_a_writer_do_not_disturb_each_other(web_world, tmp_path):
    """For a while, several readers search, explain and look, while one writer adds and removes pictures."""
    folder = shutil.copytree(web_world / "index", tmp_path / "index")
    faults, counts, until = [], {"read": 0, "written": 0, "busy": 0}, time.monotonic() + SECONDS

    def read(seed: int, url: str) -> None:
        choose = random.Random(seed)
        with httpx.Client(base_url=url, timeout=30) as client:
            version = 0
            while time.monotonic() < until:
                body = {"queries": [{"sentence": choose.choice(SENTENCES)}], "k": choose.choice([1, 5, 50])}
                response = client.post("/v1/search", json=body)
                if response.status_code == 429:
                    counts["busy"] += 1
                    continue
                found = response.json()
                if response.status_code != 200:
                    faults.append(response.text)
                    return
                hits = found["answers"][0]["hits"]
                if found["version"] < version or [hit["rank"] for hit in hits] != list(range(1, len(hits) + 1)):
                    faults.append(f"version {found['version']} after {version}: {hits}")
                if not 24 <= found["answers"][0]["candidates"] <= 25:
                    faults.append(f"{found['answers'][0]['candidates']} candidates")
                version = found["version"]
                id_ = choose.choice(hits)["id"]
                for path, parameters in (
                    (f"/v1/items/{id_}/picture", {"side": choose.choice([64, 200])}),
                    ("/v1/explain", {"id": id_, "sentence": body["queries"][0]["sentence"]}),
                ):
                    # A picture may have been removed since it was found.
                    if (status := client.get(path, params=parameters).status_code) not in (200, 404, 422, 429):
                        faults.append(f"{path}: {status}")
                counts["read"] += 1

    def write(url: str) -> None:
        with httpx.Client(base_url=url, timeout=60, headers=BEARER) as client:
            for number in range(10**6):
                if time.monotonic() > until:
                    return
                file = io.BytesIO()
                Image.new("RGB", (80, 60), (number % 256, 90, 200)).save(file, "PNG")
                added = client.post("/v1/items", content=file.getvalue(), headers={"Content-Type": "image/png"})
                removed = client.delete(f"/v1/items/{added.json().get('id')}")
                if (added.status_code, removed.status_code) != (201, 200):
                    faults.append(f"{added.text} {removed.text}")
                    return
                counts["written"] += 1

    with serving(folder) as server:
        threads = [threading.Thread(target=read, args=(seed, server.url)) for seed in range(4)]
        threads.append(threading.Thread(target=write, args=(server.url,)))
        until = time.monotonic() + SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = httpx.get(f"{server.url}/v1/metrics").text
        assert server.stop() == 0
    assert faults == []
    assert counts["read"] > 20
    assert counts["written"] > 2
    assert "regard_queue 0.0" in metrics
    assert not list((folder / "uploads").glob("*/*"))
    assert len(Index(folder)) == 24
    assert [line for line in server.lines if line["level"] == "error"] == []


def test_a_slow_client_does_not_hold_the_others(web_world):
    with serving(web_world / "index") as server:
        address = urlsplit(server.url)
        head = f"POST /v1/search HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        slow = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]
        for connection in slow:
            connection.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"queries": ['.encode())
        for sentence in SENTENCES:
            body = {"queries": [{"sentence": sentence}]}
            assert httpx.post(f"{server.url}/v1/search", json=body, timeout=5).status_code == 200
        for connection in slow:
            connection.close()
