"""A run that starts from a trained embedding: the same scores at first, and its tokenizer."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

import made
from regard.files import InputError
from regard.training.checkpoint import STATE
from regard.training.loop import train
from regard.training.precision import recorded_start
from regard.training.trained_run import TrainedRun

LEARNT = {"summary.pooling": "gpo", "summary.region_mlp": True, "interaction.learn_weights": True}
SMALL = ["words.word_dim=10", "words.dropout=0", "train.epochs=1", "train.batch_size=4"]


def settings(name, options):
    return [f"{name}.dim={made.DIM}", *(f"{name}.{key}={json.dumps(value)}" for key, value in options.items()), *SMALL]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["cmsei", "hire"])
@torch.no_grad()
def test_a_relation_model_begins_where_the_embedding_ends(name, training):
    """Graphs of a new model are the identity; `made.model` gives them an effect, which is taken back here."""
    source, model = made.model("vse_infinity"), made.model(name, seed=1, **LEARNT)
    for layer in [*model.explicit.spatial, *model.explicit.semantic]:
        layer.norm.weight.zero_()
        layer.norm.bias.zero_()
    images, texts = made.images(), made.texts()
    assert (model(images, texts) - source(images, texts)).abs().max() > 0.01
    assert model.start_from(source) == ["words", "project", "mlp", "pool_images", "pool_texts"]
    model.train(training)
    source.train(training)
    torch.testing.assert_close(model(images, texts), source(images, texts))
    summaries = (each.encode_images(images).summary() for each in (model, source))
    torch.testing.assert_close(*summaries)


@pytest.mark.parametrize("name", ["scan", "sgraf", "tvrn", "resg"])
@torch.no_grad()
def test_other_models_take_the_encoders(name):
    source, model = made.model("vse_infinity"), made.model(name, seed=1)
    assert model.start_from(source) == ["words", "project"]
    torch.testing.assert_close(model.words.embedding.weight, source.words.embedding.weight)
    torch.testing.assert_close(model.project.weight, source.project.weight)


def test_encoders_of_another_form_are_refused():
    with pytest.raises(InputError, match=r"SCAN cannot start from that VSEInfinity: project\.bias is \[8\] here and"):
        made.model("scan", dim=8).start_from(made.model("vse_infinity"))


def test_train_starts_from_a_run(tmp_path):
    data = made.folder(tmp_path / "data")
    first = tmp_path / "first"
    quiet = Console(quiet=True)
    recipe = made.recipe("vse-infinity-f8k", *settings("vse_infinity", {}))
    train(recipe, data, first, console=quiet)
    for line in ("train_caps.txt", "dev_caps.txt"):  # a vocabulary that was built anew would differ
        path = data / line
        path.write_text(path.read_text("utf-8").replace("near", "besides"), "utf-8")
    second = tmp_path / "second"
    init = [f"train.init={first}", "train.init_rate=0"]
    recipe = made.recipe("cmsei-f8k", *settings("cmsei", LEARNT), *init)
    with pytest.raises(InputError, match="is not a run"):
        train(replace(recipe, train=replace(recipe.train, init=str(tmp_path / "none"))), data, second, console=quiet)
    assert not second.exists()
    train(recipe, data, second, console=quiet)
    source, run = TrainedRun(first), TrainedRun(second)
    assert run.tokenizer(["near"]).tokens.tolist() == source.tokenizer(["near"]).tokens.tolist()
    torch.testing.assert_close(run.model.words.embedding.weight, source.model.words.embedding.weight)
    assert (run.model.interaction.weights - torch.tensor([0.0, 1.0])).abs().min() > 0  # trained at the whole rate
    train(recipe, data, second, resume=True, console=quiet)  # the first run is no longer read


def test_only_the_copied_parts_have_the_rate_of_encoders(tmp_path):
    """A perceptron and a pooling that the first run does not have are trained at the whole rate, also when resumed."""
    data, first, second = made.folder(tmp_path / "data"), tmp_path / "first", tmp_path / "second"
    quiet = Console(quiet=True)
    train(made.recipe("cmsei-f8k", *settings("cmsei", {})), data, first, console=quiet)
    recipe = made.recipe("cmsei-f8k", *settings("cmsei", LEARNT), f"train.init={first}", "train.init_rate=0")
    train(recipe, data, second, console=quiet)
    found = recorded_start(second)["init"]
    assert found == {"run": "first", "fingerprint": TrainedRun(first).fingerprint, "parts": ["words", "project"]}
    train(replace(recipe, train=replace(recipe.train, epochs=2)), data, second, resume=True, console=quiet)
    groups = torch.load(second / STATE, weights_only=True)["optimizer"]["param_groups"]
    own = [name.partition(".")[0] for name, _ in TrainedRun(second).model.named_parameters()]
    assert [len(group["params"]) for group in groups if group["factor"] == 0] == [
        sum(name in ("words", "project") for name in own)
    ]
    assert {"mlp", "pool_images", "pool_texts"} < set(own)
