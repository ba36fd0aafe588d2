"""A model's weights in a run's folder: build the model of a recipe, and save its weights with what they belong to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from regard.files import InputError, replacing
from regard.layers.encoders import build_words
from regard.matcher import Matcher
from regard.models import MODELS
from regard.training.recipe import Recipe

WEIGHTS = "model.safetensors"


def build_model(recipe: Recipe, feature_dim: int, tokenizer: Any, pretrained: bool = True) -> Matcher:
    """Build the recipe's model for regions of `feature_dim` features, with new weights.

    With `pretrained=False`, the weights of a pretrained text encoder are not read: a checkpoint will bring them.
    Raises InputError if torch cannot build a model from the settings, for example with a size of 0.
    """
    try:
        words = build_words(recipe.words, tokenizer, recipe.options.dim, weights=pretrained)
        return MODELS[recipe.model](recipe.options, feature_dim, words)
    except InputError:
        raise
    except (ValueError, RuntimeError, ArithmeticError) as error:  # torch's layers check their arguments
        raise InputError(f"Cannot build a {recipe.model} model from these settings: {error}.") from None


def save_model(
    model: Matcher, name: str, feature_dim: int, folder: Path, names: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write the weights to `folder`, with the model's name, `feature_dim` and `names` (Split.names) as metadata."""
    with replacing(folder / WEIGHTS) as temporary:
        state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        metadata = {"model": name, "feature_dim": str(feature_dim), "names": json.dumps(names or {})}
        # Serialised first, because save_file reports a full disk as an error of its own instead of an OSError.
        temporary.write_bytes(save(state, metadata))
