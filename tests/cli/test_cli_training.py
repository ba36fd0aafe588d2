"""`regard train` and `regard recipes`."""

import re
import shutil
from pathlib import Path

import pytest

from commands import TINY, contents, interrupted, refused, regard, room_for, training
from regard.training.recipe import recipe_names


def test_train_resumes(world, tmp_path):
    run = Path(shutil.copytree(world / "cmsei", tmp_path / "run"))
    arguments = ("train", "cmsei-scenes", "--data", world / "data", "--out", run, *TINY, "cmsei.dim=16")
    before = contents(run)
    assert refused(*arguments) == f"{run} already contains a run: continue it with --resume, or name another --out."
    assert contents(run) == before
    result = regard(*arguments, "--set", "train.epochs=2", "--resume")
    assert result.code == 0
    assert "Resumed after epoch 1, batch 0." in result.out
    assert "epoch   2  dev rSum" in result.out
    assert "epoch   1  dev" not in result.out


def test_recipes_are_listed():
    assert regard("recipes").out.split() == recipe_names()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cmsei.spatail=iou", "[cmsei] has no setting 'spatail'. Did you mean 'graph.spatial'?"),
        ("trian.epochs=3", "has no table 'trian'. Did you mean 'train'?"),
        ("train.epochs=many", "[train]: epochs = 'many': Input should be a valid integer"),
        ("train.epochs=0", "[train]: epochs = 0: Input should be greater than or equal to 1."),
        ("cmsei.graph.spatial=round", "[cmsei]: graph.spatial = 'round': Input should be 'iou', 'polar'"),
        ("epochs", "--set 'epochs' does not have the form key=value, such as train.epochs=5."),
        ("cmsei.dim=0", "Cannot build a cmsei model from these settings: hidden_size must be greater than zero."),
        ("cmsei.graph.num_kernels=0", "Cannot build a cmsei model from these settings: "),
        ("words.dropout=1", "[words]: dropout = 1: Input should be less than 1."),
        ("words.vectors=nowhere.txt", "nowhere.txt is not a file: expected a text file of words and their numbers"),
        ("data.validation=devv", "devv_ims.npy is not there. Did you mean 'dev'?"),
    ],
)
def test_a_wrong_setting_writes_no_run(setting, message, world, tmp_path):
    arguments = ("train", "cmsei-scenes", "--data", world / "data", "--out", tmp_path / "run", "--set", setting)
    assert message in refused(*arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("room", "file"),
    [(500, "recipe.toml"), (20_000, "model.safetensors"), (110_000, "last.pt")],
)
def test_training_resumes_after_a_full_disk(room, file, data):
    run = data.parent / "run"
    arguments = training(data, "--set", "cmsei.dim=16")
    with room_for(room):
        assert refused(*arguments) == f"The disk is full ({run}/{file}). No partial file was left."
    assert not [path.name for path in run.glob(".*")]
    assert regard(*arguments, "--resume").code == 0


def test_training_resumes_after_ctrl_c(data):
    run = data.parent / "run"
    arguments = training(data, "--set", "cmsei.dim=16", "--set", "train.epochs=300")
    code, err = interrupted(lambda: (run / "last.pt").exists(), *arguments)
    assert code == 2
    assert re.fullmatch(r"regard: Stopped at step \d+\. Run the same command with --resume to continue\.\n", err)
    assert regard("evaluate", run, "--data", data).code == 0
    assert regard(*arguments, "--resume", "--set", "train.epochs=1").code == 0
