"""A run's folder: its recipe, its tokenizer, the weights that validated best, and how to load them as a model.

recipe.toml          every setting          model.safetensors   the weights, best on validation
vocabulary.json      or pieces.json: words   last.pt             the state from which training goes on
metrics.jsonl        losses and recalls      curves.png          the same, drawn
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from regard.data import Split
from regard.files import InputError, replacing
from regard.layers.encoders import build_words
from regard.matcher import Matcher
from regard.models import MODELS
from regard.training.recipe import Recipe
from regard.words import load_tokenizer

WEIGHTS = "model.safetensors"


def build_model(recipe: Recipe, feature_dim: int, tokenizer: Any, pretrained: bool = True) -> Matcher:
    """The recipe's model for regions of `feature_dim` features, with fresh weights.

    `pretrained=False` leaves out the weights of a pretrained text encoder, which a checkpoint will bring. Raises
    InputError for settings of which torch can make no model, such as a size of 0.
    """
    try:
        words = build_words(recipe.words, tokenizer, recipe.options.dim, weights=pretrained)
        return MODELS[recipe.model](recipe.options, feature_dim, words)
    except InputError:
        raise
    except (ValueError, RuntimeError, ArithmeticError) as error:  # torch's layers check what they are given
        raise InputError(f"The settings make no {recipe.model} model: {error}.") from None


def save_model(
    model: Matcher,
    name: str,
    feature_dim: int,
    folder: Path,
    data: Path | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the weights, with what they belong to, and the data folder and the `names` of its numbers (Split.names)."""
    with replacing(folder / WEIGHTS) as temporary:
        state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        # By way of bytes: for a full disk save_file raises an error of its own, not an OSError.
        belongs = {"model": name, "feature_dim": str(feature_dim)}
        if data is not None:
            belongs["data"] = str(data.resolve())
        if names is not None:
            belongs["names"] = json.dumps(names)
        temporary.write_bytes(save(state, belongs))


def data_of(run: Path) -> Path:
    """The data folder that a run was trained on. Raises InputError where it is not known, or not there any more."""
    data = _belongs(run).get("data")
    if data is None or not Path(data).is_dir():
        raise InputError(
            f"{run} does not say where its data is now{f' ({data} is gone)' if data else ''}: give --data."
        )
    return Path(data)


def names_of(run: Path) -> dict[str, list[str]]:
    """What the numbers of classes and relations meant in the data that a run was trained on; empty where unknown."""
    return json.loads(_belongs(run).get("names", "{}"))


def _belongs(run: Path) -> dict[str, str]:
    try:
        with safe_open(run / WEIGHTS, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}  # loading the run will say what is wrong with it


def recipe_of(run: str | os.PathLike[str]) -> Recipe:
    """The recipe of a run's folder. Raises InputError where the folder is no run."""
    folder = Path(run)
    if not (folder / "recipe.toml").is_file():
        raise InputError(f"{folder} is no run: it has no recipe.toml. `regard train RECIPE --out {folder}` makes one.")
    return Recipe.read(folder / "recipe.toml")


def open_split(recipe: Recipe, data: str | os.PathLike[str], split: str) -> Split:
    """A split of a data folder, read as the recipe says."""
    settings = recipe.data
    opened = Split.open(
        data,
        split,
        captions_per_image=settings.captions_per_image,
        relation_threshold=settings.relation_threshold,
    )
    if settings.corrupted_relations and opened.relations is not None:
        everything = np.full(opened.num_images, opened.num_regions)
        lengths = everything if opened.region_counts is None else opened.region_counts
        opened = replace(opened, relations=opened.relations.corrupted(settings.corrupted_relations, lengths))
    return opened


def open_for(run: Path, data: str | os.PathLike[str], split: str) -> Split:
    """A split of a data folder, read as the run in folder `run` read its own; classes and relations go by name."""
    opened, names = open_split(recipe_of(run), data, split), names_of(run)
    return opened.renumbered(names) if names else opened


def load(run: str | os.PathLike[str], device: Any = "cpu") -> Matcher:
    """The model of a run's folder, in eval mode. Raises InputError where the folder is not one, or is incomplete."""
    folder, recipe = Path(run), recipe_of(run)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has no {WEIGHTS} yet: its first validation has not come. Train on with --resume.")
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            made_for = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # a file is no mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS} cannot be read ({error}): copy or train it again.") from None
    if made_for.get("model") != recipe.model:
        raise InputError(
            f"{folder / WEIGHTS} holds {made_for.get('model', 'unnamed')} weights; "
            f"the recipe beside it describes {recipe.model}."
        )
    model = build_model(recipe, int(made_for["feature_dim"]), load_tokenizer(folder), pretrained=False)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder / WEIGHTS} does not fit {folder / 'recipe.toml'}: {reason}") from None
    return model.to(torch.device(device)).eval()
