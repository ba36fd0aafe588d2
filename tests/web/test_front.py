"""A front server of shards gives the answers of one index, and names a shard that is missing."""

import shutil
import socket
from contextlib import ExitStack
from urllib.parse import quote

import httpx
import pytest

from commands import refused
from regard.search.index import Index
from regard.web.server import build_app
from regard.web.settings import Settings
from sharded import SHARDS, add_folders, refusal, running, running_front, running_shards, sentences, wait_until
from web_servers import TOKEN

NUM_ITEMS = 144


def indexes(sharded, count: int) -> list:
    return [sharded / SHARDS[count] / str(number) for number in range(count)]


def ask(url: str, *queries: str | dict, status: int = 200, **body) -> dict:
    told = [{"sentence": query} if isinstance(query, str) else query for query in queries]
    response = httpx.post(f"{url}/v1/search", json={"queries": told, **body}, timeout=30)
    assert response.status_code == status, response.text
    return response.json()


def check_same(found: dict, expected: dict) -> None:
    """Check that a front server has answered as the server of one index: ids and order, scores, parts, counts."""
    assert found["partial"] == []
    assert found["fingerprint"] == expected["fingerprint"]
    assert (found["next"] is None) == (expected["next"] is None)
    for own, other in zip(found["answers"], expected["answers"], strict=True):
        assert [hit["id"] for hit in own["hits"]] == [hit["id"] for hit in other["hits"]]
        assert {name: own[name] for name in ("query", "candidates", "shortlist", "recall")} == {
            name: other[name] for name in ("query", "candidates", "shortlist", "recall")
        }
        for hit, there in zip(own["hits"], other["hits"], strict=True):
            assert (hit["rank"], hit["gap"]) == (there["rank"], there["gap"])
            assert hit["score"] == pytest.approx(there["score"], abs=1e-5)
            assert hit["parts"] == pytest.approx(there["parts"], abs=1e-5)


@pytest.fixture(scope="module")
def servers(sharded):
    """The addresses of the server of one index, and of front servers of two and three shards."""
    with (
        running_shards(indexes(sharded, 1)) as (whole,),
        running_shards(indexes(sharded, 2)) as two,
        running_shards(indexes(sharded, 3)) as three,
        running_front(two) as front_of_two,
        running_front(three) as front_of_three,
    ):
        yield whole, front_of_two, front_of_three


def test_shards_answer_as_one_index(servers):
    whole, *fronts = servers
    asked, objects = sentences(12), {"column": "objects", "op": "contains"}
    minus = [{"sentence": one, "minus": other} for one, other in zip(asked[:2], asked[2:4], strict=True)]
    cases = [
        (asked, {"k": 10, "shortlist": 20}),
        (minus, {"k": 5, "shortlist": 12}),
        (asked[:1], {"k": 10}),
        (asked[:1], {"k": 100, "shortlist": 0}),
        (asked[:2], {"k": 10, "shortlist": 15, "filters": [{**objects, "value": "class 3"}]}),
        (asked[:2], {"k": 10, "filters": [{**objects, "value": "none"}]}),
    ]
    for queries, options in cases:
        expected = ask(whole, *queries, **options)
        for front in fronts:
            check_same(ask(front, *queries, **options), expected)


def test_pages_over_shards_are_the_whole_list(servers):
    whole, _, front = servers
    cursor, hits = None, []
    for _ in range(4):
        page = ask(front, "w3 near w5", k=40, shortlist=0, cursor=cursor)
        hits += page["answers"][0]["hits"]
        cursor = page["next"]
    assert cursor is None
    expected = [*ask(whole, "w3 near w5", k=100, shortlist=0)["answers"][0]["hits"]]
    assert [hit["id"] for hit in hits[:100]] == [hit["id"] for hit in expected]
    assert [hit["rank"] for hit in hits] == list(range(1, NUM_ITEMS + 1))


def test_a_front_server_says_what_it_has_and_what_it_has_not(servers):
    whole, _, front = servers
    collection = httpx.get(f"{front}/v1/collection").json()
    assert (collection["items"], collection["writable"]) == (NUM_ITEMS, False)
    assert collection["columns"] == httpx.get(f"{whole}/v1/collection").json()["columns"] == {"objects": "texts"}
    assert httpx.get(f"{front}/v1/health").json() == {"status": "ok", "partial": []}
    assert "regard_missing_shards 0.0" in httpx.get(f"{front}/v1/metrics").text
    assert "Regard" in httpx.get(front).text
    assert "queries by a picture" in ask(front, {"image": "0/train0"}, status=422)["detail"]
    assert (
        "no column 'width'"
        in ask(front, "w1", filters=[{"column": "width", "op": ">", "value": 1}], status=422)["detail"]
    )
    assert "sentence is empty" in ask(front, " ", status=422)["detail"]
    assert "cursor: expected" in ask(front, "w1", cursor="bm9uZQ==", status=422)["detail"]
    assert httpx.post(f"{front}/v1/items").status_code == 403  # as on a server of one index without a token


def test_what_concerns_one_picture_is_asked_of_its_shard(servers):
    whole, _, front = servers
    for id_ in ("0/train0", "3/dev4", "5/dev11"):
        for path in (f"/v1/items/{quote(id_)}", f"/v1/explain?id={quote(id_)}&sentence=w3%20near%20w5"):
            found, expected = (httpx.get(url + path, timeout=30) for url in (front, whole))
            assert (found.status_code, expected.status_code) == (200, 200)
            own, other = found.json(), expected.json()
            for answer in (own, other):
                del answer["seconds"], answer["version"]
            assert own.get("id") == other.get("id")
            assert own.get("boxes") == other.get("boxes")
            if "explanation" in own:
                assert own["explanation"]["score"] == pytest.approx(other["explanation"]["score"], abs=1e-5)
    assert httpx.get(f"{front}/v1/items/0/none").status_code == 404
    picture = httpx.get(f"{front}/v1/items/0/train0/picture")
    assert (picture.status_code, picture.json()["detail"]) == (404, "The collection has no image file of '0/train0'.")


def test_a_shard_refuses_what_is_about_another_model_or_snapshot(sharded):
    with running_shards(indexes(sharded, 2)[:1]) as (url,):
        about = httpx.get(f"{url}/v1/shards/0").json()
        body = {"fingerprint": about["fingerprint"], "snapshot": about["snapshot"], "k": 5}
        body["queries"] = [{"sentence": "w3 near w5"}]

        def refuse(status: int, **changes) -> str:
            sent = {name: value for name, value in {**body, **changes}.items() if value is not None}
            response = httpx.post(f"{url}/v1/shards/0/search", json=sent)
            assert response.status_code == status, response.text
            assert response.headers["content-type"] == "application/problem+json"
            return response.json()["detail"]

        assert refuse(422, fingerprint=None) == "fingerprint is required."
        assert refuse(422, snapshot=None) == "snapshot is required."
        assert f"fingerprint {about['fingerprint']}, and the request is about 'x'" in refuse(409, fingerprint="x")
        assert f"snapshot {about['snapshot']}, and the request is about 'y'" in refuse(409, snapshot="y")
        assert "no picture 'none'" in refuse(422, ids=[["none"]])
        assert "a list for each of 1 queries, got 2" in refuse(422, ids=[[], []])
        assert "no queries by a picture" in refuse(422, queries=[{"image": "0/train0"}])
        assert httpx.get(f"{url}/v1/shards/0/hashes?snapshot=y").status_code == 409

        found = httpx.post(f"{url}/v1/shards/0/search", json=body).json()
        ids = found["shortlists"][0]["ids"]
        assert (len(ids), found["candidates"], found["scores"]) == (5, NUM_ITEMS // 2, [])
        scored = httpx.post(f"{url}/v1/shards/0/search", json={**body, "ids": [ids], "k": 2}).json()["scores"][0]
        expected = {
            hit.id: hit.score for hit in Index(indexes(sharded, 2)[0]).search(["w3 near w5"], k=72, shortlist=0)[0].hits
        }
        assert scored["scores"] == pytest.approx([expected[id_] for id_ in ids], abs=1e-5)
        assert sorted(scored["parts"]) == sorted(sorted(ids, key=lambda id_: -expected[id_])[:2])


def test_a_shard_that_is_missing_is_named_and_used_again_when_it_is_back(sharded):
    first, second = indexes(sharded, 2)
    asked = {"k": 10, "shortlist": 20}
    with ExitStack() as stack:
        (url,), shard = stack.enter_context(running_shards([first])), stack.enter_context(ExitStack())
        (other,) = shard.enter_context(running_shards([second]))
        front = stack.enter_context(running_front([url, other]))
        whole = ask(front, "w3 near w5", **asked)
        shard.close()
        page = ask(front, "w3 near w5", **asked)
        assert [each["shard"] for each in page["partial"]] == [1]
        assert "does not answer" in page["partial"][0]["reason"]
        # The answer is that of an index of the other shard's pictures.
        expected = Index(first).search(["w3 near w5"], **asked)[0]
        assert [hit["id"] for hit in page["answers"][0]["hits"]] == [hit.id for hit in expected.hits]
        assert page["answers"][0]["candidates"] == expected.candidates == NUM_ITEMS // 2
        health = httpx.get(f"{front}/v1/health").json()
        assert (health["status"], [each["shard"] for each in health["partial"]]) == ("partial", [1])
        gone = httpx.get(f"{front}/v1/items/5/dev11")
        assert (gone.status_code, "Shard 1 has '5/dev11', and is missing" in gone.text) == (503, True)
        stale = ask(front, "w3 near w5", cursor=whole["next"], status=409, **asked)
        assert "other ones answer now" in stale["detail"]
        with running_shards([second], port=int(other.rsplit(":")[-1])):
            wait_until(lambda: ask(front, "w3 near w5", **asked)["partial"] == [])
            assert ask(front, "w3 near w5", **asked)["answers"][0]["hits"] == whole["answers"][0]["hits"]


class FailsAtScoring:
    """A shard that makes shortlists, and fails when it should score."""

    def __init__(self, path) -> None:
        self.app, self.steps = build_app(Index(path), Settings()), 0

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/search"):
            self.steps += 1
            if self.steps % 2 == 0:
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


def test_if_a_shard_fails_between_the_steps_the_others_fill_the_shortlist(sharded):
    first, second = indexes(sharded, 2)
    with (
        running_shards([first]) as (url,),
        running(FailsAtScoring(second)) as other,
        running_front([url, other]) as front,
    ):
        found = ask(front, "w3 near w5", k=10, shortlist=20)
    assert found["partial"] == [{"shard": 1, "reason": "it answers 500: Internal Server Error"}]
    expected = Index(first).search(["w3 near w5"], k=10, shortlist=20)[0]
    assert [hit["id"] for hit in found["answers"][0]["hits"]] == [hit.id for hit in expected.hits]
    assert found["answers"][0]["shortlist"] == 20


def test_without_any_shard_there_is_no_answer(sharded):
    with ExitStack() as stack:
        shard = stack.enter_context(ExitStack())
        front = stack.enter_context(running_front(shard.enter_context(running_shards(indexes(sharded, 1)))))
        shard.close()
        assert "No shard answers (shard 0: it does not answer" in ask(front, "w1", status=503)["detail"]
        assert httpx.get(f"{front}/v1/health").status_code == 503
        assert httpx.get(f"{front}/v1/collection").status_code == 503


def test_a_front_server_may_start_before_its_shards(sharded, tmp_path):
    first, second = indexes(sharded, 2)
    add_folders(sharded, tmp_path / "other", [4, 5], "other")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    later = f"http://127.0.0.1:{port}"
    with running_shards([first, tmp_path / "other"]) as (url, other):
        assert "its model has the fingerprint" in refusal([url, other], allow_silent=True)
        assert "Shard 0" in refusal([later], allow_silent=True)
        with running_front([url, later], allow_silent=True) as front:
            assert [each["shard"] for each in ask(front, "w3 near w5")["partial"]] == [1]
            assert httpx.get(f"{front}/v1/items/0/none").status_code == 503  # the shard may have it
            with running_shards([second], port=port):
                wait_until(lambda: ask(front, "w3 near w5")["partial"] == [])
            # The address now has another model: the shard is not used, and the answer says why.
            wait_until(lambda: ask(front, "w3 near w5")["partial"] != [])
            with running_shards([tmp_path / "other"], port=port):
                wait_until(lambda: "its model" in ask(front, "w3 near w5")["partial"][0]["reason"])


def test_a_change_of_a_shard_is_picked_up(sharded, tmp_path):
    paths = [shutil.copytree(path, tmp_path / path.name) for path in indexes(sharded, 2)]
    # The front server looks for changes so rarely here that it learns of this one by the refusal of the shard.
    with running_shards(paths) as urls, running_front(urls, refresh_seconds=1000.0) as front:
        before = ask(front, "w3 near w5", k=10, shortlist=20)
        best = before["answers"][0]["hits"][0]["id"]
        Index(paths[0 if best[0] in "012" else 1]).remove([best])
        after = ask(front, "w3 near w5", k=10, shortlist=20)
        assert after["partial"] == []
        assert after["version"] > before["version"]
        assert after["answers"][0]["candidates"] == NUM_ITEMS - 1
        assert best not in [hit["id"] for hit in after["answers"][0]["hits"]]
        assert httpx.get(f"{front}/v1/items/{best}").status_code == 404
        stale = ask(front, "w3 near w5", k=10, shortlist=20, cursor=before["next"], status=409)
        assert "shards have changed" in stale["detail"]
        # A picture that another shard has already: the later one is left out, with the reason.
        Index(paths[1]).add(sharded / "data0", prefix="0/")
        double = ask(front, "w3 near w5", k=10, shortlist=20)
        assert [each["shard"] for each in double["partial"]] == [1]
        assert "is also in shard 0: an id may be in one only" in double["partial"][0]["reason"]


def test_a_picture_under_two_ids_is_found_once(sharded, tmp_path):
    shutil.copytree(sharded / "two" / "1", tmp_path / "again")
    Index(tmp_path / "again").add(sharded / "data0", split="train", prefix="again/")
    with running_shards([sharded / "two" / "0", tmp_path / "again"]) as urls, running_front(urls) as front:
        found = ask(front, *sentences(8), k=20, shortlist=30)
    for answer, expected in zip(
        found["answers"], Index(sharded / "whole" / "0").search(sentences(8), k=20, shortlist=30), strict=True
    ):
        assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected.hits]
        assert answer["candidates"] == NUM_ITEMS + 12  # what the shards have


def test_shards_that_do_not_fit_are_refused_at_the_start(sharded, tmp_path):
    add_folders(sharded, tmp_path / "other", [4, 5], "other")
    with running_shards([*indexes(sharded, 2), tmp_path / "other"]) as (first, second, other):
        line = refusal([first, second, first])
        assert line.startswith(f"Shard 2 at {first} cannot be used: the picture '")
        assert line.endswith("is also in shard 0: an id may be in one only.")
        assert "its model has the fingerprint" in refusal([first, other])
        line = refused("serve", "--shards", first, "http://127.0.0.1:9", "--token", "")
        assert line == "Shard 1 at http://127.0.0.1:9 cannot be used: it does not answer (ConnectError)."
        assert "it answers 404" in refusal([first, f"{second}/v1/health"])
    assert "no address of a shard" in refused("serve", "--shards", str(sharded), "--token", "")
    assert "Expected the folder of an index, or --shards" in refused("serve", "--token", "")
    assert "or --shards" in refused("serve", sharded / "whole" / "0", "--shards", "http://127.0.0.1:9", "--token", "")
    front = ("serve", "--shards", "http://127.0.0.1:9", "--token", "")
    assert "has no --expose" in refused(*front, "--expose", "objects")
    assert "has no --run" in refused(*front, "--run", sharded / "run")
    assert "has no --device" in refused(*front, "--device", "cpu")
    assert "needs a token" in refused(*front, "--host", "0.0.0.0")
    assert "--shard-timeout 0: expected seconds above 0" in refused(
        "serve", "--shards", "http://a", "--shard-timeout", 0
    )
    assert "--shard-timeout and --partial are for a front server" in refused(
        "serve", sharded / "whole" / "0", "--shard-timeout", 3
    )


def test_the_token_of_the_front_server_is_that_of_the_shards(sharded):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with running_shards(indexes(sharded, 2), host="0.0.0.0", token=TOKEN) as urls:
        assert "it answers 401: A token is required" in refusal(urls)
        with running_front(urls, token=TOKEN) as front:
            assert ask(front, "w3 near w5")["partial"] == []
            added = httpx.post(f"{front}/v1/items", headers=bearer)
            assert (added.status_code, "server of a shard" in added.json()["detail"]) == (501, True)
            removed = httpx.delete(f"{front}/v1/items/0/train0", headers=bearer)
            assert (removed.status_code, "server of the shard" in removed.json()["detail"]) == (501, True)
