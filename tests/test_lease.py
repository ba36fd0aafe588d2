"""A lock between machines. Other machines are other host names: the files are all that they share."""

import json
import platform
import threading
import time

import pytest

from regard import lease
from regard.files import InputError
from regard.lease import Lease, leased


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "LEASE", 1.0)


def held_elsewhere(path, beats=0):
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "beats": beats}))


def test_a_folder_is_refused_while_its_holder_writes(tmp_path, monkeypatch):
    with leased(tmp_path, "It is in use.") as check:
        time.sleep(0.3)  # some beats
        check()
        with pytest.raises(InputError, match=r"^It is in use\.$"), leased(tmp_path, "It is in use."):
            raise AssertionError
        # On a file system that keeps locks within one machine, only the lease is left.
        there = Lease(tmp_path / ".lease", "It is in use.")
        monkeypatch.setattr(platform, "node", lambda: "elsewhere")
        began = time.monotonic()
        with pytest.raises(InputError, match=r"^It is in use\. It runs on \S+\.$"):
            there.acquire()
        assert time.monotonic() - began < lease.LEASE
    assert list(tmp_path.iterdir()) == []


def test_a_lease_is_taken_over_after_its_time(tmp_path):
    held_elsewhere(tmp_path / ".lease.7")
    began = time.monotonic()
    with leased(tmp_path, "It is in use."):
        assert lease.LEASE < time.monotonic() - began < 4 * lease.LEASE
        assert [path.name for path in tmp_path.iterdir()] == [".lease.8"]


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path):
    dead = {"host": platform.node(), "process": 2**22 + 1, "beats": 3}  # above the largest number of a process
    (tmp_path / ".lease.1").write_text(json.dumps(dead))
    began = time.monotonic()
    with leased(tmp_path, "It is in use."):
        assert time.monotonic() - began < lease.LEASE / 2


def test_one_of_many_takes_over(tmp_path):
    held_elsewhere(tmp_path / "lock.3")
    inside, refused = [], []

    def contend():
        own = Lease(tmp_path / "lock", "It is in use.")
        try:
            own.acquire()
        except InputError:
            refused.append(own)
        else:
            inside.append(own)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)
    inside[0].release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_stood_still_is_told(tmp_path):
    with leased(tmp_path, "It is in use.") as check:
        held_elsewhere(tmp_path / ".lease.2")
        with pytest.raises(InputError, match=r"It is in use\. It took over from this one, which .* on elsewhere\."):
            check()
        time.sleep(0.3)
        assert json.loads((tmp_path / ".lease.2").read_text())["host"] == "elsewhere"  # no beat writes into it
    assert [path.name for path in tmp_path.iterdir()] == [".lease.2"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"host": 3, "process": "x"}'])
def test_a_damaged_lease_is_stale_like_another(tmp_path, content):
    (tmp_path / ".lease.1").write_text(content)
    with leased(tmp_path, "It is in use."):
        assert [path.name for path in tmp_path.iterdir()] == [".lease.2"]
