"""The model card: its header, its numbers, what it says of a run, and that it names no path of the machine."""

import json
import re
import shutil

import pytest
import torch
from huggingface_hub import ModelCard

import made
from regard.data import Split
from regard.evaluation.compare import intervals
from regard.evaluation.evaluate import evaluate, scores_of
from regard.files import InputError
from regard.metrics import galleries
from regard.training.card import CardNotes, measure_splits, read_probe, without_paths, write_card
from regard.training.precision import start_event
from regard.training.recipe import Recipe
from regard.training.trained_run import TrainedRun

CONTROL = {
    "name": "relations | dropped",
    "rsum": 90.0,
    "change": {"rsum": -12.34, "low": -20.0, "high": -5.0, "p": 0.1},
}
FLAT = {"name": "relations | dropped", "rsum": 90.0, "change": -12.34, "low": -20.0, "high": -5.0}
UNREAD = {"name": "boxes", "rsum": 90.0, "reason": "not read", "change": {"rsum": 0.0, "low": 0.0, "high": 0.0}}
ABSENT = {"name": "labels", "reason": "not in the data", "change": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("card") / "data")


@pytest.fixture
def run(tmp_path, data):
    return TrainedRun(made.run(tmp_path / "run", data))


def section(text, name):
    return re.search(rf"^## {name}\n\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def test_a_card_has_the_numbers_that_evaluation_gives(run):
    text = write_card(run, measured=measure_splits(run, None, ())).read_text("utf-8")
    split = run.open_split("dev")
    measured = evaluate(run.model, split)
    spread = intervals(galleries(scores_of(run.model, split).numpy(), split.image_of_text))
    for way, found in ((measured.i2t, spread.i2t), (measured.t2i, spread.t2i)):
        for level, interval in found.items():
            assert f"{getattr(way, level):.1f} ({interval.low:.1f} to {interval.high:.1f})" in section(text, "Metrics")
    assert f"rSum **{measured.rsum:.1f}** ({spread.rsum.low:.1f} to {spread.rsum.high:.1f})" in text
    assert "Split `dev`: 12 images, 24 sentences" in text


def test_the_header_is_read_by_the_hub(run):
    measured = measure_splits(run, None, ["dev"])
    path = write_card(run, measured=measured, notes=CardNotes('A "set": of 12', "en", "apache-2.0"))
    card = ModelCard.load(path).data
    assert (card.library_name, card.language, card.license) == ("regard", "en", "apache-2.0")
    assert "cmsei" in card.tags
    results = {each.metric_type: each.metric_value for each in card.eval_results}
    assert results["rsum"] == pytest.approx(measured[0].recalls.rsum, abs=0.005)
    assert len(results) == 7
    assert {(each.dataset_name, each.dataset_split) for each in card.eval_results} == {('A "set": of 12', "dev")}
    assert ModelCard.load(write_card(run, measured=measured)).data.eval_results is None  # of a set without a name


def test_a_card_names_no_path_of_the_machine(run, tmp_path):
    recipe = run.folder / "recipe.toml"
    recipe.write_text(Recipe.read(recipe, [f"words.vectors={tmp_path}/glove.txt"]).to_toml(), "utf-8")
    text = write_card(TrainedRun(run.folder), measured=measure_splits(run, None, ())).read_text("utf-8")
    assert str(tmp_path.parent) not in text
    assert text.count("glove.txt") == 2  # in the changes and in the whole recipe
    assert without_paths({"a": ["/x/y", "C:\\x\\y", "~/y", "./y"], "b": "org/name", "c": 1}) == {
        "a": ["y"] * 4,
        "b": "org/name",
        "c": 1,
    }


def test_the_whole_recipe_trains_the_same(run, tmp_path):
    text = write_card(run).read_text("utf-8")
    (tmp_path / "again.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.S)[1], "utf-8")
    assert Recipe.read(tmp_path / "again.toml") == run.recipe
    changes = section(text, "Recipe")
    assert "| `cmsei.dim` | 16 | 256 |" in changes
    assert "| `train.epochs` | 2 | 30 |" in changes
    assert "| `train.margin`" not in changes  # a default


def test_a_card_without_data_has_what_training_recorded(data, tmp_path):
    run = TrainedRun(made.run(tmp_path / "run", data, "scan-f8k"))
    split = run.open_split("dev")
    best = evaluate(run.model, split).to_dict()
    steps = [{"event": "step", "step": at, "epoch": at / 4, "loss": 1.0, "seconds": at / 10} for at in (2, 4, 6, 8)]
    validations = [{"event": "validation", "step": 4 * epoch, "epoch": float(epoch), **found}
                   for epoch, found in ((1, best), (2, best | {"rsum": 1.0}))]  # fmt: skip
    start = start_event("float32", "cpu")
    lines = [json.dumps(event) for event in (start, *steps, *validations)]
    (run.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n{damaged", "utf-8")
    (run.folder / "data.json").unlink()
    run = TrainedRun(run.folder)
    assert measure_splits(run, None, ()) == []
    text = write_card(run).read_text("utf-8")
    assert f"validation rSum {best['rsum']:.1f} after epoch 1, whose weights these are" in section(text, "Metrics")
    assert "without an interval" in text
    assert "8 steps of 0.5 s on average: about 4 seconds, validation not included" in section(text, "Training")
    assert f"Hardware: {start['hardware']}, {torch.get_num_threads()} thread" in text
    assert "![The training loss and the validation recalls by epoch](curves.png)" in text
    assert "their sizes are not known" in section(text, "Data")
    assert "no relations between regions, and no boxes" in section(text, "Limits")
    beside = write_card(run, tmp_path / "shared" / "scan.md")
    assert "](scan-curves.png)" in beside.read_text("utf-8")
    assert (beside.parent / "scan-curves.png").is_file()


def test_the_limits_are_those_of_the_run(run, data, tmp_path):
    text = section(write_card(run, notes=CardNotes(language="en")).read_text("utf-8"), "Limits")
    assert "The model is a reconstruction" in text
    assert "trained on 12 images, which is few" in text
    assert "but not the predicate and the direction" in text  # of cmsei-f8k
    assert "how much they matter was not measured" in text
    assert "The language of its sentences: en." in text
    assert f"{len(run.tokenizer)} words" in text
    assert "not measured" not in section(write_card(run, probe={"controls": [CONTROL]}).read_text("utf-8"), "Limits")
    scan = TrainedRun(made.run(tmp_path / "scan", data, "scan-f8k"))
    plain = section(write_card(scan).read_text("utf-8"), "Limits")
    assert "It reads no relations between regions, and no boxes." in plain
    assert "reconstruction" not in plain


@pytest.mark.parametrize("content", [[FLAT], {"verdict": "Reads <it>.", "controls": [CONTROL, UNREAD, ABSENT]}])
def test_controls_are_a_table(run, tmp_path, content):
    path = tmp_path / "probe.json"
    path.write_text(json.dumps(content), "utf-8")
    text = section(write_card(run, probe=read_probe(path, run.fingerprint)).read_text("utf-8"), "Controls")
    assert "| relations \\| dropped | 90.0 | -12.3 | -20.0 to -5.0 |" in text
    if isinstance(content, dict):
        assert text.startswith("Reads \\<it\\>.\n")
        assert "| boxes |  |  | not read |\n| labels |  |  | not in the data |" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[", "is not JSON"),
        ("3", "no list of controls. Expected the file that `regard probe RUN --json` writes"),
        ('{"a": 1}', "no list of controls"),
        ('{"controls": [3]}', "controls.0: Input should be"),
        ('[{"name": "x", "rsum": 1}]', "controls.0.change: Field required"),
        ('[{"name": "x", "change": 1}]', "controls.0.change.low: Field required"),
        ('{"fingerprint": "other", "controls": []}', "was measured with other weights"),
    ],
)
def test_other_files_are_not_controls(tmp_path, content, reason):
    path = tmp_path / "probe.json"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=reason):
        read_probe(path, "this")


def test_splits_that_the_data_lack_are_refused(run, data, tmp_path):
    with pytest.raises(InputError, match="test"):
        measure_splits(run, data, ["test"])
    other = shutil.copytree(data, tmp_path / "other")
    for path in other.glob("dev_*"):
        path.unlink()
    with pytest.raises(InputError, match="has the splits train: choose those to measure with --split"):
        measure_splits(run, other, ())
    assert measure_splits(run, other, ["train"])[0].num_images == Split.open(data, "train").num_images
