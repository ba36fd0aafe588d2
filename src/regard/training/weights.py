"""A model's weights in a run's folder: build the model of a recipe, and save its weights with what they belong to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.checksums import save_tensors
from regard.files import InputError
from regard.layers.encoders import build_words
from regard.matcher import Matcher
from regard.models import MODELS
from regard.training.recipe import ENSEMBLE, Recipe

WEIGHTS = "model.safetensors"


def build_model(recipe: Recipe, feature_dim: int, tokenizer: Any, pretrained: bool = True) -> Matcher:
    """Build the recipe's model for regions of `feature_dim` features, with new weights.

    With `pretrained=False`, the weights of a pretrained text encoder are not read: a checkpoint will bring them.
    Raises InputError for an ensemble, if torch cannot build a model from the settings, such as with a size of 0, and if
    the model reads relations between words that are not the tokenizer's.
    """
    if recipe.model == ENSEMBLE:
        raise InputError(
            "An ensemble is not trained: `regard ensemble RUN RUN --data DIR --out DIR` combines runs that are."
        )
    try:
        words = build_words(recipe.words, tokenizer, recipe.options.dim, weights=pretrained)
        model = MODELS[recipe.model](recipe.options, feature_dim, words)
    except InputError:
        raise
    except (ValueError, RuntimeError, ArithmeticError) as error:  # torch's layers check their arguments
        raise InputError(f"Cannot build a {recipe.model} model from these settings: {error}.") from None
    if tokenizer.offset is None and model.needs() & {"text_relations", "roles"}:
        raise InputError(
            f"{recipe.model} as configured reads relations between words, which are those of Regard's own tokenizer: "
            'expected words.punctuation=false, words.segmenter="none" and words.fragments="words".'
        )
    return model


def save_model(
    model: Matcher, name: str, feature_dim: int, folder: Path, names: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write the weights to `folder`, with the model's name, `feature_dim` and `names` (Split.names) as metadata."""
    metadata = {"model": name, "feature_dim": str(feature_dim), "names": json.dumps(names or {})}
    save_tensors(folder / WEIGHTS, model.state_dict(), metadata)
