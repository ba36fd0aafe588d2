"""A recipe: the model, its settings and how it is trained. A TOML file that lists what differs from the defaults."""

import os
import tomllib
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from regard.data import Split
from regard.evaluation.ensemble import Ensemble
from regard.files import InputError, nearest
from regard.models import MODELS
from regard.training.config import DataConfig, TrainConfig, build, override
from regard.words import WordsConfig

ENSEMBLE = "ensemble"  # the model of a run that `regard ensemble` made


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one run. In TOML, the model's own settings are in the table named after the model."""

    model: str
    options: Any  # the Config of the model
    words: WordsConfig = field(default_factory=WordsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def read(cls, name_or_path: str | Path, settings: list[str] | None = None) -> "Recipe":
        """Read a recipe of the package by its name, or a TOML file, and apply `table.key=value` settings to it.

        Raises InputError for an unknown recipe or key, naming the nearest, and for a value of the wrong type.
        """
        text, where = _find(str(name_or_path))
        try:
            values = override(tomllib.loads(text), settings or [])
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"{where} is not valid TOML: {error}.") from None
        model = values.pop("model", None)
        kinds: dict[str, Any] = {**MODELS, ENSEMBLE: Ensemble}
        if not isinstance(model, str) or model not in kinds:
            raise InputError(f"{where} names the model {model!r}. {nearest(str(model), MODELS)}")
        tables = {model, "words", "data", "train"}
        for key in values.keys() - tables:
            raise InputError(f"{where} has no table {key!r}. {nearest(key, tables)}")
        for key in values.keys() & tables:
            if not isinstance(values[key], dict):
                raise InputError(f"{where}: {key} must be a table of settings, not {values[key]!r}.")
        return cls(
            model=model,
            options=build(kinds[model].Config, values.get(model, {}), f"{where} [{model}]"),
            words=build(WordsConfig, values.get("words", {}), f"{where} [words]"),
            data=build(DataConfig, values.get("data", {}), f"{where} [data]"),
            train=build(TrainConfig, values.get("train", {}), f"{where} [train]"),
        )

    def open_split(self, folder: str | os.PathLike[str], name: str) -> Split:
        """Open a split of a data folder as the [data] settings say."""
        settings = self.data
        split = Split.open(
            folder,
            name,
            captions_per_image=settings.captions_per_image,
            relation_threshold=settings.relation_threshold,
        )
        if settings.corrupted_relations and split.relations is not None:
            split = replace(split, relations=split.relations.corrupted(settings.corrupted_relations, split.counts))
        return split.blind() if settings.blind else split

    def to_toml(self) -> str:
        """Return every setting as TOML, defaults included."""
        tables = {self.model: self.options, "data": self.data}
        if self.model != ENSEMBLE:  # whose members have settings of their own
            tables = {self.model: self.options, "words": self.words, "data": self.data, "train": self.train}
        return tomli_w.dumps({"model": self.model, **{name: _without_none(asdict(t)) for name, t in tables.items()}})


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """The table without settings that are None, which TOML cannot express; None is their default."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def recipe_names() -> list[str]:
    """Return the names of the recipes in the package."""
    folder = resources.files("regard") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def _find(name: str) -> tuple[str, str]:
    """The text of a recipe, and its name for error messages."""
    if name in recipe_names():
        return (resources.files("regard") / "recipes" / f"{name}.toml").read_text("utf-8"), f"recipe {name}"
    path = Path(name)
    if path.is_file():
        try:
            return path.read_text("utf-8"), str(path)
        except UnicodeDecodeError:
            raise InputError(f"{path} is not UTF-8 text: a recipe is a TOML file.") from None
    raise InputError(f"There is no recipe {name!r}, and no file of that name. {nearest(name, recipe_names())}")
