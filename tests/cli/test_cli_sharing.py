"""card and push, and runs on the hub as arguments of other verbs."""

import json
import shutil
import sys

import pytest

import made
from commands import refused, regard
from regard.training.trained_run import TrainedRun

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # as in training/test_sharing.py


@pytest.fixture
def run(tmp_path):
    return made.run(tmp_path / "run", made.folder(tmp_path / "data"))


def test_a_run_is_pushed_and_used_by_its_address(run, hub, tmp_path):
    pushed = regard("push", run, "user/cmsei", "--private")
    assert (pushed.code, pushed.err) == (0, "")
    assert f"Wrote {run}/README.md" in pushed.out
    assert "Uploaded to hf://user/cmsei@" in pushed.out
    assert "Next: regard evaluate hf://user/cmsei --data DIR" in pushed.out
    assert "Split `dev`: 12 images" in hub.files("user/cmsei")["README.md"].decode()
    assert hub.repositories["user/cmsei"].private
    for name, found in (("here", run), ("there", "hf://user/cmsei")):
        measured = regard("evaluate", found, "--data", tmp_path / "data", "--split", "dev", "--json", tmp_path / name)
        assert (measured.code, measured.err) == (0, "")
    assert (tmp_path / "here").read_text() == (tmp_path / "there").read_text()
    searched = regard("search", "hf://user/cmsei", "w1 near w2", "--data", tmp_path / "data", "--split", "dev")
    assert (searched.code, searched.err) == (0, "")
    assert "weights                 whole" in regard("verify", "hf://user/cmsei").out
    assert "hf://user/cmsei does not name its data folder" in refused("evaluate", "hf://user/cmsei")
    assert "give --out" in refused("card", "hf://user/cmsei")
    assert "no repository user/other" in refused("evaluate", "hf://user/other", "--data", tmp_path / "data")


def test_a_card_is_written_with_what_is_given(run, tmp_path):
    probe = tmp_path / "probe.json"
    row = {"name": "boxes mirrored", "rsum": 80.0, "change": 0.5, "low": -1.0, "high": 2.0}
    probe.write_text(json.dumps({"fingerprint": TrainedRun(run).fingerprint, "controls": [row]}))
    told = ("--dataset", "Made", "--language", "en", "--license", "mit", "--probe", probe)
    result = regard("card", run, *told, "--split", "dev", "--split", "train", "--out", tmp_path / "card.md")
    assert (result.code, result.err) == (0, "")
    assert result.out.strip() == f"Wrote {tmp_path}/card.md"
    text = (tmp_path / "card.md").read_text("utf-8")
    assert text.startswith("---\nlanguage: en\n")
    for part in ("license: mit", "# CMSEI on Made", "| boxes mirrored |", "Split `dev`", "Split `train`"):
        assert part in text
    assert not (run / "README.md").exists()


def test_a_card_without_data_says_so(run):
    shutil.rmtree(run.parent / "data")
    result = regard("card", run)
    assert result.code == 0
    assert "The data are not at hand: the metrics are those recorded during training" in result.out
    assert "which is no longer there: give --data" in refused("card", run, "--split", "dev")


def test_what_is_no_run_or_has_no_weights(run, tmp_path, monkeypatch):
    assert "is not a run" in refused("card", tmp_path)
    assert "is not a run" in refused("push", tmp_path, "user/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for command in (("card", run), ("push", run, "user/name"), ("evaluate", "hf://user/name")):
        assert refused(*command) == 'Sharing a run needs huggingface_hub: pip install ".[hub]" in the clone of Regard.'
    (run / "model.safetensors").unlink()
    assert "has no model.safetensors" in refused("push", run, "user/name")
    assert not (run / "README.md").exists()
