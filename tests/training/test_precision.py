"""A run's precision: chosen by the hardware, printed, recorded, and kept when the run is resumed."""

import io
import json

import pytest
import torch
from rich.console import Console

import made
from regard import __version__, runtime
from regard.files import InputError
from regard.processor import cpu_name
from regard.training.config import TrainConfig
from regard.training.loop import train
from regard.training.precision import recorded_precision
from regard.training.recipe import Recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("precision") / "data")


def trained(data, out, *settings, resume=False):
    """Train a small SCAN, and return what was printed."""
    text = io.StringIO()
    recipe = made.recipe("scan-f8k", "train.precision=auto", *settings)
    train(recipe, data, out, resume=resume, device="cpu", console=Console(file=text, width=200))
    return text.getvalue()


def become(monkeypatch, units):
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: units)


def losses(out):
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "step"]


def test_auto_is_printed_recorded_and_used(data, tmp_path, monkeypatch):
    become(monkeypatch, "")
    printed = trained(data, tmp_path / "plain", "train.epochs=1")
    assert "Precision: float32 (this processor has no bfloat16 instructions)" in printed
    become(monkeypatch, "AMX instructions")
    printed = trained(data, tmp_path / "narrow", "train.epochs=1")
    assert "Precision: bfloat16 (this processor has AMX instructions)" in printed
    for name, precision in {"plain": "float32", "narrow": "bfloat16"}.items():
        first = json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])
        on = {"hardware": cpu_name(), "threads": torch.get_num_threads(), "version": __version__}
        assert first == {
            "event": "start",
            "step": 0,
            "precision": precision,
            "float32_products": runtime.library(),
            **on,
        }
        assert Recipe.read(tmp_path / name / "recipe.toml").train.precision == "auto"
    assert losses(tmp_path / "plain") != losses(tmp_path / "narrow")


def test_a_resumed_run_keeps_the_precision_that_it_was_started_with(data, tmp_path, monkeypatch):
    become(monkeypatch, "AMX instructions")
    trained(data, tmp_path / "whole", "train.epochs=2")
    trained(data, tmp_path / "run", "train.epochs=1")
    become(monkeypatch, "")
    printed = trained(data, tmp_path / "run", "train.epochs=2", resume=True)
    assert "Precision: bfloat16 (this run was started with it; a new run would use float32 here)" in printed
    assert recorded_precision(tmp_path / "run") == "bfloat16"
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count('"start"') == 1


def test_a_precision_of_the_recipe_is_taken(data, tmp_path, monkeypatch):
    become(monkeypatch, "AMX instructions")
    printed = trained(data, tmp_path / "run", "train.precision=32-true", "train.epochs=1")
    assert "Precision: float32 (train.precision = '32-true')" in printed
    assert recorded_precision(tmp_path / "run") == "float32"
    with pytest.raises(InputError, match="The precision tf32 requires a CUDA device"):
        trained(data, tmp_path / "other", "train.precision=tf32")
    assert not (tmp_path / "other").exists()


def test_auto_is_the_default_and_the_small_recipes_that_are_slower_in_bfloat16_say_so():
    assert TrainConfig().precision == "auto"
    for model in ("scan", "vse-infinity", "resg"):
        assert {Recipe.read(f"{model}-{data}").train.precision for data in ("f8k", "scenes")} == {"32-true"}
        assert Recipe.read(f"{model}-f30k").train.precision == "auto"
    for model in ("cmsei", "hire", "sgraf", "tvrn"):
        assert {Recipe.read(f"{model}-{data}").train.precision for data in ("f8k", "f30k")} == {"auto"}
    assert {Recipe.read(f"{model}-scenes").train.precision for model in ("cmsei", "hire")} == {"32-true"}


def test_a_run_of_an_older_version_has_no_record(tmp_path):
    assert recorded_precision(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text('{"event": "step", "step": 1}\n')
    assert recorded_precision(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text("")
    assert recorded_precision(tmp_path) is None
