"""Jobs: the parts of an extraction, an evaluation, an index and an encoding, on this machine and by Ray on three."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import made
from commands import contents, interrupted, refused, regard
from regard.encode import encode
from regard.files import InputError, Stopped
from regard.jobs import running
from regard.jobs.job_folder import JobFolder
from regard.jobs.running import Machines, run_parts
from regard.training.trained_run import TrainedRun

WAIT = 300  # seconds, of a busy machine


def draw(folder: Path, count: int, size: tuple[int, int] = (60, 40)) -> Path:
    """Different photographs, of which the last is the first one again."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count - 1):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    (folder / "zz.png").write_bytes((folder / "0000.png").read_bytes())
    return folder


def splits(folder: Path) -> dict[str, bytes]:
    """The files of a data folder, without the shards and the job."""
    return {name: data for name, data in contents(folder).items() if "/" not in name}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A data folder with a run, and 270 photographs."""
    folder = tmp_path_factory.mktemp("jobs")
    made.folder(folder / "data")
    made.run(folder / "run", folder / "data")
    draw(folder / "photos", 270)
    return folder


# On this machine ------------------------------------------------------------------------------------------------------


def test_an_extraction_in_parts_equals_one(collection, tmp_path):
    one, parts = tmp_path / "one", tmp_path / "parts"
    regard("extract", collection / "photos", "--out", one, "--regions", 5)
    shown = regard("job", "extract", collection / "photos", "--out", parts, "--regions", 5, "--part", 100)
    assert shown.code == 0, shown
    assert "269 photographs extracted in" in shown.out
    assert splits(parts) == splits(one)
    status = regard("job", "status", parts).out
    assert status.startswith("extract: 3 of 3 parts finished, done\n")
    Image.new("RGB", (50, 30)).save(collection / "photos" / "more.png")
    try:
        again = regard("job", "extract", collection / "photos", "--out", parts)
        assert again.out.startswith("1 photographs extracted")
        assert len(splits(parts)["test_ids.txt"].split()) == 270
    finally:
        (collection / "photos" / "more.png").unlink()
    assert "was extracted with --regions 5, not 6" in refused(
        "job", "extract", collection / "photos", "--out", parts, "--regions", 6
    )


def test_another_size_of_parts_begins_again(collection, tmp_path):
    """The parts that are finished are of another cut, also if there are as many."""
    out = tmp_path / "data"
    job = "job", "extract", collection / "photos", "--out", out, "--regions", 5
    code, _ = interrupted(lambda: JobFolder(out).folder.is_dir() and JobFolder(out).finished(), *job, "--part", 128)
    assert code in (0, 2)  # it may have ended before
    assert regard(*job, "--part", 256).code == 0
    regard("extract", collection / "photos", "--out", tmp_path / "one", "--regions", 5)
    assert sorted((out / "test_ids.txt").read_text().split()) == sorted(
        (tmp_path / "one" / "test_ids.txt").read_text().split()
    )
    assert (
        not (out / "skipped.tsv").exists()
        or (out / "skipped.tsv").read_text() == (tmp_path / "one" / "skipped.tsv").read_text()
    )


def test_changed_sentences_are_another_job(collection, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(collection / "data", data)
    job = "job", "evaluate", collection / "run", "--data", data, "--split", "dev", "--out", tmp_path / "job"
    assert regard(*job).code == 0
    (data / "dev_caps.txt").write_text("".join(sorted((data / "dev_caps.txt").read_text().splitlines(True))))
    assert "is of another job (inputs" in refused(*job)


def check_metrics(collection, out, *more):
    one, parts = out / "one.json", out / "parts.json"
    regard("evaluate", collection / "run", "--split", "dev", "--json", one, "--save-scores", out / "one.npy")
    saved = "--save-scores", out / "parts.npy"
    shown = regard(
        "job", "evaluate", collection / "run", "--split", "dev", "--out", out / "job", "--json", parts, *saved, *more
    )
    assert shown.code == 0, shown
    assert parts.read_text() == one.read_text()
    assert (out / "parts.npy").read_bytes() == (out / "one.npy").read_bytes()
    assert (out / "parts.image_of_text.npy").read_bytes() == (out / "one.image_of_text.npy").read_bytes()


def check_index(collection, out, *more):
    regard("index", collection / "run", collection / "data", "--out", out / "one")
    shown = regard("job", "index", collection / "run", collection / "data", "--out", out / "parts", *more)
    assert shown.out.startswith("24 added, 0 unchanged"), shown
    asked = ["w1 near w2", "w5 w6"]
    answers = [regard("search", out / name, *asked, "--k", 24).out for name in ("one", "parts")]
    assert answers[0].count("\n") > 40
    assert answers[1] == answers[0]
    assert regard("index", "verify", out / "parts").code == 0


def check_encodings(collection, out, *more):
    run = TrainedRun(collection / "run")
    shown = regard("job", "encode", collection / "run", "--split", "dev", "--out", out / "encodings", *more)
    assert shown.code == 0, shown
    with torch.no_grad():
        wanted = encode(run.model, run.open_split("dev"))
    for side, want in zip(("images", "texts"), wanted, strict=True):
        found = type(want).load(out / "encodings" / f"dev_{side}.safetensors", run.fingerprint)
        assert {name: tensor.tolist() for name, tensor in found.tensors().items()} == {
            name: tensor.tolist() for name, tensor in want.tensors().items()
        }


@pytest.fixture
def small_parts(monkeypatch):
    """Several parts of 24 sentences, in this process; on one machine, and in the job."""
    monkeypatch.setattr("regard.evaluation.evaluate.AT_ONCE", 5)


@pytest.mark.parametrize("check", [check_metrics, check_index, check_encodings])
def test_what_is_computed_in_parts_equals_what_is_computed_at_once(check, collection, tmp_path, small_parts):
    check(collection, tmp_path)
    assert ", done" in regard("job", "status", next(tmp_path.rglob("job.json")).parents[1]).out


@pytest.mark.slow
def test_a_job_that_is_stopped_continues(tmp_path):
    photos, out = draw(tmp_path / "photos", 400, (100, 100)), tmp_path / "data"
    arguments = ("job", "extract", photos, "--out", out, "--regions", 40, "--part", 128)
    job = JobFolder(out)
    code, error = interrupted(lambda: len(job.finished()) >= 1, *arguments)
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("regard: Stopped. What was extracted is kept in")
    status = job.status()
    assert 1 <= status.finished < status.parts == 4
    assert status.state == "stopped"
    assert ", stopped" in regard("job", "status", out).out
    first = {path.name: path.stat().st_mtime_ns for path in (out / "photographs").glob("*.npy")}
    assert regard(*arguments).code == 0
    times = {path.name: path.stat().st_mtime_ns for path in (out / "photographs").glob("*.npy")}
    assert first.items() <= times.items()  # what was finished was not done again
    regard("extract", photos, "--out", tmp_path / "one", "--regions", 40)
    assert splits(out) == splits(tmp_path / "one")


def test_another_job_in_the_same_folder_is_refused(collection, tmp_path):
    job = "job", "evaluate", collection / "run", "--out", tmp_path / "job"
    assert regard(*job, "--split", "dev").code == 0
    message = refused(*job, "--split", "train")
    assert "is of another job (split dev, not train): give another --out, or remove" in message
    message = refused("job", "encode", collection / "run", "--split", "dev", "--out", tmp_path / "job")
    assert "is of another job (kind evaluate, not encode)" in message
    regard("index", collection / "run", collection / "data", "--out", tmp_path / "index")
    assert "is an index already" in refused(
        "job", "index", collection / "run", collection / "data", "--out", tmp_path / "index"
    )


def test_bad_input_is_one_line(collection, tmp_path):
    assert "contains no job: expected the --out of" in refused("job", "status", tmp_path)
    assert "contains no job" in refused("job", "cancel", tmp_path / "gone")
    job = "job", "extract", collection / "photos", "--out", tmp_path / "data"
    assert "expected auto, or an address such as" in refused(*job, "--ray", "somewhere")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f"--ray 127.0.0.1:{port}: nothing answers there" in refused(*job, "--ray", f"127.0.0.1:{port}")
    assert "expected numbers above 0" in refused(*job, "--part", 0)
    assert not (tmp_path / "data").exists()
    photographs = "job", "index", collection / "run", collection / "photos", "--out", tmp_path / "index"
    assert "is not a data folder: `regard job extract" in refused(*photographs)


def square(argument: int, out: Path, number: int, is_stopped: object) -> None:
    """A part: writes the square of its argument."""
    if argument < 0:
        raise InputError(f"{argument} is below 0.")
    out.write_text(str(argument**2))


def test_a_part_that_is_refused_ends_the_job_and_what_is_finished_is_kept(tmp_path):
    job = JobFolder(tmp_path)
    with job.locked():
        job.start("squares", {}, ["2", "3", "-1"], 3)
        with pytest.raises(InputError, match="-1 is below 0"):
            run_parts(job, square, [2, 3, -1], Machines(), lambda: False)
        assert job.finished() == {0, 1}
        job.part(0).write_text("kept")
        seen: list[tuple[int, int]] = []
        run_parts(job, square, [2, 3, 1], Machines(), lambda: False, lambda *counts: seen.append(counts))
        assert seen == [(2, 3), (3, 3)]
        assert [job.part(number).read_text() for number in range(3)] == ["kept", "9", "1"]
        assert job.status().state == "running"
        assert job.cancel()
        with pytest.raises(Stopped, match=r"Cancelled\. What is finished is kept"):
            run_parts(job, square, [2, 3, 1], Machines(), lambda: False)
        with pytest.raises(InputError, match="Another process runs the job"), JobFolder(tmp_path).locked():
            pass
    assert job.status().state == "stopped"
    with job.locked():
        assert not job.is_cancelled()  # it was of the earlier run
        job.start("squares", {}, ["2"], 1, renewable=True)
        assert job.finished() == set()
    (tmp_path / "job" / "job.json").write_text("[]")
    with pytest.raises(InputError, match=r"job\.json cannot be read"):
        job.status()


# On three machines ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Three raylets, on loopback addresses."""
    pytest.importorskip("ray", reason="the extra regard[scale] is not installed")
    # With its default niceness, a worker starves beside other programs.
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), *sys.path]))  # of the workers
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args={**node, "node_ip_address": "127.0.0.2"})
        try:
            found.others = [found.add_node(**node, node_ip_address=f"127.0.0.{place}") for place in (3, 4)]
            yield found
        finally:
            found.shutdown()


def processes(name: str, parent: int | None = None) -> list[str]:
    """The command lines with `name` of processes of this machine, or of those that `parent` started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            own = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found += [line] if name in line and parent in (own, None) else []
    return found


def ray_processes() -> list[str]:
    """What a job with Ray has left."""
    return [*processes("regard.jobs.ray_driver"), *processes("ray::do_payload")]


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_metrics, check_index, check_encodings])
def test_a_cluster_computes_what_one_machine_computes(check, collection, tmp_path, small_parts, cluster):
    check(collection, tmp_path, "--ray", cluster.address)
    assert ray_processes() == []


@pytest.mark.slow
def test_bad_input_in_a_part_ends_a_job_of_a_cluster(tmp_path, cluster):
    data = made.folder(tmp_path / "data")
    made.run(tmp_path / "run", data)
    features = np.load(data / "dev_ims.npy")
    features[3] = np.nan
    np.save(data / "dev_ims.npy", features)
    message = refused(
        "job", "evaluate", tmp_path / "run", "--split", "dev", "--out", tmp_path / "job", "--ray", cluster.address
    )
    assert "the features of image 3 (dev3) contain NaN" in message
    assert ray_processes() == []


@pytest.mark.slow
def test_what_is_not_a_ray_cluster_is_one_line(collection, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra regard[scale] is not installed")
    monkeypatch.setattr(running, "CONNECT", 8.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        message = refused(
            "job", "evaluate", collection / "run", "--split", "dev", "--out", tmp_path / "job", "--ray", address
        )
    assert message.startswith(f"--ray {address}: what answers there is not a Ray cluster")
    assert ray_processes() == []


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "regard", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(is_true) -> None:
    until = time.monotonic() + WAIT
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_that_is_cancelled_continues_after_a_node_is_killed(tmp_path, cluster):
    """Every photograph is there once, and the splits are those of one machine."""
    photos, out = draw(tmp_path / "photos", 1400, (100, 100)), tmp_path / "data"
    arguments = ("job", "extract", photos, "--out", out, "--regions", 60, "--part", 128, "--ray", cluster.address)
    job = JobFolder(out)
    process = start(*arguments)
    wait_until(lambda: job.folder.is_dir() and job.finished())
    assert job.status().state == "running"
    assert "will stop in a moment" in regard("job", "cancel", out).out
    shown, error = process.communicate(timeout=WAIT)
    assert (process.returncode, shown) == (2, "")
    assert error.startswith("regard: Cancelled. What is finished is kept in")
    assert error.count("\n") == 1
    finished = job.finished()
    assert 0 < len(finished) < 11
    assert regard("job", "status", out).out.startswith(f"extract: {len(finished)} of 11 parts finished, stopped")

    node = cluster.others.pop()
    raylet = node.all_processes["raylet"][0].process.pid
    process = start(*arguments)

    def is_at_work() -> bool:
        return len(job.finished()) > len(finished) and bool(processes("ray::do_payload", raylet))

    wait_until(is_at_work)
    cluster.remove_node(node, allow_graceful=False)
    assert len(job.finished()) < 11
    shown, error = process.communicate(timeout=WAIT)
    assert (process.returncode, error) == (0, "")
    assert "test   1,399 photographs" in shown
    regard("extract", photos, "--out", tmp_path / "one", "--regions", 60)
    assert splits(out) == splits(tmp_path / "one")
    rows = np.load(out / "test_rows.npy")
    assert len(set(rows.tolist())) == len(rows) == 1399
    assert json.loads((out / "job" / "result.json").read_text())["splits"] == {"test": [1399, 0]}
    assert ray_processes() == []


@pytest.mark.slow
def test_ctrl_c_ends_the_tasks_of_a_cluster(tmp_path, cluster):
    photos, out = draw(tmp_path / "photos", 1400, (100, 100)), tmp_path / "data"
    arguments = ("job", "extract", photos, "--out", out, "--regions", 60, "--part", 128, "--ray", cluster.address)
    job = JobFolder(out)
    code, error = interrupted(lambda: job.folder.is_dir() and job.finished(), *arguments, by=signal.SIGTERM)
    assert (code, error.count("\n")) == (2, 1)
    wait_until(lambda: not ray_processes())
    before = len(job.finished())
    time.sleep(1)
    assert len(job.finished()) == before
