"""`regard ensemble`: an ensemble is fitted on validation data, and its folder is a run."""

import json
import shutil

import numpy as np
import pytest
import torch

import made
from commands import contents, refused, regard
from regard.evaluation.cascade import cascade
from regard.evaluation.evaluate import scores_of
from regard.evaluation.fusion import Fusion
from regard.metrics import recalls
from regard.search.gallery import Gallery
from regard.training.trained_run import TrainedRun
from regard.training.verification import verify


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data folder `data`, the runs `cmsei` and `vse`, and their ensemble `both`."""
    folder = tmp_path_factory.mktemp("world")
    made.folder(folder / "data")
    made.run(folder / "cmsei", folder / "data")
    made.run(folder / "vse", folder / "data", "vse-infinity-f8k")
    result = regard("ensemble", folder / "cmsei", folder / "vse", "--out", folder / "both", "--json", folder / "j.json")
    assert result.code == 0, result.err
    assert "makes the shortlist" in result.out
    return folder


def test_the_fusion_is_that_of_the_scores_on_the_validation_split(world):
    runs = [TrainedRun(world / name) for name in ("cmsei", "vse")]
    split = runs[0].open_split("dev")
    matrices = [scores_of(run.model, split).numpy() for run in runs]
    fusion = Fusion.fit(matrices, split.image_of_text)
    both = TrainedRun(world / "both")
    options = both.recipe.options
    for name, values in fusion.to_dict().items():
        assert getattr(options, name) == pytest.approx(values)
    assert options.fingerprints == tuple(run.fingerprint for run in runs)
    fused = fusion.combine(matrices)
    np.testing.assert_allclose(scores_of(both.model, both.open_split("dev")).numpy(), fused, atol=1e-5)
    report = json.loads((world / "j.json").read_text())
    assert report["rsum"] == pytest.approx(recalls(fused, split.image_of_text).rsum)
    assert report["rsums"] == [pytest.approx(recalls(each, split.image_of_text).rsum) for each in matrices]
    assert report["lead"] == options.lead == int(np.argmax(report["shortlist"]))


def test_an_ensemble_is_a_run(world, tmp_path):
    run = TrainedRun(world / "both")
    assert run.data == world / "data"
    assert run.names == TrainedRun(world / "cmsei").names
    assert [error for _, error in verify(run.folder)] == [None] * 3
    split = run.open_split("dev")
    result = regard("evaluate", run.folder, "--split", "dev", "--save-scores", tmp_path / "s.npy")
    assert result.code == 0, result.err
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), scores_of(run.model, split).numpy())
    scores = scores_of(run.model, split)
    whole = cascade(run.model, split, 24)
    assert whole.recalls == whole.exhaustive
    gallery = Gallery.of_split(run.model, split)
    hits = gallery.search_sentences([split.captions[3]], k=12, shortlist=None)[0]
    by_id = dict(zip(split.ids, scores[:, 3].tolist(), strict=True))
    assert {hit.id: hit.score for hit in hits} == pytest.approx(by_id, abs=1e-5)
    result = regard("explain", run.folder, "dev3", "w1 near w2", "--split", "dev", "--out", tmp_path / "why.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "why.json").read_text())
    assert found["parts"].keys() == {"cmsei", "vse"}
    assert sum(found["parts"].values()) == pytest.approx(found["score"], abs=1e-5)


def test_given_weights_are_kept_and_a_second_run_is_refused(world, tmp_path):
    members = (world / "cmsei", world / "vse")
    result = regard("ensemble", *members, "--out", tmp_path / "e", "--weights", "3", "0")
    assert "vse: weight 0, which adds nothing" in result.out
    assert TrainedRun(tmp_path / "e").recipe.options.weights == (1.0, 0.0)
    before = contents(tmp_path / "e")
    assert "exists: expected a new folder" in refused("ensemble", *members, "--out", tmp_path / "e")
    assert contents(tmp_path / "e") == before
    for wrong in (["1"], ["0", "0"], ["1", "-1"], ["1", "nan"]):
        message = refused("ensemble", *members, "--out", tmp_path / "f", "--weights", *wrong)
        assert "expected 2 numbers of at least 0" in message
    assert "requires at least two members" in refused("ensemble", world / "vse", "--out", tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_member_may_move_with_the_ensemble_and_not_change_or_vanish(world, tmp_path):
    shutil.copytree(world, tmp_path / "moved")
    both = tmp_path / "moved" / "both"
    recipe = both / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(world), str(tmp_path / "gone")))
    model = TrainedRun(both).model
    images = TrainedRun(both).open_split("dev").images(range(3)).to(torch.float32)
    assert len(model.encode_images(images)) == 3
    assert TrainedRun(both).fingerprint == TrainedRun(world / "both").fingerprint
    made.run(tmp_path / "new", world / "data", seed=5)
    shutil.copy(tmp_path / "new" / "model.safetensors", tmp_path / "moved" / "cmsei")
    assert "the model has changed" in refused("evaluate", both, "--split", "dev")
    shutil.rmtree(tmp_path / "moved" / "cmsei")
    assert f"{tmp_path / 'gone' / 'cmsei'}, a member of the ensemble" in refused("evaluate", both, "--split", "dev")


def test_members_that_read_the_data_differently_are_refused(world, tmp_path):
    def changed(name, old, new):
        shutil.copytree(world / name, tmp_path / name)
        path = tmp_path / name / "recipe.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        return tmp_path / name

    made.run(tmp_path / "hire", world / "data", "hire-f8k")
    strict = changed("cmsei", "relation_threshold = 0.5", "relation_threshold = 0.9")
    message = refused("ensemble", tmp_path / "hire", strict, "--out", tmp_path / "out")
    assert "data.relation_threshold = 0.5, and" in message
    # VSE-infinity reads no relations.
    assert regard("ensemble", world / "vse", strict, "--out", tmp_path / "fits").code == 0
    assert TrainedRun(tmp_path / "fits").recipe.data.relation_threshold == 0.9
    other = changed("vse", 'validation = "dev"', 'validation = "train"')
    assert "data.validation = dev, and" in refused("ensemble", world / "cmsei", other, "--out", tmp_path / "out")
    shutil.rmtree(other)
    blind = changed("vse", "blind = false", "blind = true")
    assert "data.blind = False, and" in refused("ensemble", world / "cmsei", blind, "--out", tmp_path / "out")


def test_an_ensemble_is_probed(world):
    result = regard("probe", world / "both", "--split", "dev")
    assert result.code == 0, result.err
    assert "reads the order of words" in result.out


def test_members_of_other_data_are_refused(world, tmp_path):
    data = made.folder(tmp_path / "data")
    for split in ("train", "dev"):
        features = np.load(data / f"{split}_ims.npy")
        np.save(data / f"{split}_ims.npy", np.concatenate([features, features], 2))
    other = made.run(tmp_path / "other", data, "scan-f8k")
    message = refused("ensemble", world / "vse", other, "--out", tmp_path / "out")
    assert "name the one to fit on with --data" in message
    message = refused("ensemble", world / "vse", other, "--data", world / "data", "--out", tmp_path / "out")
    assert "has 8 features per region" in message
    assert "is not a run" in refused("ensemble", world / "vse", tmp_path / "nothing", "--out", tmp_path / "out")


def test_members_of_other_names_are_refused_if_they_read_them(world, tmp_path):
    data = made.folder(tmp_path / "data")
    for split in ("train", "dev"):
        with np.load(data / f"{split}_relations.npz") as file:
            arrays = dict(file) | {"predicates": np.array(["none", "on", "under", "holding"])}
        np.savez(data / f"{split}_relations.npz", **arrays)
    for name in ("hire-f8k", "vse-infinity-f8k"):
        made.run(tmp_path / name, data, name)
    hire = made.run(tmp_path / "hire", world / "data", "hire-f8k")
    given = ("--data", world / "data", "--out", tmp_path / "out")
    assert "with different predicates" in refused("ensemble", hire, tmp_path / "hire-f8k", *given)
    assert regard("ensemble", tmp_path / "vse-infinity-f8k", hire, *given).code == 0
    assert TrainedRun(tmp_path / "out").names["predicates"] == ["none", "on", "near", "holding"]


def test_an_ensemble_is_not_trained(world, tmp_path):
    recipe = world / "both" / "recipe.toml"
    message = refused("train", recipe, "--data", world / "data", "--out", tmp_path / "new")
    assert "An ensemble is not trained" in message
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())
