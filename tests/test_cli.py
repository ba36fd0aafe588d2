"""The command line end to end on a small made world; and one line, exit code 2 and nothing broken for bad input."""

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regard import __version__
from regard.cli import main
from regard.training.recipe import recipe_names

TINY = ("--set", "train.epochs=1", "--set", "train.log_every=1", "--set", "words.word_dim=8", "--set")


@dataclass
class Told:
    code: int
    out: str
    err: str


def regard(*arguments: object) -> Told:
    """What the command line says and returns."""
    before, sys.argv = sys.argv, ["regard", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return Told(end.value.code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """The one line that bad input gets."""
    told = regard(*arguments)
    assert told.code == 2, told
    assert re.fullmatch(r"regard: [^\n]+\n", told.err), told.err
    return told.err.removeprefix("regard: ").strip()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Scenes, and a run each of CMSEI and SCAN on them."""
    folder = tmp_path_factory.mktemp("cli")
    made = regard("data", "scenes", "--out", folder / "data", "--train", 24, "--dev", 8, "--test", 10, "--pictures", 2)
    assert (made.code, made.err) == (0, "")
    assert f"Wrote {folder}/data. Next: regard train cmsei-scenes" in made.out
    for name in ("cmsei", "scan"):
        trained = regard(
            *("train", f"{name}-scenes", "--data", folder / "data", "--out", folder / name, *TINY, f"{name}.dim=16")
        )
        assert (trained.code, trained.err) == (0, "")
        assert re.search(
            rf"{name}: 0\.0\d million trained parameters; 24 images, 120 sentences, 8 regions x", trained.out
        )
        assert "epoch   1  dev rSum" in trained.out
        assert f"Next: regard evaluate {folder}/{name} --data {folder}/data --split test" in trained.out
    return folder


@pytest.fixture
def data(world, tmp_path):
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(world / "data", tmp_path / "data"))


def training(data: Path, *more: str, recipe: str = "cmsei-scenes") -> tuple[object, ...]:
    return ("train", recipe, "--data", data, "--out", data.parent / "run", *TINY, "train.batch_size=24", *more)


# The verbs


def test_data_check_tells_and_its_exit_code_is_1_on_errors(data):
    told = regard("data", "check", data)
    assert told.code == 0
    assert re.search(r"train +24 +120 +8 +\d+ float16 +boxes, labels, relations", told.out)
    assert "0 errors" in told.out
    features = np.load(data / "train_ims.npy")
    features[3, 0, 0] = np.nan
    np.save(data / "train_ims.npy", features)
    told = regard("data", "check", data)
    assert (told.code, told.err) == (1, "")
    assert "train_ims.npy" in told.out
    assert "1 error" in told.out


def test_data_convert_writes_a_folder_that_scores_the_same(world, tmp_path):
    told = regard("data", "convert", world / "data", "--out", tmp_path / "compact")
    assert (told.code, told.out) == (0, f"Wrote {tmp_path}/compact. Next: regard data check {tmp_path}/compact\n")
    before, after = (
        regard("evaluate", world / "cmsei", "--data", folder).out.split("\n", 1)[1]
        for folder in (world / "data", tmp_path / "compact")
    )
    assert before == after


def test_data_relations_are_made_where_there_are_none(data):
    kept = (data / "test_relations.npz").read_bytes()
    for split in ("train", "dev"):
        (data / f"{split}_relations.npz").unlink()
    told = regard("data", "relations", data)
    assert told.code == 0
    assert re.fullmatch(
        r"train: \d\.\d\d relations a region, from boxes alone \(no scene-graph model\)\n"
        r"dev: \d\.\d\d relations a region, .*\n"
        rf"test: keeps {data}/test_relations\.npz\n",
        told.out,
    )
    assert (data / "test_relations.npz").read_bytes() == kept
    assert regard(*training(data)).code == 0


def test_sentences_are_parsed_once_and_then_kept(data):
    kept = (data / "test_text_relations.npz").read_bytes()
    for split in ("train", "dev"):
        (data / f"{split}_text_relations.npz").unlink()
    told = regard("data", "parse", data)
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(
        r"train: \d\.\d\d relations between words a sentence\n"
        r"dev: \d\.\d\d relations between words a sentence\n"
        rf"test: keeps {data}/test_text_relations\.npz\n",
        told.out,
    )
    assert (data / "test_text_relations.npz").read_bytes() == kept
    assert "no *_ims.npy" in refused("data", "parse", data.parent)


def test_a_sentence_is_taken_apart():
    told = regard("words", "parse", "A brown dog chases two men.", "[bold]")
    assert (told.code, told.err) == (0, "")
    said = told.out.splitlines()
    assert said[0] == "A brown dog chases two men."
    assert said[1] == "  tokens        a brown dog chases two men"
    assert said[2] == "  noun phrases  brown dog, two men"
    assert "dog: brown" in said[3]
    assert said[4] == "  relation      dog | chases | men"
    assert said[5] == "[bold]"  # no mark-up
    assert "Give at least one sentence" in refused("words", "parse")


def test_parses_are_written_and_drawn(tmp_path, monkeypatch):
    (tmp_path / "captions.txt").write_text("A dog's ball.\n\n犬 🐶\n", "utf-8")
    files = ("--json", tmp_path / "out.json", "--png", tmp_path / "out.png")
    told = regard("words", "parse", "a red hat", "--file", tmp_path / "captions.txt", *files)
    assert (told.code, told.err) == (0, "")
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [each["sentence"] for each in found] == ["a red hat", "A dog's ball.", "", "犬 🐶"]
    assert found[0] == {
        "sentence": "a red hat",
        "tokens": ["a", "red", "hat"],
        "kinds": ["other", "other", "thing"],
        "things": ["hat"],
        "noun_phrases": ["red hat"],
        "attributes": [["hat", "red"]],
        "triples": [],
        "edges": [{"head": 2, "dependent": 1, "role": "attribute"}],
    }
    assert found[1]["triples"] == [["dog", "have", "ball"]]
    assert found[2]["tokens"] == []
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(sys, "stdin", io.StringIO("a dog\na cat\n"))
    assert regard("words", "parse", "--file", "-").out.startswith("a dog\n  tokens        a dog\n")


def test_too_many_sentences_for_one_picture(tmp_path):
    (tmp_path / "captions.txt").write_text("a dog\n" * 900)
    said = refused("words", "parse", "--file", tmp_path / "captions.txt", "--png", tmp_path / "out.png")
    assert re.fullmatch(
        r"The picture would be \d+ x \d+ dots, and 65535 can be drawn: ask for less in one picture\.", said
    )
    assert not (tmp_path / "out.png").exists()


def test_train_goes_on_where_it_stopped(world, tmp_path):
    run = Path(shutil.copytree(world / "cmsei", tmp_path / "run"))
    arguments = ("train", "cmsei-scenes", "--data", world / "data", "--out", run, *TINY, "cmsei.dim=16")
    before = contents(run)
    assert refused(*arguments) == f"{run} holds a run already: go on with it by --resume, or name another --out."
    assert contents(run) == before
    told = regard(*arguments, "--set", "train.epochs=2", "--resume")
    assert told.code == 0
    assert "Resumed after epoch 1, batch 0." in told.out
    assert "epoch   2  dev rSum" in told.out
    assert "epoch   1  dev" not in told.out


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
    assert "neither auto nor a number" in refused("evaluate", run, "--data", data, "--shortlist", "0")
    assert "one run" in refused("evaluate", run, run, "--data", data, "--shortlist", "3")
    assert "float32" in refused("evaluate", run, "--data", data, "--shortlist", "3", "--encodings", "float16")
    scores = tmp_path / "scores.npy"
    assert "no whole matrix" in refused("evaluate", run, "--data", data, "--shortlist", "3", "--save-scores", scores)
    assert not scores.exists()


def test_search_tells_images_and_their_sentences(world, tmp_path):
    sentences = ("a dog is to the left of a cat", "a red thing")
    told = regard("search", world / "cmsei", *sentences, "--count", 3, "--json", tmp_path / "found.json")
    assert told.code == 0, told.err
    assert [told.out.splitlines()[line] for line in (0, 4)] == list(sentences)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == list(sentences)
    for hits in found.values():
        assert len(hits) == 3
        for hit in hits:
            assert f"  {hit['score']:8.4f}  {hit['id']}  " in told.out
    assert "at least one sentence" in refused("search", world / "cmsei")
    assert "at least 1 of each" in refused("search", world / "cmsei", "a dog", "--count", "0")


def test_bench_tells_and_writes_its_rows(tmp_path):
    out, png = tmp_path / "bench.json", tmp_path / "bench.png"
    told = regard("bench", "--quick", "--models", "vse_infinity", "--dim", 8, "--json", out, "--png", png)
    assert told.code == 0
    assert "| vse_infinity |" in told.out
    (row,) = json.loads(out.read_text())
    assert {"model", "direction", "seconds_per_million_pairs", "floor_ratio", "loop_speedup", "peak_mib"} <= row.keys()
    assert png.stat().st_size > 1000
    assert "Did you mean 'scan'?" in refused("bench", "--models", "scam")


def test_recipes_are_listed():
    assert regard("recipes").out.split() == recipe_names()


@pytest.mark.parametrize(
    "verb",
    ["", "train", "recipes", "evaluate", "metrics", "twins", "demo", "data", "data check", "data convert",
     "data relations", "data scenes"],
)  # fmt: skip
def test_every_verb_helps(verb):
    told = regard(*verb.split(), "--help")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"Usage: regard {verb}".rstrip())


def test_the_version():
    assert regard("--version").out.strip() == __version__
    told = subprocess.run([sys.executable, "-m", "regard", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == __version__


# Bad input in the data, told before training leaves anything, or in evaluation


def spoil(path: Path, change) -> None:
    np.save(path, change(np.load(path)))


def nan(array):
    array[3, 0, 5] = np.nan
    return array


SPOILT = {
    "two axes": ("ims.npy", lambda path: spoil(path, lambda array: array[:, 0]), r"{}_ims\.npy is float16 .* want flo"),
    "whole numbers": ("ims.npy", lambda path: spoil(path, lambda array: array.astype(int)), r"{}_ims\.npy is int64"),
    "fewer rows": ("ims.npy", lambda path: spoil(path, lambda array: array[:-1]), r"{}_image_of_text\.npy, row"),
    "fewer boxes": ("boxes.npy", lambda path: spoil(path, lambda array: array[:, :3]), r"{}_boxes\.npy has shape"),
    "no features": ("ims.npy", Path.unlink, r"{}_ims\.npy is not there\. Choose one of: "),
    "no captions": ("caps.txt", Path.unlink, r"{}_caps\.txt is not there\."),
    "cut short": (
        "ims.npy",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        r"{}_ims\.npy is cut short: \d+ by",
    ),
    "cut in the header": ("ims.npy", lambda path: path.write_bytes(path.read_bytes()[:50]), r"{}_ims\.npy is no whole"),
    "empty": ("ims.npy", lambda path: path.write_bytes(b""), r"{}_ims\.npy is no whole \.npy file"),
    "no zip": ("relations.npz", lambda path: path.write_bytes(b"PK"), r"{}_relations\.npz is no \.npz of plain arrays"),
    "Latin-1": (
        "caps.txt",
        lambda path: path.write_bytes("caf\u00e9\n".encode("latin-1") + path.read_bytes().split(b"\n", 1)[1]),
        r"{}_caps\.txt, line 1 is not UTF-8 \(.*\)\. Save the file as UTF-8",
    ),
    "no boxes": ("boxes.npy", Path.unlink, "CMSEI as configured needs boxes; .*data {} has none"),
    "no relations": (
        "relations.npz",
        Path.unlink,
        r"CMSEI as configured needs relations; .*data {} has none: `regard data relations .*data` makes them",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_spoilt_data_stops_training_before_it_leaves_anything(fault, data):
    name, change, message = SPOILT[fault]
    change(data / f"train_{name}")
    assert re.search(message.format("train"), refused(*training(data)))
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize("fault", SPOILT)
def test_spoilt_data_stops_evaluation(fault, world, data):
    name, change, message = SPOILT[fault]
    change(data / f"test_{name}")
    out = data.parent / "metrics.json"
    out.write_text("earlier")
    assert re.search(message.format("test"), refused("evaluate", world / "cmsei", "--data", data, "--json", out))
    assert out.read_text() == "earlier"


def test_features_of_another_width_stop_training_and_evaluation(world, data):
    for split in ("dev", "test"):
        spoil(data / f"{split}_ims.npy", lambda array: array[:, :, :100])
    message = r"data {} has regions of 100 features; the model was made for \d+: want features of the same detector"
    assert re.search(message.format("dev"), refused(*training(data)))
    assert not (data.parent / "run").exists()
    assert re.search(message.format("test"), refused("evaluate", world / "cmsei", "--data", data))


def test_nan_features_stop_training_and_evaluation(world, data):
    spoil(data / "test_ims.npy", nan)
    for verb in ("evaluate", "twins"):
        assert refused(verb, world / "cmsei", "--data", data) == (
            f"{data} test: the features of image 3 (test-0000003) hold NaN or infinity; "
            f"`regard data check {data}` lists all such rows."
        )
    spoil(data / "train_ims.npy", nan)
    assert "The loss is nan at step" in refused(*training(data))
    assert not (data.parent / "run" / "model.safetensors").exists()


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
        f"{runs[1]} reads other images or sentences of {data} test than {runs[0]}: no ensemble."
    )


# Bad words on the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "x"], 'Unknown command "trian". Did you mean "train"?'),
        (["data", "chekc", "x"], 'Unknown command "chekc". Did you mean "check"?'),
        (["recipes", "--al"], "Unknown option: --al."),
        (["train", "cmsei-scenes", "--data", "d", "--out", "o", "--divice", "cpu"], "Did you mean --device?"),
        (["train", "cmsei-scenes", "--data", "d"], "--out requires an argument"),
        (["evaluate", "--data", "d"], "Name at least one run folder."),
        (["evaluate", "r", "--data", "d", "--protocol", "5folds"], 'Did you mean "5fold"?'),
        (
            ["evaluate", "nowhere", "--data", "d"],
            "nowhere is no run: it has no recipe.toml. `regard train RECIPE --out",
        ),
        (["train", "cmsei-scenes", "--data", "nowhere", "--out", "o"], "nowhere is no folder."),
        (
            ["train", "cmsei-scene", "--data", "d", "--out", "o"],
            "There is no recipe 'cmsei-scene', and no file of that",
        ),
        (["train", "cmsei-scene", "--data", "d", "--out", "o"], "Did you mean 'cmsei-scenes'?"),
        (["metrics", "nowhere.npy", "nowhere.npy"], "nowhere.npy cannot be opened: No such file or directory."),
        (["data", "check", "nowhere"], "nowhere is no folder."),
        (["data", "convert", "nowhere", "--out", "o"], "nowhere is no folder."),
        (["data", "relations", "."], ". holds no *_ims.npy"),
        (["data", "scenes", "--out", "o", "--train", "-1"], "train is -1: want a whole number from 0"),
        (["data", "scenes", "--out", "o", "--train", "many"], 'unable to convert "many" into int'),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cmsei.spatail=iou", "[cmsei] has no setting 'spatail'. Did you mean 'spatial'?"),
        ("trian.epochs=3", "has no table 'trian'. Did you mean 'train'?"),
        ("train.epochs=many", "[train]: epochs = 'many': Input should be a valid integer"),
        ("train.epochs=0", "[train]: epochs = 0: Input should be greater than or equal to 1."),
        ("cmsei.spatial=round", "[cmsei]: spatial = 'round': Input should be 'iou', 'polar'"),
        ("epochs", "--set 'epochs' is not of the form key=value, such as train.epochs=5."),
        ("cmsei.dim=0", "The settings make no cmsei model: hidden_size must be greater than zero."),
        ("cmsei.num_kernels=0", "The settings make no cmsei model: "),
        ("words.dropout=7", "The settings make no cmsei model: dropout probability has to be between 0 and 1"),
        ("words.vectors=nowhere.txt", "nowhere.txt is no file: want a text file of words and their numbers"),
        ("data.validation=devv", "devv_ims.npy is not there. Did you mean 'dev'?"),
    ],
)
def test_a_wrong_setting_leaves_no_run(setting, message, world, tmp_path):
    arguments = ("train", "cmsei-scenes", "--data", world / "data", "--out", tmp_path / "run", "--set", setting)
    assert message in refused(*arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:1", pytest.param("cuda", marks=pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a CUDA device here"))])  # fmt: skip
def test_a_device_that_is_not_there(device, world, tmp_path):
    message = "torch sees no CUDA device here; take --device cpu." if device == "cuda" else "is no device"
    for verb in (
        ("train", "scan-scenes", "--out", tmp_path / "run", "--data", world / "data"),
        ("evaluate", world / "scan", "--data", world / "data"),
        ("twins", world / "scan", "--data", world / "data"),
        ("demo", "--out", tmp_path / "demo"),
    ):
        assert message in refused(*verb, "--device", device)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_model_or_of_none(world, tmp_path):
    run = Path(shutil.copytree(world / "cmsei", tmp_path / "run"))
    shutil.copy(world / "scan" / "model.safetensors", run)
    assert refused("evaluate", run, "--data", world / "data") == (
        f"{run}/model.safetensors holds scan weights; the recipe beside it describes cmsei."
    )
    (run / "model.safetensors").unlink()
    assert "has no model.safetensors yet" in refused("evaluate", run, "--data", world / "data")


def test_places_where_nothing_can_be_written(world, tmp_path):
    """Found before the work, and nothing there is touched."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("too")
    before = contents(tmp_path)
    scoring = ("evaluate", world / "scan", "--data", world / "data")
    for option in ("--json", "--save-scores"):
        assert f"{tmp_path}/folder is a folder: name a file." in refused(*scoring, option, tmp_path / "folder")
        assert f"{tmp_path}/file is no folder." in refused(*scoring, option, tmp_path / "file" / "scores")
    for taken in ("file", "folder"):
        out = tmp_path / taken
        assert f"{out} is there already and is no run" in refused(
            "train", "scan-scenes", "--data", world / "data", "--out", out
        )
        assert f"{out} exists already" in refused("data", "scenes", "--out", out)
        assert f"{out} exists and is not empty" in refused("data", "convert", world / "data", "--out", out)
    assert "File exists" in refused("demo", "--out", tmp_path / "file")
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(world, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    out = tmp_path / "locked" / "new" / "metrics.json"
    assert "locked is read-only." in refused("evaluate", world / "scan", "--data", world / "data", "--json", out)


# Full disks and Ctrl-C


@contextlib.contextmanager
def room_for(size: int):
    """Files may not grow beyond `size` bytes: like a full disk, but for this process alone."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_spoils_no_earlier_file(world, data, tmp_path):
    out = tmp_path / "metrics.json"
    out.write_text("earlier")
    with room_for(100):
        message = f"The disk is full ({out}). No partial file was left."
        assert refused("evaluate", world / "scan", "--data", data, "--json", out) == message
        assert "The disk is full" in refused("evaluate", world / "scan", "--save-scores", tmp_path / "scores.npy")
        assert "The disk is full" in refused("data", "scenes", "--out", tmp_path / "new", "--train", 2)
        assert "Nothing was kept" in refused("data", "convert", data, "--out", tmp_path / "new")
        (data / "dev_relations.npz").unlink()
        assert f"The disk is full ({data}/dev_relations.npz)" in refused("data", "relations", data)
    assert out.read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "metrics.json"}
    assert not [path.name for path in data.iterdir() if path.name.startswith(".") or path.name == "dev_relations.npz"]


@pytest.mark.parametrize(
    ("room", "file"),
    [(500, "recipe.toml"), (20_000, "model.safetensors"), (110_000, "last.pt")],
)
def test_a_full_disk_stops_training_which_can_go_on(room, file, data):
    run = data.parent / "run"
    arguments = training(data, "--set", "cmsei.dim=16")
    with room_for(room):
        assert refused(*arguments) == f"The disk is full ({run}/{file}). No partial file was left."
    assert not [path.name for path in run.glob(".*")]
    assert regard(*arguments, "--resume").code == 0


def interrupted(begun, *arguments: object) -> tuple[int, str]:
    """Ctrl-C for the command line in a process group of its own, once `begun()` is true."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regard", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job, which the tests may run in, hands down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 60
        while not begun():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, err


def test_ctrl_c_in_training_saves_and_says_how_to_go_on(data):
    run = data.parent / "run"
    arguments = training(data, "--set", "cmsei.dim=16", "--set", "train.epochs=300")
    code, err = interrupted(lambda: (run / "last.pt").exists(), *arguments)
    assert code == 2
    assert re.fullmatch(r"regard: Stopped at step \d+\. The same command with --resume goes on\.\n", err)
    assert regard("evaluate", run, "--data", data).code == 0
    assert regard(*arguments, "--resume", "--set", "train.epochs=1").code == 0


def test_ctrl_c_in_drawing_leaves_nothing(tmp_path):
    arguments = ("data", "scenes", "--out", tmp_path / "data", "--train", 4000, "--pictures", 1)
    code, err = interrupted(lambda: list(tmp_path.glob(".data*/train_ims.npy")), *arguments)
    assert (code, err) == (2, "regard: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []
