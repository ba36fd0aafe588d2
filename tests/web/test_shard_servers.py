"""Shards and a front server as processes, of which some are killed or cut off."""

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from sharded import SHARDS, sentences, wait_until
from web_servers import Server

pytestmark = pytest.mark.slow

ASKED = sentences(200, seed=1)


def top10(url: str, asked: list[str] = ASKED) -> tuple[list[list[str]], list[float], list[dict]]:
    """The ids of the best ten pictures of each sentence, their scores, and the shards that were missing."""
    ids, scores, partial = [], [], []
    with httpx.Client(base_url=url, timeout=60) as client:
        for first in range(0, len(asked), 10):
            queries = [{"sentence": sentence} for sentence in asked[first : first + 10]]
            response = client.post("/v1/search", json={"queries": queries, "k": 10, "shortlist": 20})
            assert response.status_code == 200, response.text
            for answer in response.json()["answers"]:
                ids.append([hit["id"] for hit in answer["hits"]])
                scores += [hit["score"] for hit in answer["hits"]]
            partial = response.json().get("partial", partial)
    return ids, scores, partial


@pytest.fixture(scope="module")
def servers(sharded, tmp_path_factory):
    """Servers of one index, of two and of three shards, by (number of shards, shard)."""
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack, ThreadPoolExecutor(3) as threads:

        def start(place: tuple[int, int]) -> Server:
            count, shard = place
            folder = sharded / SHARDS[count] / str(shard)
            server = Server(folder, expose=(), log=logs / f"{count}-{shard}.log")
            stack.callback(server.stop)
            return server

        places = [(count, shard) for count in SHARDS for shard in range(count)]
        yield dict(zip(places, threads.map(start, places), strict=True))


def front_of(servers: dict, count: int, log) -> Server:
    urls = [servers[count, shard].url for shard in range(count)]
    return Server(None, "--shards", *urls, "--shard-timeout", "5", log=log)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_answer_as_one_index(servers, tmp_path, count):
    expected_ids, expected_scores, _ = top10(servers[1, 0].url)
    front = front_of(servers, count, tmp_path / "front.log")
    try:
        ids, scores, partial = top10(front.url)
    finally:
        assert front.stop() == 0
    assert partial == []
    assert ids == expected_ids
    assert scores == pytest.approx(expected_scores, abs=1e-5)


def test_a_shard_that_is_killed_is_named_and_used_again_when_it_is_back(servers, sharded, tmp_path):
    expected, _, _ = top10(servers[1, 0].url)
    victim = servers[3, 1]
    port = int(victim.url.rsplit(":")[-1])
    front = front_of(servers, 3, tmp_path / "front.log")
    try:
        with ThreadPoolExecutor(1) as threads:
            during = threads.submit(top10, front.url)  # while its requests run
            wait_until(lambda: "/v1/search" in front.log.read_text())
            os.kill(victim.process.pid, signal.SIGKILL)
            victim.process.wait()
            assert len(during.result()[0]) == len(ASKED)  # no request failed
        ids, _, partial = top10(front.url)
        assert [each["shard"] for each in partial] == [1]
        theirs = [[id_ for id_ in own if id_[0] not in "23"] for own in expected]  # without the folders of shard 1
        assert [own[: len(rest)] for own, rest in zip(ids, theirs, strict=True)] == theirs
        folder = sharded / "three" / "1"
        servers[3, 1] = back = Server(folder, expose=(), port=port, log=tmp_path / "back.log")
        try:
            wait_until(lambda: top10(front.url, ASKED[:1])[2] == [])
            ids, _, partial = top10(front.url)
            assert (ids, partial) == (expected, [])
        finally:
            back.stop()
        events = [line["event"] for line in front.lines]
        assert {"shard missing", "shard used"} <= set(events)
    finally:
        assert front.stop() == 0


def test_a_wrong_fingerprint_is_refused(servers):
    about = httpx.get(f"{servers[2, 0].url}/v1/shards/0").json()
    body = {"snapshot": about["snapshot"], "queries": [{"sentence": "w1"}], "k": 3}
    for fingerprint, status, told in (
        (about["fingerprint"], 200, None),
        ("another", 409, "the request is about 'another'"),
        (None, 422, "fingerprint is required."),
    ):
        given = {"fingerprint": fingerprint} if fingerprint else {}
        response = httpx.post(f"{servers[2, 0].url}/v1/shards/0/search", json={**body, **given})
        assert response.status_code == status
        assert told is None or told in response.json()["detail"]


# Hosts in network namespaces ------------------------------------------------------------------------------------------


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Two namespaces as (name, address of the host); the link of each is a pair of virtual devices."""
    if not shutil.which("ip"):
        pytest.skip("needs the command ip")
    names = [f"regard{os.getpid()}-{number}" for number in range(2)]
    with ExitStack() as stack:
        for number, name in enumerate(names):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"needs the privilege to make network namespaces: {error.stderr.decode().strip()}")
            stack.callback(ip, "netns", "del", name)
            device, net = f"rg{os.getpid() % 10**6}-{number}", f"10.213.{number + 1}"
            ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("addr", "add", f"{net}.1/30", "dev", device)
            ip("link", "set", device, "up")
            ip("-n", name, "addr", "add", f"{net}.2/30", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [(name, f"10.213.{number + 1}.2") for number, name in enumerate(names)]


def test_a_host_that_is_cut_off_is_named_and_used_again_when_it_is_back(hosts, sharded, servers, tmp_path):
    """Packets to a host that is cut off are lost, so that only time-outs tell."""
    asked = ASKED[:20]
    expected, _, _ = top10(servers[1, 0].url, asked)
    with ExitStack() as stack:
        urls = []
        for shard, (name, address) in enumerate(hosts):
            before = ("ip", "netns", "exec", name)
            options = {"expose": (), "log": tmp_path / f"{shard}.log", "before": before}
            server = Server(sharded / "two" / str(shard), "--host", address, **options)
            stack.callback(server.stop)
            urls.append(server.url)
        front = Server(None, "--shards", *urls, "--shard-timeout", "1", log=tmp_path / "front.log")
        stack.callback(front.stop)
        ids, _, partial = top10(front.url, asked)
        assert (ids, partial) == (expected, [])
        ip("-n", hosts[1][0], "link", "set", "eth0", "down")
        for _ in range(2):  # the first requests wait for the time-out, and later ones do not
            ids, _, partial = top10(front.url, asked)
        assert [each["shard"] for each in partial] == [1]
        assert {id_[0] for own in ids for id_ in own} <= set("012")
        ip("-n", hosts[1][0], "link", "set", "eth0", "up")
        wait_until(lambda: top10(front.url, asked[:1])[2] == [])
        ids, _, partial = top10(front.url, asked)
        assert (ids, partial) == (expected, [])
        assert "did not answer" in partial_reason(front)


def partial_reason(front: Server) -> str:
    return next(line["reason"] for line in front.lines if line["event"] == "shard missing")
