"""`regard evaluate`, `regard metrics` and `regard twins`."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import refused, regard, spoil, training


def test_evaluate_measures_a_run_and_metrics_agree_on_its_scores(world, tmp_path):
    told = regard(
        *("evaluate", world / "cmsei", "--data", world / "data"),
        *("--json", tmp_path / "new" / "run.json", "--save-scores", tmp_path / "scores.npy"),
    )
    assert told.code == 0
    assert told.out.startswith(f"{world}/cmsei on {world}/data test: 10 images, 50 texts\n")
    found = json.loads((tmp_path / "new" / "run.json").read_text())
    assert found.keys() == {"i2t", "t2i", "rsum"}
    for way in ("i2t", "t2i"):
        assert found[way].keys() == {"r1", "r5", "r10", "medr", "meanr"}
    assert found["rsum"] == pytest.approx(sum(found[way][k] for way in ("i2t", "t2i") for k in ("r1", "r5", "r10")))
    assert f"rSum{found['rsum']:17.1f}" in told.out
    assert regard("evaluate", world / "cmsei").out == told.out  # --data is where it was trained, unless one is named
    assert np.load(tmp_path / "scores.npy").dtype == np.float32

    pair = (tmp_path / "scores.npy", tmp_path / "scores.image_of_text.npy")
    told = regard("metrics", *pair, "--json", tmp_path / "metrics.json")
    assert told.code == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert {key: again[key] for key in found} == found
    assert "95 % intervals" in told.out


def test_metrics_compares_two_matrices(world, tmp_path):
    for name in ("cmsei", "scan"):
        regard("evaluate", world / name, "--data", world / "data", "--save-scores", tmp_path / f"{name}.npy")
    told = regard(
        *("metrics", tmp_path / "cmsei.npy", tmp_path / "cmsei.image_of_text.npy"),
        *("--against", tmp_path / "scan.npy", "--json", tmp_path / "both.json"),
    )
    assert told.code == 0
    found = json.loads((tmp_path / "both.json").read_text())
    assert found["difference"]["rsum"] == pytest.approx(found["rsum"] - found["against"]["rsum"])
    assert re.search(r"rSum differs by [+-]\d+\.\d \(95 % .*, p = \d\.\d+\)", told.out)


def test_several_runs_are_the_mean_of_their_matrices(world, tmp_path):
    for runs in (("cmsei",), ("scan",), ("cmsei", "scan")):
        paths = [world / run for run in runs]
        out = tmp_path / f"{'-'.join(runs)}.npy"
        told = regard("evaluate", *paths, "--data", world / "data", "--save-scores", out)
        assert told.out.startswith(f"{' + '.join(map(str, paths))} on ")
    cmsei, scan, both = (np.load(tmp_path / f"{name}.npy") for name in ("cmsei", "scan", "cmsei-scan"))
    np.testing.assert_allclose(both, (cmsei + scan) / 2, atol=1e-6)
    assert not np.allclose(cmsei, scan)


def test_narrow_numbers_are_used_where_asked(world, tmp_path):
    scores = {}
    for name, asked in {"exact": (), "narrow": ("--precision", "bfloat16", "--encodings", "float16")}.items():
        told = regard("evaluate", world / "cmsei", *asked, "--save-scores", tmp_path / f"{name}.npy")
        assert told.code == 0, told.err
        scores[name] = np.load(tmp_path / f"{name}.npy")
    assert not np.array_equal(scores["narrow"], scores["exact"])
    np.testing.assert_allclose(scores["narrow"], scores["exact"], atol=2e-2)


def test_five_folds_are_labelled_as_the_mean_of_themselves(world, tmp_path):
    told = regard(
        *("evaluate", world / "scan", "--data", world / "data", "--protocol", "5fold", "--json", tmp_path / "5.json")
    )
    assert told.code == 0
    folds = [float(value) for value in re.search(r"mean of the folds' (.*)", told.out)[1].split()]
    assert len(folds) == 5
    assert json.loads((tmp_path / "5.json").read_text())["rsum"] == pytest.approx(np.mean(folds), abs=0.06)


def test_twins_asks_each_run_alone(world, tmp_path):
    told = regard("twins", world / "cmsei", world / "scan", "--data", world / "data", "--json", tmp_path / "twins.json")
    assert told.code == 0
    found = json.loads((tmp_path / "twins.json").read_text())
    assert list(found) == [str(world / "cmsei"), str(world / "scan")]
    for line, (run, answers) in zip(told.out.splitlines(), found.items(), strict=True):
        assert line.startswith(f"{run}: ")
        for kind, value in answers.items():
            assert f"{kind} {value:5.1f}" in line


def test_a_shortlist_is_measured_beside_all_pairs(world, tmp_path):
    data, run = world / "data", world / "cmsei"
    told = regard("evaluate", run, "--data", data, "--shortlist", 3, "--json", tmp_path / "found.json")
    assert told.code == 0, told.err
    assert "all pairs" in told.out
    assert "shortlist of 3" in told.out
    assert json.loads((tmp_path / "found.json").read_text())["count"] == 3
    assert regard("evaluate", run, "--data", data, "--shortlist", "auto").code == 0
    assert "Expected --shortlist auto or a whole number" in refused("evaluate", run, "--data", data, "--shortlist", "0")
    assert "one run" in refused("evaluate", run, run, "--data", data, "--shortlist", "3")
    assert "float32" in refused("evaluate", run, "--data", data, "--shortlist", "3", "--encodings", "float16")
    scores = tmp_path / "scores.npy"
    assert "does not compute the whole matrix" in refused(
        "evaluate", run, "--data", data, "--shortlist", "3", "--save-scores", scores
    )
    assert not scores.exists()


def test_nan_scores_are_refused(world, data, tmp_path):
    run = Path(shutil.copytree(world / "cmsei", tmp_path / "run"))
    weights = load_file(run / "model.safetensors")
    weights["project.bias"][:] = torch.nan
    save_file(
        weights, run / "model.safetensors", {"model": "cmsei", "feature_dim": str(weights["project.weight"].shape[1])}
    )
    scores = tmp_path / "scores.npy"
    assert "500 scores are NaN, the first at image 0, text 0" in refused(
        "evaluate", run, "--data", data, "--save-scores", scores
    )
    assert "500 scores are NaN" in refused("twins", run, "--data", data)
    assert not scores.exists()
    np.save(scores, np.full((10, 50), np.nan))
    np.save(tmp_path / "owner.npy", np.arange(50) // 5)
    assert f"{scores}: 500 scores are NaN" in refused("metrics", scores, tmp_path / "owner.npy")


def test_data_without_twins_says_what_has_them(world, data):
    for split in ("train", "test"):
        (data / f"{split}_twins.npz").unlink()
    assert "test_twins.npz is not there: only the made world" in refused("twins", world / "cmsei", "--data", data)
    assert "train_twins.npz is not there: only the made world" in refused(*training(data))
    assert regard(*training(data, "--set", "train.twins=false")).code == 0


def test_other_images_make_no_ensemble(world, data):
    """Rows that repeat without ids to say so: how many sentences an image has is the recipe's to say."""
    for name in ("ims", "boxes", "labels", "num_regions", "sizes"):
        spoil(data / f"test_{name}.npy", lambda array: array.repeat(5, 0))
    for name in ("ids.txt", "image_of_text.npy", "relations.npz"):
        (data / f"test_{name}").unlink()
    runs = []
    for count in (1, 5):
        runs.append(Path(shutil.copytree(world / "scan", data.parent / f"scan{count}")))
        recipe = runs[-1] / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("[data]\n", f"[data]\ncaptions_per_image = {count}\n"))
        assert regard("evaluate", runs[-1], "--data", data).code == 0
    assert refused("evaluate", *runs, "--data", data) == (
        f"{runs[1]} and {runs[0]} read different images or texts from {data} test: an ensemble requires the same data "
        f"settings."
    )


def test_weights_of_another_model_or_of_none(world, tmp_path):
    run = Path(shutil.copytree(world / "cmsei", tmp_path / "run"))
    shutil.copy(world / "scan" / "model.safetensors", run)
    assert refused("evaluate", run, "--data", world / "data") == (
        f"{run}/model.safetensors holds scan weights; the recipe beside it describes cmsei."
    )
    (run / "model.safetensors").unlink()
    assert "has no model.safetensors yet" in refused("evaluate", run, "--data", world / "data")
