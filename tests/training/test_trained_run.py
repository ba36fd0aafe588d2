"""TrainedRun: every part of a run's folder, read once, and the fingerprint of what decides its scores."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import made
from regard.checksums import save_tensors
from regard.files import InputError
from regard.training.recipe import Recipe
from regard.training.trained_run import TrainedRun, changed_settings, write_data_folder
from regard.training.weights import WEIGHTS, save_model
from regard.words import Vocabulary
from training.test_weights import saved


def changed(folder, *settings):
    """The folder, with `settings` applied to its recipe."""
    path = folder / "recipe.toml"
    path.write_text(Recipe.read(path, list(settings)).to_toml(), "utf-8")
    return TrainedRun(folder)


def test_each_part_is_read_once(tmp_path):
    folder, model = saved(tmp_path / "run")
    run = TrainedRun(folder)
    parts = run.recipe, run.tokenizer, run.model, run.names, run.fingerprint
    shutil.rmtree(folder)
    assert (run.recipe, run.tokenizer, run.model, run.names, run.fingerprint) == parts
    assert type(run.model) is type(model)
    assert run.tokenizer == model.tokenizer


def test_nothing_is_read_before_it_is_used(tmp_path):
    folder, _ = saved(tmp_path / "run")
    (folder / WEIGHTS).write_bytes(b"damaged")
    run = TrainedRun(folder)
    assert run.recipe.model == "scan"
    with pytest.raises(InputError, match=r"(cannot be read|is damaged)"):
        _ = run.model


def test_weights_that_are_loaded_are_not_initialised_before(tmp_path):
    """Random initialisation would draw random numbers."""
    folder, model = saved(tmp_path / "run")
    before = torch.get_rng_state()
    loaded = TrainedRun(folder).model
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    linear = torch.nn.Linear(3, 3)  # initialisation is back
    assert not torch.equal(torch.get_rng_state(), before)
    assert linear.weight.abs().max() <= 3**-0.5


def test_the_data_folder_is_named_in_a_file_of_its_own(tmp_path):
    folder, _ = saved(tmp_path / "run")
    with pytest.raises(InputError, match=r"run does not name its data folder in data\.json: give --data"):
        _ = TrainedRun(folder).data
    data = tmp_path / "data"
    data.mkdir()
    write_data_folder(folder, data)
    assert TrainedRun(folder).data == data.resolve()
    with safe_open(folder / WEIGHTS, "pt") as file:
        assert set(file.metadata()) == {"model", "feature_dim", "names", "checksum"}
    assert str(tmp_path).encode() not in (folder / WEIGHTS).read_bytes()
    data.rmdir()
    with pytest.raises(InputError, match=r"was trained on .*data, which is no longer there: give --data"):
        _ = TrainedRun(folder).data
    (folder / "data.json").write_text("[]")
    with pytest.raises(InputError, match=r"does not name its data folder"):
        _ = TrainedRun(folder).data


def test_the_fingerprint_depends_on_what_decides_the_scores(tmp_path):
    folder, model = saved(tmp_path / "run")
    first = TrainedRun(folder).fingerprint
    assert len(first) == 32
    assert int(first, 16)
    seen = {first}

    def differs(run):
        known = run.fingerprint in seen
        seen.add(run.fingerprint)
        return not known

    assert differs(changed(folder, "scan.temperature=3.0"))
    assert differs(changed(folder, "words.dropout=0.25"))
    save_model(model, "scan", made.FEATURE_DIM, folder, {"classes": ["none", "dog"], "predicates": []})
    assert differs(TrainedRun(folder))
    weights = load_file(folder / WEIGHTS)
    key = min(weights)
    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    save_tensors(folder / WEIGHTS, {**weights, key: weights[key] + 1}, metadata)
    assert differs(TrainedRun(folder))
    content = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    Vocabulary(tuple(content["entries"]), not content["boundaries"]).save(folder)
    assert differs(TrainedRun(folder))


def test_the_fingerprint_does_not_depend_on_training_paths_or_devices(tmp_path):
    folder, _ = saved(tmp_path / "run")
    first = TrainedRun(folder).fingerprint
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    write_data_folder(moved, tmp_path)
    assert (
        changed(moved, "train.epochs=7", "train.learning_rate=1.0", "words.vectors=elsewhere.txt").fingerprint == first
    )
    assert TrainedRun(moved, "meta").fingerprint == first


def test_the_fingerprint_leaves_out_settings_that_have_their_defaults():
    """A run of an older version lacks an option that is new; its default is what the older version did."""
    recipe = made.recipe("cmsei-f8k", "cmsei.graph.spatial=none", "words.dropout=0.25")
    assert list(changed_settings(recipe.options)) == [
        ("dim", made.DIM, 256),
        ("graph.spatial", "none", "iou"),
        ("interaction.global_weight", 1.0, 0.0),
    ]
    assert ("dropout", 0.25, 0.0) in changed_settings(recipe.words)
    assert list(changed_settings(type(recipe.words)())) == []
