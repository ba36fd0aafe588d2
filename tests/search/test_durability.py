"""An index stays whole: under changes in any order, killed writers, several processes, full disks and lost files."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import made
from changes import CONTENTS, Collection, Model, add_once, change_forever, changed, search_until, write_source
from commands import refused, regard, room_for
from regard.files import InputError, Stopped
from regard.search import index_store
from regard.search.index import Index

KILLS = 24
PROCESSES = multiprocessing.get_context("forkserver")
# A process then starts in milliseconds.
PROCESSES.set_forkserver_preload(["lancedb", "regard.cli", "regard.models", "regard.search.index"])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Collection(tmp_path_factory.mktemp("small"))


@pytest.fixture
def sources(tmp_path):
    """Three sources that share pictures and names, with their contents."""
    chosen = [{str(name): (name * step + step) % CONTENTS for name in range(6)} for step in (1, 2, 3)]
    return [(write_source(tmp_path / f"source {step}", contents), contents) for step, contents in enumerate(chosen)]


@contextmanager
def process(function, *arguments):
    """A process that calls a function, and is killed at the end of the block."""
    started = PROCESSES.Process(target=function, args=arguments)
    started.start()
    try:
        yield started
    finally:
        if started.is_alive():
            os.kill(started.pid, signal.SIGKILL)
        started.join(30)


def table(folder):
    return folder / "store" / "main.lance"


def wait_for(condition, started):
    """Wait until a condition is true. Fails if the process that should make it true has ended."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        assert started.is_alive()
        time.sleep(0.005)


# Any order of changes -------------------------------------------------------------------------------------------------

NAMES = [str(number) for number in range(5)]
SOURCES = st.sampled_from(["a", "b", "c"])
PREFIXES = st.sampled_from(["", "p/"])
IDS = st.sampled_from([prefix + name for prefix in ("", "p/") for name in NAMES])
PICTURES = st.dictionaries(st.sampled_from(NAMES), st.integers(0, CONTENTS - 1), min_size=1)


def machine_of(small, folder):
    """A state machine of an index, whose runs use subfolders of `folder`."""

    class Changes(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.folder = folder / str(len(list(folder.iterdir())))
            self.folder.mkdir()
            self.index, self.model = small.new_index(self.folder / "index"), Model()
            self.sources = {}
            self.readers = []

        @rule(name=SOURCES, contents=PICTURES)
        def write(self, name, contents):
            self.sources[name] = (write_source(self.folder / name, contents), contents)

        def change(self, name, prefix, mirror, call):
            """Expect the next model from `call(source)`, or an error if an id belongs to another picture."""
            if name not in self.sources:
                self.write(name, {"0": CONTENTS - 1})
            source, contents = self.sources[name]
            try:
                model = self.model.added(source, contents, prefix, mirror)
            except InputError:
                with pytest.raises(InputError, match="is another picture"):
                    call(source)
                return
            with suppress(Stopped):
                call(source)
                self.model = model

        @rule(name=SOURCES, prefix=PREFIXES, mirror=st.booleans())
        def add(self, name, prefix, mirror):
            self.change(name, prefix, mirror, lambda source: self.index.add(source, prefix=prefix, mirror=mirror))

        @rule(name=SOURCES, prefix=PREFIXES, mirror=st.booleans())
        def add_and_stop(self, name, prefix, mirror):
            def stop(done, total):
                raise Stopped("stopped after the first batch")

            self.change(
                name, prefix, mirror, lambda source: self.index.add(source, prefix=prefix, mirror=mirror, progress=stop)
            )

        # Draws do not depend on the model, which depends on when a writer was killed: Hypothesis repeats them.
        @rule(ids=st.sets(IDS, min_size=1, max_size=4))
        def remove(self, ids):
            if ids := ids & self.model.links.keys():
                self.index.remove(sorted(ids))
                self.model = self.model.removed(ids)

        @rule(id_=IDS)
        def remove_by_condition(self, id_):
            self.index.remove(where=f"array_has(ids, '{id_}')")
            self.model = self.model.removed({id_} & self.model.links.keys())

        @rule()
        def compact(self):
            self.index.compact()

        @rule()
        def reopen(self):
            self.index = Index(self.index.folder)

        @rule()
        def pin(self):
            self.readers = [*self.readers[-1:], (Index(self.index.folder), self.model)]

        @rule()
        def refresh(self):
            for reader, _ in self.readers:
                reader.refresh()
            self.readers = [(reader, self.model) for reader, _ in self.readers]

        @invariant()
        def equals_the_model(self):
            small.check(self.index, self.model)
            assert self.index.verify() == []
            for reader, model in self.readers:
                small.check(reader, model)

    class WithKills(Changes):
        @rule(name=SOURCES, prefix=PREFIXES, mirror=st.booleans(), after=st.floats(0, 0.15))
        def add_and_kill(self, name, prefix, mirror, after):
            before = self.model
            self.change(name, prefix, mirror, lambda source: self.killed(source, prefix, mirror, after))
            self.index = Index(self.index.folder)
            if small.differs(self.index, self.model):  # otherwise it was killed after the change
                self.model = before

        def killed(self, source, prefix, mirror, after):
            self.model.added(source, self.sources[source.name][1], prefix, mirror)
            ready = self.folder / "ready"
            ready.unlink(missing_ok=True)
            with process(add_once, self.index.folder, source, prefix, mirror, ready) as writer:
                wait_for(ready.exists, writer)
                time.sleep(after)

    return Changes, WithKills


# Examples write files, so that shrinking one would take minutes.
BOUNDED = settings(deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])


def test_an_index_equals_its_model(small, tmp_path):
    run_state_machine_as_test(
        machine_of(small, tmp_path)[0], settings=settings(BOUNDED, max_examples=6, stateful_step_count=12)
    )


@pytest.mark.slow
def test_an_index_equals_its_model_when_writers_are_killed(small, tmp_path):
    run_state_machine_as_test(
        machine_of(small, tmp_path)[1], settings=settings(BOUNDED, max_examples=40, stateful_step_count=25)
    )


# Killed writers -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_a_killed_writer_acknowledged_is_there(small, sources, tmp_path):
    index, log, chance = small.new_index(tmp_path / "index"), tmp_path / "log", random.Random(0)
    model, done = Model(), 0
    for _ in range(KILLS):
        log.write_text("")
        with process(change_forever, index.folder, sources, done, log) as writer:
            wait_for(log.read_text, writer)  # the lock of the one before does not block it
            time.sleep(chance.uniform(0, 0.4))
        acknowledged = log.read_text().count("\n")
        for number in range(done, done + acknowledged):
            model = changed(model, sources, number)
        done += acknowledged
        index = Index(index.folder)
        assert index.verify() == []
        if small.differs(index, model):  # then all of the change that was not acknowledged is there
            model = changed(model, sources, done)
            done += 1
            small.check(index, model)
    with index.locked(wait=0.0):
        pass


def test_a_writer_killed_at_its_manifest_leaves_an_index_that_opens(index, tmp_path):
    other = made.folder(tmp_path / "other", seed=5)
    arguments = ["index", "add", str(index.folder), str(other), "--prefix", "other/", "--texts"]
    with process(made.command, arguments, tmp_path / "errors", 1) as writer:
        writer.join(60)
        assert writer.exitcode == -signal.SIGKILL
    assert Index(index.folder).verify() == []
    assert regard(*arguments).code == 0
    again = Index(index.folder)
    assert (len(again), again.verify()) == (48, [])
    assert again._state.sentences


def test_what_killed_writers_left_is_deleted_by_compacting(small, sources, tmp_path):
    index = small.new_index(tmp_path / "index")
    index.add(sources[0][0])
    orphan = table(index.folder) / "data" / "orphan.lance"
    orphan.write_bytes(b"half a file")
    index.compact()
    assert not orphan.exists()
    small.check(Index(index.folder), Model().added(*sources[0]))


# Several processes ----------------------------------------------------------------------------------------------------


def test_two_writers_add_one_after_the_other(small, sources, tmp_path):
    index, go = small.new_index(tmp_path / "index"), tmp_path / "go"
    model, ready = Model(), [tmp_path / "ready 0", tmp_path / "ready 1"]
    with (
        process(add_once, index.folder, sources[0][0], "0/", False, ready[0], go) as first,
        process(add_once, index.folder, sources[1][0], "1/", False, ready[1], go) as second,
    ):
        wait_for(ready[0].exists, first)
        wait_for(ready[1].exists, second)
        go.touch()
        for writer in (first, second):
            writer.join(60)
            assert writer.exitcode == 0
    for number in range(2):
        model = model.added(*sources[number], prefix=f"{number}/")
    index.refresh()
    small.check(index, model)
    assert index.verify() == []


def refusal(index):
    """Why the index cannot be locked; nothing if it can. A process that has just locked it is not named yet."""
    try:
        with index.locked(wait=0.0):
            return ""
    except InputError as error:
        return str(error)


def test_the_lock_names_its_process_and_ends_with_it(small, sources, tmp_path):
    index, log = small.new_index(tmp_path / "index"), tmp_path / "log"
    with process(change_forever, index.folder, sources, 0, log) as writer:
        wait_for(lambda: log.exists() and log.read_text(), writer)
        until = time.monotonic() + 30
        while f"Process {writer.pid} is writing" not in refusal(index):  # until it is stopped inside a change
            assert time.monotonic() < until
            os.kill(writer.pid, signal.SIGCONT)
            time.sleep(0.01)
            os.kill(writer.pid, signal.SIGSTOP)
    assert not refusal(index)


@pytest.mark.parametrize("seconds", [1.5, pytest.param(20, marks=pytest.mark.slow)])
def test_pinned_readers_answer_identically_while_others_write(small, sources, tmp_path, seconds):
    index, log, stop = small.new_index(tmp_path / "index"), tmp_path / "log", tmp_path / "stop"
    index.add(sources[0][0])
    model, failures = Model().added(*sources[0]), []

    def read():
        try:
            reader = Index(index.folder)
            barrier.wait()
            while not stop.exists():
                small.check(reader, model)
        except BaseException as error:
            failures.append(error)
            raise

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=read) for _ in range(2)]
    ready = tmp_path / "ready"
    with process(search_until, index.folder, ready, stop) as reader:
        for thread in threads:
            thread.start()
        try:
            barrier.wait(60)
            wait_for(ready.exists, reader)
            with process(change_forever, index.folder, sources, 0, log) as writer:
                wait_for(lambda: log.exists() and log.read_text().count("\n") >= 4, writer)  # at least one compaction
                time.sleep(seconds)
        finally:
            stop.touch()
            for thread in threads:
                thread.join(60)
        reader.join(60)
        assert (reader.exitcode, failures) == (0, [])


def test_compacting_keeps_the_version_that_was_in_use(small, sources, tmp_path, monkeypatch):
    keep = 2.0
    monkeypatch.setattr(index_store, "KEEP", timedelta(seconds=keep))
    index, model = small.new_index(tmp_path / "index"), Model().added(*sources[0])
    index.add(sources[0][0])
    reader, data = Index(index.folder), table(index.folder) / "data"
    files = set(data.iterdir())
    time.sleep(1.5 * keep)  # now the version of the reader is older than KEEP, and still the latest
    index.remove(list(model.links))
    index.compact()
    assert files <= set(data.iterdir())
    small.check(reader, model)
    time.sleep(1.5 * keep)
    index.compact()
    assert not files & set(data.iterdir())
    assert reader.refresh()
    small.check(reader, Model())


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path):
    return made.folder(tmp_path / "other", seed=5)


@pytest.mark.parametrize("size", [1, 1000, 5000, 20_000])
def test_a_full_disk_leaves_the_index_as_it_was(index, other, size):
    before = sorted(index._state.snapshot.row_of)
    with room_for(size):
        assert "The disk is full" in refused("index", "add", index.folder, other, "--prefix", "other/")
    again = Index(index.folder)
    assert (sorted(again._state.snapshot.row_of), again.verify()) == (before, [])
    assert regard("index", "add", index.folder, other, "--prefix", "other/").code == 0
    again.refresh()
    assert (len(again), again.verify()) == (48, [])


def test_an_index_that_a_full_disk_interrupted_is_continued(collection, tmp_path):
    command = ("index", collection / "cmsei", collection / "data", "--out", tmp_path / "new")
    with room_for(1000):
        assert f"What {tmp_path / 'new'} contains is whole: the same command continues it" in refused(*command)
    assert regard(*command).code == 0
    assert len(Index(tmp_path / "new")) == 24


def test_an_error_while_encoding_is_reported_as_it_is(index, other):
    def fail(done, total):
        raise OSError(28, "No space left on device", "elsewhere")

    before = sorted(index._state.snapshot.row_of)
    with pytest.raises(OSError, match="No space left on device: 'elsewhere'"):
        index.add(other, prefix="other/", progress=fail)
    assert sorted(Index(index.folder)._state.snapshot.row_of) == before


# An index that was copied in part -------------------------------------------------------------------------------------


def data_file(folder):
    return max((table(folder) / "data").iterdir(), key=lambda path: path.stat().st_size)


def cut(path, share=0.5):
    os.truncate(path, int(path.stat().st_size * share))


DAMAGES = {
    "no data file": (lambda folder: data_file(folder).unlink(), r"main\.lance"),
    "half a data file": (lambda folder: cut(data_file(folder)), r"main\.lance"),
    "an empty data file": (lambda folder: cut(data_file(folder), 0), r"main\.lance"),
    "no data": (lambda folder: shutil.rmtree(table(folder) / "data"), r"main\.lance"),
    "no version": (lambda folder: shutil.rmtree(table(folder) / "_versions"), r"main\.lance"),
    "half a version": (lambda folder: cut(min((table(folder) / "_versions").glob("*.manifest"))), r"main\.lance"),
    "no table": (lambda folder: shutil.rmtree(table(folder)), r"main\.lance"),
    "no store": (lambda folder: shutil.rmtree(folder / "store"), r"main\.lance"),
    "no manifest": (
        lambda folder: (folder / "index.json").unlink(),
        r"has no index\.json|is not a run",
    ),
    "half a manifest": (lambda folder: cut(folder / "index.json"), r"index\.json is damaged"),
    "a manifest that is too deep": (
        lambda folder: (folder / "index.json").write_text("[" * 5000),
        r"index\.json is damaged",
    ),
    "an empty manifest": (lambda folder: cut(folder / "index.json", 0), r"index\.json is damaged"),
    **{
        f"the manifest {text}": (
            lambda folder, text=text: (folder / "index.json").write_text(text),
            r"index\.json is damaged",
        )
        for text in (
            "[]",
            "null",
            '{"format": 1, "using": "main", "sets": {"main": 3}}',
            '{"format": 1, "using": "main", "sets": {"main": {"fingerprint": "x"}}}',
            '{"format": 1, "using": "other", "sets": {}}',
        )
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clear_error(index, collection, damage):
    change, names = DAMAGES[damage]
    change(index.folder)
    for arguments in (
        ("search", index.folder, "w1 near w2"),
        ("index", "info", index.folder),
        ("index", "verify", index.folder),
        ("index", "add", index.folder, collection / "data"),
    ):
        assert re.search(names, refused(*arguments))
