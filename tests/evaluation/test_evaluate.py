import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import made
from regard import encode as encoding
from regard.data import Split
from regard.encode import check_inputs, encode
from regard.evaluation import evaluate as evaluation
from regard.evaluation.evaluate import evaluate, scores_of
from regard.files import InputError
from regard.metrics import recalls
from regard.training.trained_run import TrainedRun, load
from regard.training.weights import build_model, save_model
from regard.words import Vocabulary


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Split.open(made.folder(tmp_path_factory.mktemp("evaluate") / "data"), "dev")


def model_for(split, name="scan", seed=0):
    torch.manual_seed(seed)
    return build_model(made.recipe(f"{name}-f8k"), split.feature_dim, Vocabulary.build(split.captions, 1)).eval()


@pytest.mark.parametrize("name", ["scan", "cmsei", "vse-infinity"])
@pytest.mark.parametrize("block", [(64, 128), (5, 7), (1, 1)])
@torch.no_grad()
def test_scores_of_a_split_equal_direct_scoring(name, block, split, monkeypatch):
    model = model_for(split, name)
    rows = np.arange
    images, texts = split.images(rows(12)).to(torch.float32), split.texts(rows(24), model.tokenizer)
    whole = model(images, texts)
    monkeypatch.setattr(evaluation, "AT_ONCE", 7)
    progress = []
    torch.testing.assert_close(scores_of(model, split, block=block, progress=progress.append), whole, atol=1e-5, rtol=0)
    assert sum(progress) == 12 * 24
    monkeypatch.setattr(encoding, "BATCH", 5)
    parts = encode(model, split)
    torch.testing.assert_close(model.score(*parts), whole, atol=1e-5, rtol=0)


def test_scores_go_where_they_are_asked_to(split):
    model, out = model_for(split), np.full((12, 24), np.nan, np.float32)
    scores_of(model, split, out=out)
    np.testing.assert_array_equal(out, scores_of(model, split))


def test_measuring_leaves_a_model_in_training_as_it_was(split):
    """In training mode too: dropout is off while it is measured, and on again afterwards."""
    model = model_for(split).train()
    model.words.dropout.p = 0.9
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    first, second = scores_of(model, split), scores_of(model, split)
    assert torch.equal(first, second)
    assert model.training
    assert model.words.training
    assert not torch.is_inference_mode_enabled()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_recalls_are_those_of_the_scores(split):
    model = model_for(split)
    scores = scores_of(model, split).numpy()
    assert evaluate(model, split) == recalls(scores, split.image_of_text)
    with pytest.raises(InputError, match="12 images cannot be divided into 5 equal folds: use the protocol full"):
        evaluate(model, split, "5fold")


def test_five_folds_are_parts_of_the_one_matrix(tmp_path):
    folder = made.folder(tmp_path / "data")
    for name in ("ims", "boxes", "labels", "num_regions"):
        np.save(folder / f"dev_{name}.npy", np.load(folder / f"dev_{name}.npy")[:10])
    np.save(folder / "dev_image_of_text.npy", np.arange(10, dtype=np.int32).repeat(2))
    for name, count in (("caps", 20), ("ids", 10)):
        lines = (folder / f"dev_{name}.txt").read_text().splitlines(keepends=True)
        (folder / f"dev_{name}.txt").write_text("".join(lines[:count]))
    for name in ("relations", "text_relations"):
        (folder / f"dev_{name}.npz").unlink()
    split = Split.open(folder, "dev")
    model = model_for(split)
    scores, found = scores_of(model, split).numpy(), evaluate(model, split, "5fold")
    alone = [recalls(scores[2 * f : 2 * f + 2, 4 * f : 4 * f + 4], np.array([0, 0, 1, 1])) for f in range(5)]
    assert found.rsum == pytest.approx(np.mean([fold.rsum for fold in alone]))
    assert found.t2i.r1 == pytest.approx(np.mean([fold.t2i.r1 for fold in alone]))


@pytest.mark.parametrize("name", ["vse-infinity", "scan", "sgraf", "cmsei", "hire", "tvrn", "resg"])
@pytest.mark.parametrize(("narrow", "error"), [({"precision": "bfloat16"}, 2e-2), ({"encodings": "float16"}, 2e-3)])
def test_narrow_numbers_move_scores_by_their_rounding_and_make_no_ties(name, narrow, error, split):
    model = model_for(split, name)
    exact, found = scores_of(model, split), scores_of(model, split, **narrow)
    assert found.dtype == torch.float32
    # A score's last product is never narrow, and VSE-infinity's has no other.
    assert torch.equal(found, exact) == (name == "vse-infinity" and "precision" in narrow)
    torch.testing.assert_close(found, exact, atol=error, rtol=error)
    assert len(found.unique()) > 0.97 * len(exact.unique())


def test_what_a_model_needs_and_a_split_lacks_is_named_with_its_remedy(split, tmp_path):
    model = model_for(split, "cmsei")
    check_inputs(model, split)
    folder = made.folder(tmp_path / "data")
    (folder / "dev_relations.npz").unlink()
    with pytest.raises(
        InputError, match=r"needs relations, which .* dev does not have: `regard data relations .*data` makes"
    ):
        scores_of(model, Split.open(folder, "dev"))
    (folder / "dev_boxes.npy").unlink()
    with pytest.raises(InputError, match=r"needs boxes and relations, which .*: boxes come with the region features"):
        evaluate(model, Split.open(folder, "dev"))
    assert scores_of(model_for(split), Split.open(folder, "dev")).shape == (12, 24)  # SCAN needs neither


def test_nan_scores_are_refused(split):
    model = model_for(split)
    with torch.no_grad():
        model.project.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"(?i)nan"):
        evaluate(model, split)


def test_a_split_without_sentences_is_told(split):
    empty = replace(split, captions=[], image_of_text=split.image_of_text[:0], text_relations=None)
    with pytest.raises(InputError, match=r"dev has no sentences: there is nothing to measure"):
        scores_of(model_for(split), empty)


def test_a_run_reads_other_data_by_the_names_of_its_classes_and_relations(tmp_path):
    """The same world under other numbers, and with a class and a predicate that the run never saw."""
    folder = made.folder(tmp_path / "data")
    run, out = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    split = Split.open(folder, "dev")
    recipe = made.recipe("resg-f8k")
    (run / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    model = model_for(split, "resg")
    model.tokenizer.save(run)
    save_model(model, "resg", split.feature_dim, run, split.names)
    want = scores_of(load(run), TrainedRun(run).open_split("dev", folder))

    shutil.copytree(folder, out)
    names = ["unknown", *(f"class {kind}" for kind in (8, 3, 1, 2, 7, 6, 5, 4))]
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
    number = np.array([0, *(names.index(f"class {kind}") + 1 for kind in range(1, 9))], np.int16)
    np.save(out / "dev_labels.npy", number[np.load(folder / "dev_labels.npy")])
    relations = dict(np.load(folder / "dev_relations.npz"))
    relations["predicate"] = np.array([0, 4, 1, 3], np.int16)[relations["predicate"]]
    relations["predicates"] = np.array(["none", "near", "beyond", "holding", "on"])
    np.savez(out / "dev_relations.npz", **relations)
    np.testing.assert_array_equal(scores_of(load(run), TrainedRun(run).open_split("dev", out)), want)
    assert (
        scores_of(load(run), Split.open(out, "dev")) - want
    ).abs().max() > 1e-3  # by the numbers it is another world

    relations["predicate"][:] = 2  # what the run has no name for is no relation
    np.savez(out / "dev_relations.npz", **relations)
    assert not TrainedRun(run).open_split("dev", out).images([0]).relations.any()
    relations["predicates"] = np.array(["none", "a", "b", "c", "d"])
    np.savez(out / "dev_relations.npz", **relations)
    with pytest.raises(InputError, match=r"needs relations, which .* does not have"):
        scores_of(load(run), TrainedRun(run).open_split("dev", out))
