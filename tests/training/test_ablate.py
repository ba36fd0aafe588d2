"""Ablations end to end: rows that are models, trained, resumed, shared between machines, tabulated."""

import json
import shutil

import numpy as np
import pytest
from rich.console import Console

import made
from regard import cli
from regard.data import Split
from regard.files import InputError, Stopped
from regard.models import MODELS
from regard.training import ablate
from regard.training.recipe import Recipe
from regard.training.weights import build_model
from regard.words import build_tokenizer

SMALL = ["scan.dim=8", *made.SMALL, *made.PLAIN, "train.epochs=1"]
ROWS = ("whole", "i2t-mean")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("ablate") / "data")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablate") / "out"
    ablate.train_rows("scan-f8k", ablate.select_rows("scan", ROWS), data, out, SMALL, "cpu", Console(quiet=True))
    return out


@pytest.mark.parametrize("model", MODELS)
def test_every_row_is_a_model_of_its_own(model, data):
    split = Split.open(data, "train")
    tokenizer = build_tokenizer(made.recipe().words, split.captions)
    rows, seen = ablate.rows_of(model), []
    assert rows["whole"] == []
    for name, settings in rows.items():
        recipe = Recipe.read(f"{model.replace('_', '-')}-f8k", [*settings, f"{model}.dim=16"])
        build_model(recipe, split.feature_dim, tokenizer)
        told = recipe.options, recipe.train
        assert told not in seen, f"row {name} of {model} is another row again"
        seen.append(told)


def test_rows_are_chosen_by_name_and_dealt_to_machines():
    every = list(ablate.rows_of("scan"))
    assert list(ablate.select_rows("scan")) == every
    dealt = [list(ablate.select_rows("scan", part=f"{number}/3")) for number in (1, 2, 3)]
    assert sorted(name for names in dealt for name in names) == sorted(every)
    assert dealt[1] == every[1::3]
    assert list(ablate.select_rows("scan", ROWS)) == list(ROWS)
    with pytest.raises(InputError, match=r"scan has no ablation row 'i2t-men'\. Did you mean 'i2t-mean'\?"):
        ablate.select_rows("scan", ["i2t-men"])
    for part in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(InputError, match=f"--part '{part}' does not have the form 2/4"):
            ablate.select_rows("scan", part=part)


def test_a_table_compares_each_row_with_the_whole(data, trained):
    found = ablate.measure_rows(ablate.rows_of("scan"), data, trained, "dev")
    assert [row.name for row in found] == list(ROWS)
    whole, other = found
    assert whole.against is None
    assert other.against.rsum == pytest.approx(other.recalls.rsum - whole.recalls.rsum)
    assert other.settings == ("scan.direction=i2t", "scan.temperature=4.0")
    assert whole.rsum.low <= whole.recalls.rsum <= whole.rsum.high
    lines = ablate.table(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split("|")[1].strip() == "i2t-mean"
    assert f"{other.against.rsum:+.1f}" in lines[3]


def test_cached_scores_are_of_these_weights_and_data(data, trained, tmp_path):
    run, other = shutil.copytree(trained / "whole", tmp_path / "whole"), shutil.copytree(data, tmp_path / "other")
    before, kept = ablate.ranks_of([run], data, "dev")[0], run / "dev_scores.safetensors"

    def ranks(folder=data):
        """Whether the ranks came from the cache, and the ranks."""
        stamp = kept.stat().st_mtime_ns
        found = ablate.ranks_of([run], folder, "dev")[0]
        return kept.stat().st_mtime_ns == stamp, found.i2t.tolist()

    assert ranks() == (True, before.i2t.tolist())
    np.save(other / "dev_ims.npy", np.load(other / "dev_ims.npy")[::-1])
    assert ranks(other)[1] != before.i2t.tolist()  # other features, from the same folder layout
    assert ranks() == (False, before.i2t.tolist())
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    assert ranks() == (False, before.i2t.tolist())
    shutil.copy(trained / "i2t-mean" / "model.safetensors", run)  # older than the cache
    assert not ranks()[0]


def test_two_runs_together_are_the_mean_of_their_scores(data, trained):
    from regard.evaluation.evaluate import scores_of
    from regard.metrics import galleries
    from regard.training.trained_run import TrainedRun, load

    runs = [trained / name for name in ROWS]
    split = TrainedRun(runs[0]).open_split("dev", data)
    scores = sum(scores_of(load(run), split) for run in runs) / len(runs)
    want = galleries(scores.numpy(), split.image_of_text)
    found = ablate.ranks_of(runs, data, "dev")
    assert (found[0].t2i == want[0].t2i).all()


def test_what_is_trained_is_not_trained_again_and_another_run_is_refused(data, trained, capsys):
    weights = trained / "whole" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    ablate.train_rows("scan-f8k", ablate.select_rows("scan", ROWS), data, trained, SMALL, "cpu", Console())
    assert "whole: already trained" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == stamp
    other = [*SMALL, "train.seed=5"]
    with pytest.raises(InputError, match=r"whole was started with other settings: now train\.seed = 5 \(then 0\)"):
        ablate.train_rows(
            "scan-f8k", ablate.select_rows("scan", ["whole"]), data, trained, other, "cpu", Console(quiet=True)
        )


def test_a_stop_says_that_the_same_command_goes_on(data, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise Stopped("Stopped at step 3. Run the same command with --resume to continue.")

    monkeypatch.setattr(ablate, "train", stop)
    with pytest.raises(Stopped, match=r"Stopped in row whole\. Run the same command to continue\."):
        ablate.train_rows("scan-f8k", {"whole": []}, data, tmp_path, SMALL, "cpu", Console(quiet=True))


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["regard", "ablate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_the_command(data, trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    sets = [part for setting in SMALL for part in ("--set", setting)]
    where = ("--data", data, "--out", out, "--split", "dev")
    rows = ("--rows", "whole", "--rows", "i2t-mean")
    assert run(monkeypatch, "scan-f8k", *where, *sets, *rows, "--json", tmp_path / "table.json") == 0
    printed = capsys.readouterr().out
    assert "i2t-mean: already trained" in printed
    assert (out / "ablation.md").read_text().strip() in printed
    assert (out / "ablation.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    told = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in told["rows"]] == list(ROWS)
    assert told["rows"] == json.loads((out / "ablation.json").read_text())

    assert run(monkeypatch, "scan-f8k", "--list", "--part", "2/3") == 2
    assert "--part divides the training" in capsys.readouterr().err
    assert run(monkeypatch, "scan-f8k", "--list") == 0
    assert "i2t-mean            scan.direction=i2t scan.temperature=4.0" in capsys.readouterr().out
    assert run(monkeypatch, "scan-f8k") == 2
    assert "regard ablate requires --data and --out" in capsys.readouterr().err
    assert run(monkeypatch, "scan-f8k", *where[:2], "--out", tmp_path / "none", "--only-measure") == 2
    assert "has no finished run of scan" in capsys.readouterr().err
