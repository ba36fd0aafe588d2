import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import made
from regard.files import InputError
from regard.training.trained_run import load
from regard.training.weights import WEIGHTS, build_model, save_model
from regard.words import Vocabulary

CAPTIONS = [" ".join(f"w{i}" for i in range(40))]


def saved(folder, name="scan", **options):
    """A run's folder with a model of random weights, and the model."""
    folder.mkdir(exist_ok=True)
    recipe = made.recipe(f"{name.replace('_', '-')}-f8k", *(f"{name}.{key}={value}" for key, value in options.items()))
    tokenizer = Vocabulary.build(CAPTIONS, 1)
    torch.manual_seed(0)
    model = build_model(recipe, made.FEATURE_DIM, tokenizer).eval()
    (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    tokenizer.save(folder)
    save_model(model, name, made.FEATURE_DIM, folder)
    return folder, model


@pytest.mark.parametrize("name", ["scan", "cmsei", "vse_infinity"])
@torch.no_grad()
def test_law_9_a_checkpoint_gives_the_same_scores(name, tmp_path):
    folder, model = saved(tmp_path / "run", name)
    texts = model.tokenizer(["w1 w2", "w3 w39 w4 never-seen"])
    loaded = load(folder)
    assert not loaded.training
    assert torch.equal(loaded.tokenizer(["w1 w2", "w3 w39 w4 never-seen"]).tokens, texts.tokens)
    assert torch.equal(loaded(made.images(), texts), model(made.images(), texts))


def test_a_folder_that_is_no_run_says_what_makes_one(tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere is not a run: it has no recipe\.toml\. `regard train RECIPE --data DIR --out"
    ):
        load(tmp_path / "nowhere")


def test_a_run_without_weights_says_how_to_get_them(tmp_path):
    folder, _ = saved(tmp_path / "run")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"run has no model\.safetensors yet: .* Continue it with --resume"):
        load(folder)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_one_line(part, tmp_path):
    folder, _ = saved(tmp_path / "run")
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match=r"model\.safetensors (is damaged|cannot be read)"):
        load(folder)


def test_weights_of_another_model_are_refused(tmp_path):
    folder, _ = saved(tmp_path / "scan")
    other, _ = saved(tmp_path / "cmsei", "cmsei")
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(
        InputError, match=r"model\.safetensors contains cmsei weights, but recipe\.toml beside it .* scan"
    ):
        load(folder)
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)  # anybody's weights, that say nothing of themselves
    with pytest.raises(InputError, match=r"contains unnamed weights"):
        load(folder)


def test_weights_of_other_settings_or_words_are_refused(tmp_path):
    folder, _ = saved(tmp_path / "run")
    wide, _ = saved(tmp_path / "wide", dim=24)
    shutil.copy(wide / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(InputError, match=r"model\.safetensors does not fit .*recipe\.toml: size mismatch"):
        load(folder)
    folder, _ = saved(tmp_path / "run")
    Vocabulary.build(["one two three"], 1).save(folder)
    with pytest.raises(InputError, match=r"does not fit .*size mismatch for words\.embedding\.weight"):
        load(folder)
    (folder / "vocabulary.json").unlink()
    with pytest.raises(InputError, match=r"has neither vocabulary\.json nor pieces\.json"):
        load(folder)


def test_saving_is_whole_or_absent(tmp_path):
    """A disk that fills up, here a limit on the size of files, leaves the earlier weights and nothing else."""
    folder, _ = saved(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_model(made.model("scan"), "scan", made.FEATURE_DIM, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["resg", "tvrn"])
def test_relations_between_words_need_regards_own_words(name):
    recipe = made.recipe(f"{name}-f8k", "words.punctuation=true")
    tokenizer = Vocabulary.build(CAPTIONS, 1, punctuation=True)
    with pytest.raises(InputError, match=r"reads relations between words, .* expected words.punctuation=false"):
        build_model(recipe, made.FEATURE_DIM, tokenizer)
