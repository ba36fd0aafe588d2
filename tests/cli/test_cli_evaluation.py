"""`regard evaluate`, `regard metrics` and `regard twins`."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from commands import damage, refused, regard, training


def test_evaluate_measures_a_run_and_metrics_agree_on_its_scores(world, tmp_path):
    result = regard(
        *("evaluate", world / "cmsei", "--data", world / "data"),
        *("--json", tmp_path / "new" / "run.json", "--save-scores", tmp_path / "scores.npy"),
    )
    assert result.code == 0
    assert result.out.startswith(f"{world}/cmsei on {world}/data test: 10 images, 50 texts\n")
    found = json.loads((tmp_path / "new" / "run.json").read_text())
    assert found.keys() == {"i2t", "t2i", "rsum"}
    for way in ("i2t", "t2i"):
        assert found[way].keys() == {"r1", "r5", "r10", "medr", "meanr"}
    assert found["rsum"] == pytest.approx(sum(found[way][k] for way in ("i2t", "t2i") for k in ("r1", "r5", "r10")))
    assert f"rSum{found['rsum']:17.1f}" in result.out
    assert regard("evaluate", world / "cmsei").out == result.out  # --data is where it was trained, unless one is named
    assert np.load(tmp_path / "scores.npy").dtype == np.float32

    pair = (tmp_path / "scores.npy", tmp_path / "scores.image_of_text.npy")
    result = regard("metrics", *pair, "--json", tmp_path / "metrics.json")
    assert result.code == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert {key: again[key] for key in found} == found
    assert "95 % intervals" in result.out


def test_metrics_compares_two_matrices(world, tmp_path):
    for name in ("cmsei", "scan"):
        regard("evaluate", world / name, "--data", world / "data", "--save-scores", tmp_path / f"{name}.npy")
    result = regard(
        *("metrics", tmp_path / "cmsei.npy", tmp_path / "cmsei.image_of_text.npy"),
        *("--against", tmp_path / "scan.npy", "--json", tmp_path / "both.json"),
    )
    assert result.code == 0
    found = json.loads((tmp_path / "both.json").read_text())
    assert found["difference"]["rsum"] == pytest.approx(found["rsum"] - found["against"]["rsum"])
    assert re.search(r"rSum differs by [+-]\d+\.\d \(95 % .*, p = \d\.\d+\)", result.out)


def test_several_runs_are_the_mean_of_their_matrices(world, tmp_path):
    for runs in (("cmsei",), ("scan",), ("cmsei", "scan")):
        paths = [world / run for run in runs]
        out = tmp_path / f"{'-'.join(runs)}.npy"
        result = regard("evaluate", *paths, "--data", world / "data", "--save-scores", out)
        assert result.out.startswith(f"{' + '.join(map(str, paths))} on ")
    cmsei, scan, both = (np.load(tmp_path / f"{name}.npy") for name in ("cmsei", "scan", "cmsei-scan"))
    np.testing.assert_allclose(both, (cmsei + scan) / 2, atol=1e-6)
    assert not np.allclose(cmsei, scan)


def test_half_precision_is_used_when_requested(world, tmp_path):
    scores = {}
    for name, asked in {"exact": (), "half": ("--precision", "bfloat16", "--encodings", "float16")}.items():
        result = regard("evaluate", world / "cmsei", *asked, "--save-scores", tmp_path / f"{name}.npy")
        assert result.code == 0, result.err
        scores[name] = np.load(tmp_path / f"{name}.npy")
    assert not np.array_equal(scores["half"], scores["exact"])
    np.testing.assert_allclose(scores["half"], scores["exact"], atol=2e-2)


def test_five_folds_are_reported_as_their_mean(world, tmp_path):
    result = regard(
        *("evaluate", world / "scan", "--data", world / "data", "--protocol", "5fold", "--json", tmp_path / "5.json")
    )
    assert result.code == 0
    folds = [float(value) for value in re.search(r"mean over the folds (.*)", result.out)[1].split()]
    assert len(folds) == 5
    assert json.loads((tmp_path / "5.json").read_text())["rsum"] == pytest.approx(np.mean(folds), abs=0.06)


def test_twins_measures_each_run_separately(world, tmp_path):
    runs, out = (world / "cmsei", world / "scan"), tmp_path / "twins.json"
    result = regard("twins", *runs, "--data", world / "data", "--json", out)
    assert result.code == 0
    found = json.loads(out.read_text())
    assert list(found) == [str(run) for run in runs]
    for line, (run, answers) in zip(result.out.splitlines(), found.items(), strict=True):
        assert line.startswith(f"{run}: ")
        kinds = answers.keys() - {"ties", "half_credit"}
        assert answers["ties"].keys() == answers["half_credit"].keys() == kinds == {"relation", "attribute"}
        for kind in kinds:
            assert f"{kind} {answers[kind]:5.1f} ({answers['half_credit'][kind]:.1f})" in line


def test_twins_measures_a_table_of_pairs(world, tmp_path):
    ids = (world / "data" / "test_ids.txt").read_text().split()
    rows = [f"{name},a red dog chases a man,a red man chases a dog,swap" for name in ids]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption,negative,category", *rows, "bad"]))
    result = regard(
        *("twins", world / "cmsei", "--data", world / "data", "--pairs", tmp_path / "pairs.csv"),
        *("--json", tmp_path / "found.json"),
    )
    assert result.code == 0, result.err
    assert "1 rows of the table cannot be read" in result.out
    (found,) = json.loads((tmp_path / "found.json").read_text()).values()
    assert found["categories"]["swap"]["count"] == len(ids)
    assert f"swap{len(ids):12}" in result.out


def test_a_shortlist_is_compared_with_all_pairs(world, tmp_path):
    data, run = world / "data", world / "cmsei"
    result = regard("evaluate", run, "--data", data, "--shortlist", 3, "--json", tmp_path / "found.json")
    assert result.code == 0, result.err
    assert "all pairs" in result.out
    assert "shortlist of 3" in result.out
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
    weights["project.weight"][:] = 3e38  # finite, but sums of its products are infinite
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


def test_data_without_twins_is_refused(world, data):
    for split in ("train", "test"):
        (data / f"{split}_twins.npz").unlink()
    assert "test_twins.npz is not there: `regard data scenes`, `regard data spatial`" in refused(
        "twins", world / "cmsei", "--data", data
    )
    assert "train_twins.npz is not there: `regard data scenes`, `regard data spatial`" in refused(*training(data))
    assert regard(*training(data, "--set", "train.twins=false")).code == 0


def test_an_ensemble_of_different_texts_is_refused(world, data):
    """Images are repeated without ids, so captions_per_image of each recipe decides which image a text belongs to."""
    for name in ("ims", "boxes", "labels", "num_regions", "sizes"):
        damage(data / f"test_{name}.npy", lambda array: array.repeat(5, 0))
    for name in ("ids.txt", "image_of_text.npy", "relations.npz"):
        (data / f"test_{name}").unlink()
    runs = []
    for count in (1, 5):
        runs.append(Path(shutil.copytree(world / "scan", data.parent / f"scan{count}")))
        recipe = runs[-1] / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("[data]\n", f"[data]\ncaptions_per_image = {count}\n"))
        assert regard("evaluate", runs[-1], "--data", data).code == 0
    assert refused("evaluate", *runs, "--data", data) == (
        f"{runs[1]} and {runs[0]} read different images or texts from {data} test: an ensemble or a comparison "
        f"requires the same data settings."
    )


def test_weights_of_another_model_or_no_weights(world, tmp_path):
    run = Path(shutil.copytree(world / "cmsei", tmp_path / "run"))
    shutil.copy(world / "scan" / "model.safetensors", run)
    assert refused("evaluate", run, "--data", world / "data") == (
        f"{run}/model.safetensors contains scan weights, but recipe.toml beside it describes cmsei."
    )
    (run / "model.safetensors").unlink()
    assert "has no model.safetensors yet" in refused("evaluate", run, "--data", world / "data")


def test_precision_may_follow_the_hardware(world, monkeypatch, tmp_path):
    for units, precision in {"": "float32", "AMX instructions": "bfloat16"}.items():
        monkeypatch.setattr("regard.runtime.bfloat16_units", lambda device, units=units: units)
        for name in ("auto", precision):
            out = tmp_path / f"{name}-{precision}.npy"
            found = regard(*("evaluate", world / "cmsei", "--device", "cpu", "--precision", name, "--save-scores", out))
            assert found.code == 0, found.err
            assert (
                f"Precision: {precision} (this processor has {units or 'no bfloat16 instructions'})" in found.out
            ) == (name == "auto")
        auto, asked = (np.load(tmp_path / f"{name}-{precision}.npy") for name in ("auto", precision))
        assert np.array_equal(auto, asked)
    assert "tf32 requires a CUDA device" in refused(
        "evaluate", world / "cmsei", "--device", "cpu", "--precision", "tf32"
    )


def test_groups_of_sentences_have_recalls_of_their_own(world, tmp_path):
    captions = (world / "data" / "test_caps.txt").read_text().splitlines()
    ids = (world / "data" / "test_ids.txt").read_text().split()
    rows = [f"{ids[text // 5]}\t{caption}\tkind {text % 2}" for text, caption in enumerate(captions)]
    (tmp_path / "table.tsv").write_text("\n".join(["image\tsentence\tcategory", *rows]))
    result = regard(
        *("evaluate", world / "cmsei", "--by", "regions", "--by", "category", "--by-table", tmp_path / "table.tsv"),
        *("--against", world / "scan", "--json", tmp_path / "found.json"),
    )
    assert (result.code, result.err) == (0, "")
    found = json.loads((tmp_path / "found.json").read_text())
    whole = found["strata"]["regions"]["strata"][-1]
    assert whole["sum"] == pytest.approx(found["rsum"])
    assert whole["difference"]["rsum"] == pytest.approx(found["rsum"] - found["against"]["rsum"])
    assert whole["difference"]["p"] == pytest.approx(found["difference"]["p"])
    assert [each["texts"] for each in found["strata"]["category"]["strata"]] == [25, 25, 50]
    assert re.search(rf"From {world}/scan: rSum differs by [+-]\d+\.\d \(95 %", result.out)
    assert "by category" in result.out


def test_groups_that_cannot_be_made_are_refused(world, tmp_path):
    run, table = world / "scan", tmp_path / "table.csv"
    table.write_text("image,sentence,topic\nscene,a dog,home\n")
    assert "There are no strata 'category'" in refused("evaluate", run, "--by", "category")
    assert "requires --by COLUMN" in refused("evaluate", run, "--by", "words", "--by-table", table)
    assert "has no column 'category'" in refused("evaluate", run, "--by", "category", "--by-table", table)
    assert "--by requires the full protocol" in refused("evaluate", run, "--by", "words", "--protocol", "5fold")
    for other in (("--by", "words"), ("--by-table", "table.csv"), ("--relevance", "table.csv"), ("--against", run)):
        assert "cannot be used with --save-scores, --by" in refused("evaluate", run, *other, "--shortlist", 3)
    assert "is not a run" in refused("evaluate", run, "--against", tmp_path)
    result = regard("evaluate", run, "--against", world / "cmsei", "--protocol", "5fold", "--json", tmp_path / "5.json")
    found = json.loads((tmp_path / "5.json").read_text())
    assert found["difference"]["rsum"] == pytest.approx(found["rsum"] - found["against"]["rsum"])
    assert "rSum differs by" in result.out
