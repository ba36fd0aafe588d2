from dataclasses import dataclass, field

import pytest

from regard.files import InputError
from regard.training.config import DataConfig, TrainConfig, build, override


@dataclass(frozen=True, kw_only=True)
class Outer:
    train: TrainConfig = field(default_factory=TrainConfig)
    name: str = "x"


def test_values_fill_a_dataclass_and_the_rest_is_default():
    config = build(TrainConfig, {"epochs": 3, "decay_epochs": [1, 2], "learning_rate": 1}, "here")
    assert config == TrainConfig(epochs=3, decay_epochs=(1, 2), learning_rate=1.0)
    assert isinstance(config.learning_rate, float)
    assert build(DataConfig, {"captions_per_image": 5}, "here").captions_per_image == 5


def test_tables_within_tables_are_checked_too():
    assert build(Outer, {"train": {"epochs": 3}}, "here").train.epochs == 3
    with pytest.raises(InputError, match=r"here: train has no setting 'epoch'\. Did you mean 'epochs'\?"):
        build(Outer, {"train": {"epoch": 3}}, "here")
    with pytest.raises(InputError, match="here: train must be a table of settings, not 3"):
        build(Outer, {"train": 3}, "here")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "three", r"here: epochs = 'three': Input should be a valid integer"),
        ("epochs", 2.5, r"here: epochs = 2\.5: Input should be a valid integer"),
        ("epochs", 0, r"here: epochs = 0: Input should be greater than or equal to 1"),
        ("batch_size", -4, r"here: batch_size = -4: "),
        ("accumulate", 0, r"here: accumulate = 0: "),
        ("log_every", 0, r"here: log_every = 0: "),
        ("seed", 20261231235959, r"here: seed = 20261231235959: Input should be less than 4294967296"),
        ("learning_rate", 0, r"here: learning_rate = 0: Input should be greater than 0"),
        ("learning_rate", float("nan"), r"here: learning_rate = nan: "),
        ("region_drop", 1, r"here: region_drop = 1: Input should be less than 1"),
        ("negatives", "hard", r"here: negatives = 'hard': Input should be 'hardest', 'sum', 'soft' or 'soft_hinge'"),
        ("decay_epochs", [1, "x"], r"here: decay_epochs\.1 = 'x': "),
    ],
)
def test_a_wrong_value_is_named(key, value, message):
    """Also those of the right type that would end in a division by zero, or in nothing learnt."""
    with pytest.raises(InputError, match=message):
        build(TrainConfig, {key: value}, "here")


def test_settings_are_toml_values_or_else_plain_words():
    values = override(
        {"train": {"epochs": 1}},
        ["train.epochs=5", "words.path = some/folder", "scan.list=[1, 2]", "train.tensorboard=true"],
    )
    assert values == {
        "train": {"epochs": 5, "tensorboard": True},
        "words": {"path": "some/folder"},
        "scan": {"list": [1, 2]},
    }
    assert override({}, ["a.b.c='=x'"]) == {"a": {"b": {"c": "=x"}}}


@pytest.mark.parametrize("setting", ["train.epochs", "=5", " = 5"])
def test_a_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(InputError, match=r"does not have the form key=value, such as train\.epochs=5"):
        override({}, [setting])


def test_a_setting_below_a_value_is_refused():
    with pytest.raises(InputError, match=r"--set 'model\.dim=5': model is a single setting, not a table of settings"):
        override({"model": "scan"}, ["model.dim=5"])
