"""Several processes evaluate as one, to the last bit."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore

import made
import rank_evaluations
from commands import launched
from regard import evaluate
from regard.models import MODELS
from regard.training.ensemble_folder import combine
from regard.training.trained_run import TrainedRun


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("divided") / "data")


@pytest.fixture(scope="module")
def runs(data):
    folder = data.parent / "runs"
    for name in MODELS.keys() - {"zero_shot"}:
        made.run(folder / name, data, f"{name.replace('_', '-')}-f8k")
    combine([TrainedRun(folder / "scan"), TrainedRun(folder / "vse_infinity")], data, folder / "ensemble")
    return folder


@pytest.mark.slow
def test_processes_score_as_one(runs, tmp_path):
    for processes in (1, 2, 4):
        out = tmp_path / str(processes)
        out.mkdir()
        done = launched(processes, Path(rank_evaluations.__file__), runs, out)
        assert done.returncode == 0, done.stderr
        for run in runs.iterdir():
            for name in (run.name, f"{run.name}-cascade"):
                alone = np.load(tmp_path / "1" / f"{name}-0.npy")
                for rank in range(processes):
                    np.testing.assert_array_equal(np.load(out / f"{name}-{rank}.npy"), alone, err_msg=name)


@pytest.mark.slow
def test_verbs_print_and_write_once(runs, data, tmp_path):
    scan, both = runs / "scan", [runs / "cmsei", runs / "ensemble"]
    for arguments in (
        ["evaluate", *both, "--split", "dev", "--by", "words", "--against", scan, "--save-scores", "scores.npy"],
        ["evaluate", scan, "--split", "dev", "--protocol", "full", "--shortlist", "auto"],
        ["twins", *both, "--data", data, "--split", "dev"],
        ["probe", scan, "--split", "dev", "--png", "probe.png"],
    ):
        printed, written = [], []
        for processes in (1, 2):
            folder = tmp_path / f"{arguments[0]}-{len(arguments)}-{processes}"
            folder.mkdir()
            places = [folder / each if str(each).endswith((".npy", ".png")) else each for each in arguments]
            done = launched(processes, "-m", "regard", *places, "--json", folder / "found.json")
            assert done.returncode == 0, done.stderr
            printed.append([line for line in done.stdout.splitlines() if "Scored exactly" not in line])
            found = json.loads((folder / "found.json").read_text())
            written.append({key: value for key, value in found.items() if "seconds" not in key and key != "speedup"})
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".npy"}
            written[-1] |= files | {"files": sorted(path.name for path in folder.iterdir())}
        assert printed[0] == printed[1]
        assert written[0] == written[1]


@pytest.mark.slow
def test_bad_input_is_refused_once(runs, data, tmp_path):
    other = made.folder(tmp_path / "other", seed=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "recipe.toml").write_bytes((runs / "scan" / "recipe.toml").read_bytes())
    for line, message in (
        (f"evaluate {runs}/scan --split $([ $RANK = 0 ] && echo dev || echo train)", "has another command than"),
        (f"evaluate {runs}/scan --data {data}$([ $RANK = 0 ] || echo x)", "has another command than process 0: data"),
        (f"evaluate {empty} --data {data} --split dev", f"{empty} has no model.safetensors yet"),
        (f"evaluate {runs}/scan --split nothing", "nothing_ims.npy is not there"),
        (f"evaluate {runs}/scan --device tpu", "--device 'tpu' is not known"),
        (f"index {runs}/scan {data} --out {tmp_path}/index", "`regard index` works in one: start it without torchrun"),
        (f"ln -sfn $([ $RANK = 0 ] && echo {data} || echo {other}) here-$RANK; cd here-$RANK; REGARD "
         f"evaluate {runs}/scan --data . --split dev", "Process 1 has another split than process 0"),
    ):  # fmt: skip
        command = line if "REGARD" in line else f"REGARD {line}"
        command = command.replace("REGARD", f"{sys.executable} -m regard")
        (tmp_path / "run.sh").write_text(f"cd {tmp_path}\n{command}\necho $? > {tmp_path}/code-$RANK\n")
        done = launched(2, "--no-python", "bash", tmp_path / "run.sh")
        errors = [line for line in done.stderr.splitlines() if line.startswith("regard: ")]
        assert len(errors) == 1, done.stderr
        assert message in errors[0]
        assert [(tmp_path / f"code-{rank}").read_text() for rank in range(2)] == ["2\n", "2\n"]
        assert not (tmp_path / "index").exists()


def test_a_group_of_a_program_does_not_divide(runs):
    """A program that trains in several processes may evaluate in its first one only."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        run = TrainedRun(runs / "scan")
        assert evaluate(run.model, run.open_split("dev")).rsum > 0
    finally:
        torch.distributed.destroy_process_group()
