"""Several processes train as one: the same losses, gradients and weights, in float64."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import made
import rank_trainings
from commands import launched, launcher, rank_environment

EXACT = {"rtol": 1e-7, "atol": 1e-9}  # Adam divides by the size of a gradient, and so enlarges what rounding left


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Its sentences have parts that can be exchanged."""
    folder = made.folder(tmp_path_factory.mktemp("ranks") / "data")
    for path in folder.glob("*_caps.txt"):
        path.write_text(path.read_text().replace(" near ", " above "))
    return folder


def trained(data, out, processes):
    out.mkdir()
    done = launched(processes, rank_trainings.__file__, data, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    return trained(data, tmp_path_factory.mktemp("alone") / "runs", 1)


def steps_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "step"]


def process_of(rank, out):
    """The number of the process that trains into `out` with this rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            names = (folder / "environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in names and str(out).encode() in (folder / "cmdline").read_bytes():
                return int(folder.name)
    raise AssertionError(f"no process has rank {rank}")


def weights_of(run):
    return torch.load(run / "last.pt", weights_only=True)["model"]


def check_equal(alone, several, names):
    for name in names:
        for one, other in zip(steps_of(alone / name), steps_of(several / name), strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-7), f"{name}, step {one['step']}"
            if "grad_norm" in one:
                assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-6), f"{name}, step {one['step']}"
        assert len(steps_of(alone / name)) == 12
        weights = weights_of(several / name)
        for key, weight in weights_of(alone / name).items():
            torch.testing.assert_close(
                weights[key], weight, **EXACT, msg=lambda text, key=key, name=name: f"{name} {key}: {text}"
            )


def check_pairs(several, processes):
    """Each process scores its texts with all images: the parts differ by the texts that do not divide evenly."""
    counts = [json.loads((several / f"pairs-{rank}.json").read_text()) for rank in range(processes)]
    for name in set(rank_trainings.VARIANTS) - {"scan-shortlist", "scan-rank", "hire-swapped"}:
        parts = [count[name] for count in counts]
        whole = sum(parts)
        sizes = [len(part) for part in torch.arange(7).tensor_split(processes)]
        assert parts == [whole * size // 7 for size in sizes], name


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_train_as_one(data, alone, tmp_path, processes):
    several = trained(data, tmp_path / "runs", processes)
    check_equal(alone, several, set(rank_trainings.VARIANTS) - {"scan-rank"})
    check_pairs(several, processes)
    with pytest.raises(AssertionError):  # negatives of one's own part only are another loss
        check_equal(alone, several, ["scan-rank"])


def outcome(tmp_path, *lines):
    """Run a shell script in each of two processes, whose number is $RANK, and return what they printed as errors."""
    (tmp_path / "run.sh").write_text("\n".join(lines))
    done = launched(2, "--no-python", "bash", tmp_path / "run.sh")
    return done, [line for line in done.stderr.splitlines() if line.startswith("regard: ")]


@pytest.mark.slow
def test_processes_that_differ_are_refused_once(data, tmp_path):
    other = made.folder(tmp_path / "other", seed=1)
    train = f"{sys.executable} -m regard train scan-f8k --device cpu --out " + str(tmp_path / "run")
    code = f"; echo $? > {tmp_path}/code-$RANK"
    for command, message in (
        (f"{train} --data {data} --set train.seed=$RANK", "has another recipe than process 0: seed = 1, not seed = 0."),
        (f"{train} --data $([ $RANK = 0 ] && echo {data} || echo {other})", "Process 1 has another train split than"),
        (f"{train} --data {data}$([ $RANK = 0 ] || echo x)", f"Process 1 of 2: {data}x is not a folder"),
        (f"{train} --data {data} --set train.batch_size=1", "A batch has 1 sentences"),
    ):
        _, errors = outcome(tmp_path, command + code)
        assert len(errors) == 1
        assert message in errors[0]
        assert [(tmp_path / f"code-{rank}").read_text() for rank in range(2)] == ["2\n", "2\n"]
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_another_number_of_processes_continues(data, tmp_path):
    out = tmp_path / "run"
    train = f"{sys.executable} -m regard train scan-f8k --device cpu --data {data} --out {out}"
    settings = [*made.SMALL, "scan.dim=16", "train.precision=64-true", "train.epochs=40", "words.dropout=0.2"]
    settings += ["train.save_minutes=0"]
    train += "".join(f" --set {setting}" for setting in settings)
    dies = f"while ! [ -s {out}/last.pt ]; do sleep 0.1; done; kill -9 $PID"
    done, errors = outcome(
        tmp_path, f"{train} & PID=$!", f"[ $RANK = 1 ] && ({dies})", "wait $PID; code=$?", "sleep 3; exit $code"
    )
    assert done.returncode != 0
    assert any("Another process of this job ended or cannot be reached. The last checkpoint in" in it for it in errors)
    step = torch.load(out / "last.pt", weights_only=True)["position"]
    assert (step["epoch"], step["batch"]) < (40, 0)
    again = subprocess.run(["bash", "-c", f"{train} --resume"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    elsewhere = train.replace(str(out), f"{out}-whole")
    whole = subprocess.run(["bash", "-c", elsewhere], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    for key, weight in weights_of(tmp_path / "run-whole").items():
        torch.testing.assert_close(weights_of(out)[key], weight, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_a_restart_by_torchrun_continues_by_itself(data, tmp_path):
    out, whole = tmp_path / "run", tmp_path / "whole"
    settings = [*made.SMALL, "scan.dim=16", "train.precision=64-true", "train.epochs=8", "train.save_minutes=0"]
    train = ["-m", "regard", "train", "scan-f8k", "--device", "cpu", "--data", str(data)]
    train += [word for setting in settings for word in ("--set", setting)]
    with subprocess.Popen(
        [*launcher(2), "--max-restarts", "1", *train, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=rank_environment(),
    ) as started:
        while not (out / "last.pt").exists():
            assert started.poll() is None, started.communicate()
            time.sleep(0.05)
        os.kill(process_of(1, out), signal.SIGKILL)
        printed, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    assert "Resumed after epoch" in printed
    assert launched(2, *train, "--out", whole).returncode == 0
    for key, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(out)[key], weight, rtol=1e-6, atol=1e-8)
