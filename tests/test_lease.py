"""A lock between machines. Other machines are other host names: the files are all that they share."""

import json
import threading
import time

import pytest

from regard import lease
from regard.files import InputError
from regard.lease import Lease, is_held, leased


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "LEASE", 1.0)


def held_elsewhere(path, beats=0):
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "beats": beats}))


def test_a_folder_is_refused_while_its_holder_writes(tmp_path):
    with leased(tmp_path, "It is in use.") as check:
        time.sleep(0.3)  # some beats
        check()
        with pytest.raises(InputError, match=r"^It is in use\.$"), leased(tmp_path, "It is in use."):
            raise AssertionError
        # On a file system that keeps locks within one machine, only the lease is left.
        there = Lease(tmp_path / ".lease", "It is in use.")
        there.machine = "elsewhere"
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
    own = Lease(tmp_path / ".lease", "")
    own.acquire()
    own.ended.set()  # it beats no more, and holds no lock
    began = time.monotonic()
    with leased(tmp_path, "It is in use."):
        assert time.monotonic() - began < lease.LEASE / 2
        with pytest.raises(InputError, match="took over"):
            own.check()


def test_a_holder_that_stood_still_while_writing_does_not_bring_back_its_file(tmp_path, monkeypatch):
    """It has seen that it holds the lease, and another machine takes over before it writes."""
    own, other = Lease(tmp_path / ".lease", ""), Lease(tmp_path / ".lease", "")
    own.acquire()
    asked, is_held_ = threading.Event(), own._is_held

    def slow():
        found = is_held_()
        asked.set()
        time.sleep(1.0)
        return found

    monkeypatch.setattr(own, "_is_held", slow)
    assert asked.wait(5)
    own.ended.set()  # after this beat
    other.acquire()  # of the same machine, so without waiting
    own.thread.join()
    other.release()
    with pytest.raises(InputError, match="took over"):
        own.check()
    assert list(tmp_path.iterdir()) == []


def test_one_of_many_takes_over(tmp_path):
    held_elsewhere(tmp_path / "lock.3")
    inside, refused = [], []

    def contend(machine):
        own = Lease(tmp_path / "lock", "It is in use.")
        own.machine = machine
        try:
            own.acquire()
        except InputError:
            refused.append(own)
        else:
            inside.append(own)

    threads = [threading.Thread(target=contend, args=(f"machine {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)
    inside[0].release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_stood_still_finds_out(tmp_path):
    with leased(tmp_path, "It is in use.") as check:
        held_elsewhere(tmp_path / ".lease.2")
        with pytest.raises(InputError, match=r"It is in use\. It took over on elsewhere meanwhile\."):
            check()
        time.sleep(0.3)
        assert json.loads((tmp_path / ".lease.2").read_text())["host"] == "elsewhere"  # no beat writes into it
        # The one that took over has ended, and a third one has begun with the same number.
        (tmp_path / ".lease.2").unlink()
        held_elsewhere(tmp_path / ".lease.1")
        with pytest.raises(InputError, match="took over"):
            check()
    assert json.loads((tmp_path / ".lease.1").read_text())["host"] == "elsewhere"  # the end removes nothing of it


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"host": 3, "process": "x"}'])
def test_a_damaged_lease_is_stale_like_another(tmp_path, content):
    (tmp_path / ".lease.1").write_text(content)
    with leased(tmp_path, "It is in use."):
        assert [path.name for path in tmp_path.iterdir()] == [".lease.2"]


def test_it_is_known_from_outside_whether_a_lease_is_held(tmp_path):
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with leased(lock, "It is in use."):
        assert is_held(lock)
    assert not is_held(lock)
    there = Lease(lock, "")
    there.machine = "elsewhere"
    there.acquire()
    assert is_held(lock)  # by its beats
    there.ended.set()
    there.thread.join()
    assert not is_held(lock)
