"""Several processes train as one: the same losses, gradients and weights, in float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import made
import rank_trainings

EXACT = {"rtol": 1e-7, "atol": 1e-9}  # Adam divides by the size of a gradient, and so enlarges what rounding left


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("ranks") / "data")


def trained(data, out, processes):
    out.mkdir()
    script = Path(rank_trainings.__file__)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*command, str(script), str(data), str(out)], capture_output=True, text=True, timeout=900, env=environment
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    return trained(data, tmp_path_factory.mktemp("alone") / "runs", 1)


def steps_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "step"]


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
