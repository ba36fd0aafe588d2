"""`regard extract --embeddings` and `regard evaluate --embeddings`: the vectors of a CLIP-like model beside regions."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import made
from commands import contents, refused, regard
from regard.data import Split
from regard.data.layout import extraction_of
from regard.data.split import embeddings_file
from regard.evaluation.evaluate import scores_of
from regard.extract.embeddings import embed_photographs
from regard.files import InputError, Stopped
from regard.models.zero_shot import ZeroShot
from regard.training.trained_run import EmbeddingRun, TrainedRun

SENTENCES = ("a red thing", "blue blue thing a", "red", "a blue thing")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return made.embedding_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return made.photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def extracted(models, photographs, tmp_path_factory):
    """A data folder that `regard extract` made, with sentences, regions, and the vectors of both models."""
    folder = tmp_path_factory.mktemp("extracted")
    lines = [f"{number}.png\t{SENTENCES[(number + k) % 4]}" for number in range(6) for k in range(2)]
    (folder / "captions.tsv").write_text("file\tsentence\n" + "\n".join(lines) + "\n")
    options = ("--regions", 4, "--captions", folder / "captions.tsv", "--split", "dev")
    names = ("--embeddings", models / "CLIP", "--embeddings", models / "Siglip")
    result = regard("extract", photographs, "--out", folder / "data", *options, *names)
    assert result.code == 0, result.err
    assert f"Vectors of {models / 'CLIP'}: 6 of dev" in result.out
    return folder / "data"


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_the_scores_are_the_cosines_of_the_model(models, photographs, extracted, kind, tmp_path):
    import transformers

    result = regard(
        *("evaluate", "--embeddings", models / kind, "--data", extracted, "--split", "dev"),
        *("--save-scores", tmp_path / "scores.npy"),
    )
    assert result.code == 0, result.err
    model = transformers.AutoModel.from_pretrained(models / kind).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(models / kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / kind)
    split = Split.open(extracted, "dev")
    pictures = [Image.open(photographs / name) for name in split.ids]
    padding = {"padding": "max_length", "max_length": 12} if kind == "Siglip" else {"padding": True}
    with torch.no_grad():
        images = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
        texts = model.get_text_features(**tokenizer(list(split.captions), return_tensors="pt", **padding))
    images, texts = (getattr(side, "pooler_output", side) for side in (images, texts))
    cosines = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=2)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), cosines.numpy(), atol=1e-5)


def test_vectors_are_computed_once_and_follow_the_photographs(models, photographs, extracted, tmp_path):
    data, pictures = tmp_path / "data", tmp_path / "pictures"
    shutil.copytree(extracted, data)
    shutil.copytree(photographs, pictures)
    name = str(models / "CLIP")
    fingerprint = {name: ZeroShot(name).fingerprint}
    earlier = Split.open(data, "dev").with_embeddings(fingerprint)
    vectors = earlier.images(range(6)).embeddings
    cached = (data / embeddings_file(name)).stat().st_mtime_ns
    assert regard("extract", pictures, "--out", data).code == 0
    assert torch.equal(Split.open(data, "dev").with_embeddings(fingerprint).images(range(6)).embeddings, vectors)
    assert (data / embeddings_file(name)).stat().st_mtime_ns == cached  # nothing was computed
    (pictures / "2.png").unlink()
    shutil.copy(photographs / "0.png", pictures / "new.png")
    Image.new("RGB", (30, 30), "red").save(pictures / "new.png")
    assert regard("extract", pictures, "--out", data).code == 0
    now = Split.open(data, "dev").with_embeddings(fingerprint)
    assert "2.png" not in list(now.ids)
    rows = [list(earlier.ids).index(id_) for id_ in now.ids]
    torch.testing.assert_close(now.images(range(len(rows))).embeddings, earlier.images(rows).embeddings)
    rest = Split.open(data, "rest").with_embeddings(fingerprint)  # the new photograph has no sentence
    assert list(rest.ids) == ["new.png"]


def test_an_interrupted_run_continues(models, tmp_path):
    names = [f"dev{number}.png" for number in range(12)] + [f"train{number}.png" for number in range(12)]
    pictures, data = made.photographs(tmp_path / "pictures", names), made.folder(tmp_path / "data")
    model = ZeroShot(str(models / "CLIP"))
    checks = iter([False, True])
    with pytest.raises(Stopped, match="run the same command again"):
        embed_photographs(pictures, data, model, is_stopped=lambda: next(checks))
    assert sorted(path.name for path in data.glob("*embeddings*")) == [
        "embeddings_CLIP.safetensors",
        "train_embeddings_CLIP.safetensors",
    ]
    encoded, calls = model.encode_photographs, []
    model.encode_photographs = lambda pictures: calls.append(len(pictures)) or encoded(pictures)
    seen = []
    assert embed_photographs(pictures, data, model, progress=lambda *at: seen.append(at)) == {"train": 12, "dev": 12}
    assert calls == [12]  # those of train were stored
    assert seen[-1] == (24, 24)


def test_a_replaced_photograph_has_its_new_vector(models, tmp_path):
    names = [f"{split}{number}.png" for split in ("dev", "train") for number in range(12)]
    pictures, data = made.photographs(tmp_path / "pictures", names), made.folder(tmp_path / "data")
    model = ZeroShot(str(models / "CLIP"))
    embed_photographs(pictures, data, model)
    before = Split.open(data, "dev").with_embeddings({model.name: model.fingerprint}).images(range(12)).embeddings
    shutil.copy(pictures / "dev3.png", pictures / "dev0.png")
    embed_photographs(pictures, data, model)
    after = Split.open(data, "dev").with_embeddings({model.name: model.fingerprint}).images(range(12)).embeddings
    torch.testing.assert_close(after, torch.cat([before[3:4], before[1:]]))
    assert not torch.equal(after, before)


def test_a_model_is_the_same_in_any_folder_and_with_any_version_of_transformers(
    models, extracted, tmp_path, monkeypatch
):
    monkeypatch.chdir(models)
    assert regard("evaluate", "--embeddings", "CLIP", "--data", extracted, "--split", "dev").code == 0
    moved = shutil.copytree(models / "CLIP", tmp_path / "CLIP")
    config = moved / "config.json"
    config.write_text(config.read_text("utf-8").replace('"transformers_version": "', '"transformers_version": "9.'))
    assert ZeroShot(str(moved)).fingerprint == ZeroShot("CLIP").fingerprint
    assert ZeroShot("Siglip").fingerprint != ZeroShot("CLIP").fingerprint


def test_an_embedding_model_has_its_row_in_the_other_tables(models, extracted):
    name = f"embeddings:{models / 'CLIP'}"
    swapped = regard("twins", name, "--data", extracted, "--split", "dev", "--swapped")
    assert "no sentence" in swapped.err or name in swapped.out
    probed = regard("probe", name, "--data", extracted, "--split", "dev")
    assert probed.code == 0, probed.err
    assert "does not read" in probed.out.splitlines()[-1]
    assert "name the data folder with --data" in refused("probe", name)
    assert "is an embedding model; expected the folder of a trained run" in refused("card", name)


def test_two_models_of_one_name_are_refused_in_any_data_folder(models, tmp_path):
    names = [f"dev{number}.png" for number in range(12)]
    pictures, data = made.photographs(tmp_path / "pictures", names), made.folder(tmp_path / "data")
    other = shutil.copytree(models / "CLIP", tmp_path / "other" / "CLIP")
    options = ("--embeddings", models / "CLIP", "--embeddings", other)
    assert "use a folder for each" in refused("extract", pictures, "--out", data, *options)
    assert not list(data.glob("*embeddings*"))


def test_a_model_that_cannot_be_loaded_leaves_no_trace(models, photographs, extracted, tmp_path):
    data = shutil.copytree(extracted, tmp_path / "data")
    before = contents(data)
    message = refused("extract", photographs, "--out", data, "--embeddings", tmp_path)
    assert "is not a complete model" in message
    assert contents(data) == before
    same = tmp_path / "other" / "CLIP"
    shutil.copytree(models / "CLIP", same)
    assert "would be stored as" in refused("extract", photographs, "--out", data, "--embeddings", same)
    assert regard("extract", photographs, "--out", data, "--embeddings", "none").code == 0
    assert extraction_of(data)["embeddings"] == []


def test_a_folder_of_other_origin_gets_vectors_only(models, tmp_path):
    data = made.folder(tmp_path / "data")
    name = str(models / "CLIP")
    pictures = made.photographs(tmp_path / "pictures", [f"dev{number}.png" for number in range(12)])
    given = ("extract", pictures, "--out", data, "--embeddings", name)
    assert "only --embeddings can be added" in refused(*given, "--regions", 4)
    before = contents(data)
    result = regard(*given)
    assert result.code == 0, result.err
    assert result.out == f"Vectors of {name}: 12 of dev\n"
    after = contents(data)
    assert after.keys() - before.keys() == {f"dev_{embeddings_file(name)}", embeddings_file(name)}
    assert {key: after[key] for key in before} == before
    result = regard("evaluate", f"embeddings:{name}", "--data", data, "--split", "dev")
    assert "12 images, 24 texts" in result.out
    assert "train_embeddings_CLIP.safetensors is not there" in refused(
        "evaluate", "--embeddings", name, "--data", data, "--split", "train"
    )
    (pictures / "dev3.png").unlink()
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    (data / f"dev_{embeddings_file(name)}").unlink()
    assert "no photographs of 1 of 12 images" in refused(*given)
    other = made.photographs(tmp_path / "other")
    assert "no photograph of an image" in refused("extract", other, "--out", data, "--embeddings", name)


def test_vectors_of_another_model_are_refused(models, extracted, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(extracted, data)
    shutil.copy(data / "dev_embeddings_Siglip.safetensors", data / "dev_embeddings_CLIP.safetensors")
    message = refused("evaluate", "--embeddings", models / "CLIP", "--data", data, "--split", "dev")
    assert "has fingerprint" in message
    for more, reason in (
        ((), "requires --data"),
        (("--data", data, "--shortlist", "5"), "no --shortlist"),
    ):
        assert reason in refused("evaluate", "--embeddings", models / "CLIP", "--split", "dev", *more)


def test_embeddings_are_members_of_an_ensemble(models, photographs, extracted, tmp_path):
    run = made.run(tmp_path / "run", make_train(extracted, tmp_path), "vse-infinity-f8k")
    data = tmp_path / "data"
    names = [f"embeddings:{models / kind}" for kind in ("CLIP", "Siglip")]
    result = regard("ensemble", names[0], run, names[1], "--out", tmp_path / "out")
    assert result.code == 0, result.err
    ensemble = TrainedRun(tmp_path / "out")
    split = ensemble.open_split("dev")
    alone = [EmbeddingRun(str(models / kind)) for kind in ("CLIP", "Siglip")]
    matrices = [scores_of(each.model, each.open_split("dev", data)).numpy() for each in alone]
    matrices.insert(1, scores_of(TrainedRun(run).model, TrainedRun(run).open_split("dev")).numpy())
    expected = ensemble.model.fusion.combine(matrices)
    np.testing.assert_allclose(scores_of(ensemble.model, split).numpy(), expected, atol=1e-5)
    result = regard(
        "explain", tmp_path / "out", split.ids[0], "a red thing", "--split", "dev", "--out", tmp_path / "x.json"
    )
    assert result.code == 0, result.err
    result = regard("ensemble", *names, "--data", data, "--out", tmp_path / "vectors")
    assert result.code == 0, result.err
    message = refused(
        "explain", tmp_path / "vectors", split.ids[0], "red", "--split", "dev", "--out", tmp_path / "y.json"
    )
    assert "there is nothing to explain" in message
    shutil.copytree(data, tmp_path / "bare", ignore=shutil.ignore_patterns("*embeddings*"))
    with pytest.raises(InputError, match="is not there"):
        ensemble.open_split("dev", tmp_path / "bare")


def make_train(extracted, tmp_path):
    """A copy of the folder in which the split is train too."""
    data = shutil.copytree(extracted, tmp_path / "data")
    for path in data.glob("dev_*"):
        shutil.copy(path, path.with_name(path.name.replace("dev_", "train_")))
    return data
