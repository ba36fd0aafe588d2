"""The HTTP API, on a small index."""

import asyncio
import io
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from commands import refused
from regard.files import InputError
from regard.search.index import Index, Query
from regard.web.filters import condition
from regard.web.problem import Problem
from regard.web.schemas import Filter
from regard.web.server import build_app
from regard.web.service import Service
from regard.web.settings import Settings
from regard.web.worker import SearchJob
from web_servers import EXPOSED, TOKEN, serving

BEARER = {"Authorization": f"Bearer {TOKEN}"}
QUERY = {"queries": [{"sentence": "a man rides a horse"}]}


def client_of(folder, **settings) -> TestClient:
    index = Index(folder)
    settings = {"token": TOKEN, "expose": EXPOSED, "refresh_seconds": 0.0, **settings}
    return TestClient(build_app(index, Settings(**settings)), base_url="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def client(web_world):
    with client_of(web_world / "index") as client:
        yield client


@pytest.fixture
def writable(index_folder):
    with client_of(index_folder) as client:
        yield client


def problem(response, status: int, *parts: str) -> str:
    """Check that an answer is a problem document with one line that contains `parts`, and return the line."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert set(content) == {"type", "title", "status", "detail"}
    assert content["status"] == status
    assert "\n" not in content["detail"]
    assert [part for part in parts if part not in content["detail"]] == [], content["detail"]
    return content["detail"]


def png(colour: str = "red", size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


# Searching ------------------------------------------------------------------------------------------------------------


def test_search_answers_as_the_index_does(client, web_world):
    body = {"queries": [{"sentence": "a man rides a horse"}, {"sentence": "a dog", "minus": "a cat"}], "k": 5}
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    found = response.json()
    index = Index(web_world / "index")
    expected = index.search(["a man rides a horse"], k=5)[0]
    assert [hit["id"] for hit in found["answers"][0]["hits"]] == [hit.id for hit in expected.hits]
    assert [hit["score"] for hit in found["answers"][0]["hits"]] == pytest.approx([hit.score for hit in expected.hits])
    assert len(found["answers"][1]["hits"]) == 5
    assert (found["version"], found["fingerprint"]) == (index.version, index.fingerprint)
    assert {"queue", "encode", "score", "total"} <= set(found["seconds"])
    like = client.post("/v1/search", json={"queries": [{"image": expected.hits[0].id}], "k": 3}).json()
    assert expected.hits[0].id not in [hit["id"] for hit in like["answers"][0]["hits"]]


def test_pages_of_results_are_the_whole_list(client):
    whole = client.post("/v1/search", json={**QUERY, "k": 24, "shortlist": 0}).json()
    assert len(whole["answers"][0]["hits"]) == 24
    assert whole["next"] is None
    hits, cursor = [], None
    for _ in range(4):
        page = client.post("/v1/search", json={**QUERY, "k": 7, "shortlist": 0, "cursor": cursor}).json()
        hits += page["answers"][0]["hits"]
        cursor = page["next"]
    assert cursor is None
    assert [hit["id"] for hit in hits] == [hit["id"] for hit in whole["answers"][0]["hits"]]
    assert [hit["rank"] for hit in hits] == list(range(1, 25))


def test_a_cursor_belongs_to_its_queries_and_version(writable):
    cursor = writable.post("/v1/search", json={**QUERY, "k": 5}).json()["next"]
    problem(writable.post("/v1/search", json={**QUERY, "k": 6, "cursor": cursor}), 409, "belongs to other queries")
    problem(writable.post("/v1/search", json={**QUERY, "k": 5, "cursor": "bm9uZQ=="}), 422, "cursor: expected")
    first = writable.post("/v1/search", json=QUERY).json()["answers"][0]["hits"][0]["id"]
    assert writable.delete(f"/v1/items/{first}", headers=BEARER).status_code == 200
    problem(writable.post("/v1/search", json={**QUERY, "k": 5, "cursor": cursor}), 409, "version", "Search again")


def test_filters_are_checked_and_quoted(client):
    def search(*filters):
        return client.post("/v1/search", json={**QUERY, "k": 24, "filters": list(filters)})

    everything = search().json()["answers"][0]["candidates"]
    nest = search({"column": "place", "op": "=", "value": "the bird's nest"}).json()["answers"][0]["candidates"]
    far = search({"column": "place", "op": "in", "value": ['a "far" place', "x' OR 1=1 --"]}).json()["answers"][0]
    assert (nest, far["candidates"]) == (everything // 2, everything // 2)
    assert search({"column": "place", "op": "contains", "value": "bird's"}).json()["answers"][0]["candidates"] == nest
    both = search({"column": "width", "op": ">", "value": 1.5}), search({"column": "width", "op": ">", "value": 10})
    problem(both[0], 422, "'width' needs an integer, got 1.5")
    assert both[1].json()["answers"][0]["candidates"] == everything
    injected = search({"column": "place", "op": "=", "value": "x' OR '1'='1"})
    assert injected.json()["answers"][0]["candidates"] == 0
    problem(search({"column": "palce", "op": "=", "value": "x"}), 422, "no column 'palce'", "Did you mean 'place'?")
    problem(search({"column": "secret", "op": "=", "value": "hush"}), 422, "no column 'secret'")
    problem(search({"column": "place", "op": "LIKE", "value": "x"}), 422, "filters.0.op", "contains")
    problem(search({"column": "objects", "op": "=", "value": "x"}), 422, "has no operator =")
    problem(search({"column": "place", "op": "in", "value": "x"}), 422, "in needs a list of values")


def test_a_condition_in_sql():
    columns = {"taken": "text", "my `own`": "number", "objects": "texts"}
    filters = [
        Filter(column="taken", op=">=", value="2024"),
        Filter(column="my `own`", op="in", value=[1, 2.5]),
        Filter(column="objects", op="contains", value="it's"),
    ]
    expected = "`taken` >= '2024' AND `my ``own``` IN (1, 2.5) AND array_has(`objects`, 'it''s')"
    assert condition(filters, columns) == expected
    assert condition([], columns) == ""
    with pytest.raises(InputError, match="needs a number, got True"):
        condition([Filter(column="my `own`", op="=", value=True)], columns)
    with pytest.raises(InputError, match="No column is exposed"):
        condition(filters, {})


@pytest.mark.parametrize(
    ("change", "status", "parts"),
    [
        ({"queries": [{"sentence": "  "}]}, 422, ["queries.0", "sentence is empty"]),
        ({"queries": []}, 422, ["queries"]),
        ({"queries": [{"sentence": "dog " * 10_000}]}, 422, ["10,000 words", "at most 100"]),
        ({"k": 0}, 422, ["k: expected greater than or equal to 1, got 0"]),
        ({"k": -1}, 422, ["k: expected greater than or equal to 1, got -1"]),
        ({"k": 1_000_000}, 422, ["k: expected less than or equal to 100, got 1000000"]),
        ({"k": "5"}, 422, ["k: expected a valid integer"]),
        ({"shortlist": -1}, 422, ["shortlist"]),
        ({"queries": [{"image": "none.jpg"}]}, 422, ["none.jpg"]),
        ({"queries": [{"sentence": "a", "image": "b"}]}, 422, ["not both"]),
        ({"colour": 1}, 422, ["colour is not known"]),
        ({"queries": [{"sentence": "a"}] * 17}, 422, ["queries"]),
    ],
)
def test_bad_searches_are_refused_in_one_line(client, change, status, parts):
    problem(client.post("/v1/search", json={**QUERY, **change}), status, *parts)


def test_bad_bodies_are_refused(client, web_world):
    problem(client.post("/v1/search", content=b"{", headers={"Content-Type": "application/json"}), 422, "not JSON")
    problem(client.post("/v1/search", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "text/plain")
    problem(client.post("/v1/search", content=b"x" * 2_000_001), 413, "2,000,000 bytes")
    problem(client.post("/v1/search", content=(b"x" * 1000 for _ in range(2001))), 413, "2,000,000 bytes")
    problem(client.get("/v1/nothing"), 404)
    problem(client.get("/v1/search"), 405)


# Pictures and explanations --------------------------------------------------------------------------------------------


def test_an_explanation_names_words_and_regions(client):
    hit = client.post("/v1/search", json=QUERY).json()["answers"][0]["hits"][0]
    response = client.get("/v1/explain", params={"id": hit["id"], "sentence": "a man rides a horse"})
    assert response.status_code == 200, response.text
    explanation = response.json()["explanation"]
    assert explanation["words"] == ["a", "man", "rides", "a", "horse"]
    assert explanation["score"] == pytest.approx(hit["score"], abs=1e-2)  # stored encodings are in float16
    assert len(explanation["weights"]) == len(explanation["regions"])
    against = {"id": hit["id"], "sentence": "a man rides a horse", "against": "a horse rides a man"}
    other = client.get("/v1/explain", params=against).json()["explanation"]["against"]
    assert other["words"] == ["a", "horse", "rides", "a", "man"]
    problem(client.get("/v1/explain", params={"id": "none", "sentence": "a"}), 404, "none")
    problem(client.get("/v1/explain", params={"id": hit["id"], "sentence": " "}), 422, "sentence is empty")
    problem(client.get("/v1/explain", params={"id": hit["id"], "sentence": "a " * 101}), 422, "101 words")
    problem(client.get("/v1/explain", params={"id": hit["id"]}), 422, "sentence is required")


def test_only_exposed_columns_leave(client):
    found = client.get("/v1/items/00.jpg").json()
    assert set(found["columns"]) == set(EXPOSED)
    assert "hush" not in json.dumps(found)
    assert len(found["boxes"]) == 8
    assert set(client.get("/v1/collection").json()["columns"]) == set(EXPOSED)
    problem(client.get("/v1/items/none.jpg"), 404, "none.jpg")
    for path in ("../index.json", "%2e%2e/index.json", "..%2f..%2frun%2frecipe.toml", "/etc/passwd"):
        for end in ("", "/picture"):
            assert client.get(f"/v1/items/{path}{end}").status_code == 404


def test_pictures_leave_without_metadata(client, web_world):
    stored = (web_world / "photos" / "00.jpg").read_bytes()
    assert b"described in secret" in stored
    response = client.get("/v1/items/00.jpg/picture")
    assert response.headers["content-type"] == "image/jpeg"
    assert b"described in secret" not in response.content
    with Image.open(io.BytesIO(response.content)) as image, Image.open(io.BytesIO(stored)) as original:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert image.size == original.size
    small = client.get("/v1/items/00.jpg/picture", params={"side": 50})
    with Image.open(io.BytesIO(small.content)) as image:
        assert max(image.size) == 50
    known = {"If-None-Match": small.headers["etag"]}
    assert client.get("/v1/items/00.jpg/picture", params={"side": 50}, headers=known).status_code == 304
    problem(client.get("/v1/items/00.jpg/picture", params={"side": 0}), 422, "side")
    problem(client.get("/v1/items/00.jpg/picture", params={"side": 10**6}), 422, "side")


# Writing --------------------------------------------------------------------------------------------------------------


def test_pictures_are_added_and_removed(writable, index_folder):
    before = writable.get("/v1/collection").json()
    headers = {**BEARER, "Content-Type": "image/png"}
    added = writable.post("/v1/items", content=png(), headers=headers)
    assert added.status_code == 201, added.text
    assert added.json()["changed"]
    id_ = added.json()["id"]
    assert writable.get("/v1/collection").json()["items"] == before["items"] + 1
    assert added.json()["version"] > before["version"]
    assert writable.get(f"/v1/items/{id_}/picture").status_code == 200
    explained = writable.get("/v1/explain", params={"id": id_, "sentence": "a red thing"})
    assert explained.status_code == 200, explained.text
    again = writable.post("/v1/items", content=png(), headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["changed"]) == (200, id_, False)
    uploads, extracted = index_folder / "uploads", index_folder / "extracted"
    assert len(list(uploads.rglob("*.png"))) == 1
    Index(index_folder).compact()
    assert len(list(extracted.iterdir())) == 1
    assert writable.delete(f"/v1/items/{id_}", headers=BEARER).status_code == 200
    assert list(uploads.rglob("*.png")) == []
    problem(writable.get(f"/v1/items/{id_}"), 404, id_)
    problem(writable.delete(f"/v1/items/{id_}", headers=BEARER), 404, id_)
    assert writable.get("/v1/collection").json()["items"] == before["items"]
    Index(index_folder).compact()
    assert list(extracted.iterdir()) == []


def test_an_upload_that_fails_keeps_a_picture_that_is_there(writable, index_folder, monkeypatch):
    headers = {**BEARER, "Content-Type": "image/png"}
    assert writable.post("/v1/items", content=png(), headers=headers).status_code == 201

    def fails(self, *_, **__):
        raise InputError("Process 1 is writing")

    monkeypatch.setattr(Index, "add", fails)
    problem(writable.post("/v1/items", content=png(), headers=headers), 409)
    problem(writable.post("/v1/items", content=png("blue"), headers=headers), 409)
    assert len(list((index_folder / "uploads").rglob("*.png"))) == 1


def test_a_query_by_a_file_of_the_server_is_refused(client, tmp_path):
    picture = tmp_path / "secret.png"
    picture.write_bytes(png())
    for path in (picture, "/etc/passwd", tmp_path / "absent"):
        problem(client.post("/v1/search", json={"queries": [{"image": str(path)}]}), 422, "The index has no picture")


def test_folders_are_not_shown():
    for detail, shown in (
        ("/home/me/my photos/secret album/x.jpg is gone", "x.jpg is gone"),
        ("/a/b is not /c d/e", "b is not e"),
        ("expected '/a b/c.npz'", "expected 'c.npz'"),
        ("dev/test is no split", "dev/test is no split"),
    ):
        assert Problem(422, detail).detail == shown


def test_only_pictures_are_added(writable, index_folder):
    def add(data, content_type, **more):
        return writable.post("/v1/items", content=data, headers={**BEARER, "Content-Type": content_type}, **more)

    problem(add(b"text", "text/html"), 415, "image/jpeg", "'text/html'")
    problem(add(b"<svg/>", "image/svg+xml"), 415)
    problem(add(b"not a picture", "image/png"), 422, "not an image")
    problem(add(png(), "image/jpeg"), 415, "Content-Type is image/jpeg, but the picture is image/png")
    problem(add(png()[: len(png()) // 2], "image/png"), 422, "cannot be read")
    problem(add(png(size=(9000, 6000)), "image/png"), 413, "9000 x 6000 pixels", "50 million")
    problem(add(b"", "image/png"), 422)
    problem(add(b"x" * 25_000_001, "image/png"), 413, "25,000,000 bytes")
    assert not list(index_folder.glob("uploads/*"))


def test_writing_needs_the_token(web_world, index_folder, writable):
    picture = {"content": png(), "headers": {"Content-Type": "image/png"}}
    problem(writable.post("/v1/items", **picture), 401, "Authorization: Bearer")
    wrong = {"Authorization": "Bearer a-token-of-the-testz"}
    problem(writable.delete("/v1/items/00.jpg", headers=wrong), 401, "wrong")
    with client_of(index_folder, token="") as without:
        problem(without.post("/v1/items", **picture), 403, "Writing is off")
        problem(without.delete("/v1/items/00.jpg", headers=BEARER), 403, "Writing is off")
        assert without.get("/v1/items/00.jpg").status_code == 200
        assert not without.get("/v1/collection").json()["writable"]


def test_another_address_needs_the_token_for_reading(web_world):
    with pytest.raises(InputError, match="can be reached by other machines"):
        Settings(host="0.0.0.0")
    with pytest.raises(InputError, match="at least 16"):
        Settings(token="short")
    with client_of(web_world / "index", host="0.0.0.0") as client:
        for path in ("/v1/collection", "/v1/items/00.jpg", "/v1/items/00.jpg/picture", "/v1/metrics"):
            problem(client.get(path), 401)
        problem(client.post("/v1/search", json=QUERY), 401)
        assert client.get("/v1/health").status_code == 200
        assert client.get("/").status_code == 200
        assert client.post("/v1/search", json=QUERY, headers=BEARER).status_code == 200
        problem(client.post("/v1/session"), 401)
        session = client.post("/v1/session", headers=BEARER)
        cookie = session.headers["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/v1/items/00.jpg/picture").status_code == 200  # with the cookie
        problem(client.delete("/v1/items/00.jpg"), 401)  # which allows no writing


# The server -----------------------------------------------------------------------------------------------------------


def test_every_answer_is_protected(client):
    for path in ("/", "/page/app.js", "/v1/health", "/v1/nothing", "/v1/items/00.jpg/picture"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'")
        assert "unsafe" not in policy
    problem(client.get("/v1/health", headers={"Host": "evil.example"}), 421, "evil.example", "localhost")
    problem(client.get("/v1/health", headers={"Host": "127.0.0.1.evil.example:8000"}), 421)
    assert client.get("/v1/health", headers={"Host": "localhost:1"}).status_code == 200


def test_the_page_is_served_with_caching_headers(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    for name in ("style.css", "app.js", "icon.svg"):
        assert client.get(f"/page/{name}").status_code == 200
    problem(client.get("/page/server.py"), 404)
    assert client.get("/docs").status_code == 404


def test_requests_that_arrive_together_are_scored_together(web_world):
    index = Index(web_world / "index")
    calls, search, begun, go = [], index.search, threading.Event(), threading.Event()

    def slow(queries, **options):
        calls.append(len(queries))
        begun.set()
        go.wait(10)
        return search(queries, **options)

    index.search = slow
    app = build_app(index, Settings(queue=4))
    with TestClient(app, base_url="http://127.0.0.1") as client, ThreadPoolExecutor(8) as threads:
        sentences = ["a dog", "a man", "a horse", "a cat", " a red thing"]

        def ask(sentence):
            return client.post("/v1/search", json={"queries": [{"sentence": sentence}]})

        first = threads.submit(ask, sentences[0])
        assert begun.wait(10)
        others = [threads.submit(ask, sentence) for sentence in sentences[1:]]
        until = time.monotonic() + 10
        while "regard_queue 4.0" not in client.get("/v1/metrics").text:
            assert time.monotonic() < until
            time.sleep(0.01)
        full = client.post("/v1/search", json=QUERY)
        problem(full, 429, "4 requests are waiting")
        assert int(full.headers["retry-after"]) >= 1
        go.set()
        answers = [each.result().json() for each in (first, *others)]
    assert calls == [1, 4]
    alone = Index(web_world / "index")
    for sentence, answer in zip(sentences, answers, strict=True):
        expected = alone.search([sentence.strip()], k=12)[0]
        assert [hit["id"] for hit in answer["answers"][0]["hits"]] == [hit.id for hit in expected.hits]


def test_a_bad_query_does_not_spoil_those_beside_it(web_world):
    with client_of(web_world / "index") as client, ThreadPoolExecutor(4) as threads:
        bodies = [QUERY, {"queries": [{"image": "none.jpg"}]}] * 6
        answers = list(threads.map(lambda body: client.post("/v1/search", json=body).status_code, bodies))
    assert answers == [200, 422] * 6


def test_an_answer_that_takes_too_long_is_given_up(web_world):
    index, go = Index(web_world / "index"), threading.Event()
    search = index.search
    index.search = lambda queries, **options: go.wait(10) and search(queries, **options)
    with TestClient(build_app(index, Settings(seconds=0.2)), base_url="http://127.0.0.1") as client:
        late = client.post("/v1/search", json=QUERY)
        problem(late, 503, "No answer within 0.2 s")
        assert "retry-after" in late.headers
        go.set()


def test_a_body_that_does_not_arrive_is_given_up(web_world):
    app, sent = build_app(Index(web_world / "index"), Settings(seconds=0.2)), []
    parts = [{"type": "http.request", "body": b'{"queries": [', "more_body": True}]

    async def receive():
        if parts:
            return parts.pop()
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/search", "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408
    assert b"did not arrive within 0.2 s" in sent[1]["body"]


def test_a_worker_that_is_closed_answers_what_it_accepted(web_world):
    index = Index(web_world / "index")
    begun, go, search = threading.Event(), threading.Event(), index.search

    def slow(queries, **options):
        begun.set()
        go.wait(10)
        return search(queries, **options)

    index.search = slow
    worker = Service(index, Settings()).worker
    job = SearchJob((Query("a man rides a horse"),), 5, 0, None, "")
    accepted = [worker.submit(job)]
    assert begun.wait(10)
    accepted += [worker.submit(job) for _ in range(3)]
    closing = threading.Thread(target=worker.close)
    closing.start()
    closing.join(0.2)  # it waits for the search that has begun
    with pytest.raises(Problem, match="stopping"):
        worker.submit(job)
    go.set()
    closing.join(10)
    assert not worker.is_alive
    assert {len(each.result(0)[0][0].hits) for each in accepted} == {5}


def test_a_new_version_is_picked_up(index_folder):
    with client_of(index_folder) as client:
        before = client.post("/v1/search", json=QUERY).json()
        Index(index_folder).remove([before["answers"][0]["hits"][0]["id"]])
        after = client.post("/v1/search", json=QUERY).json()
    assert after["version"] > before["version"]
    assert after["answers"][0]["candidates"] == before["answers"][0]["candidates"] - 1


def test_health_says_when_the_collection_is_gone(index_folder):
    with client_of(index_folder) as client:
        assert client.get("/v1/health").json() == {"status": "ok"}
        index_folder.rename(index_folder.with_name("away"))
        problem(client.get("/v1/health"), 503, "cannot be read")
        problem(client.post("/v1/search", json=QUERY), 503, "cannot be read")
        index_folder.with_name("away").rename(index_folder)
        assert client.get("/v1/health").status_code == 200
        assert client.post("/v1/search", json=QUERY).status_code == 200


def test_metrics_count(client):
    client.post("/v1/search", json=QUERY)
    text = client.get("/v1/metrics").text
    for name in (
        'regard_requests_total{method="POST",route="/v1/search",status="200"}',
        "regard_request_seconds_bucket",
        "regard_batch_queries_sum",
        'regard_phase_seconds_total{phase="score"}',
        "regard_items 24.0",
    ):
        assert name in text


def test_the_process_ends_gracefully_and_logs_no_secrets(web_world):
    with serving(web_world / "index") as server:
        import httpx

        with httpx.Client(base_url=server.url) as client, ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(client.post, "/v1/search", json=QUERY, timeout=30) for _ in range(8)]
            client.delete("/v1/items/none", headers=BEARER)
            time.sleep(0.05)
            code = server.stop()
            done = [each.exception() or each.result().status_code for each in asked]
    assert code == 0
    # What was accepted is answered; a connection that came too late is refused.
    assert {each for each in done if isinstance(each, int)} == {200}
    text = server.log.read_text()
    assert TOKEN not in text
    assert "horse" not in text
    events = {line["event"] for line in server.lines}
    assert "request" in events


def test_a_missing_package_is_named():
    code = "import sys; sys.modules['fastapi'] = None; sys.argv = ['regard', 'serve', '.']"
    command = [sys.executable, "-c", f"{code}; from regard.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == 'regard: The server requires fastapi: pip install ".[serve]" in the clone of Regard.\n'


def test_the_command_line_refuses_bad_settings(web_world):
    assert "needs a token" in refused("serve", web_world / "index", "--host", "0.0.0.0", "--token", "")
    assert "at least 16" in refused("serve", web_world / "index", "--token", "short")
    assert "index" in refused("serve", web_world / "photos")
    index = (web_world / "index", "--device", "cpu")
    assert "no column 'plaec' to expose. Did you mean 'place'?" in refused("serve", *index, "--expose", "plaec")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Cannot listen" in refused("serve", *index, "--port", taken.getsockname()[1])
