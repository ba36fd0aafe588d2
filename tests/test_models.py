"""Every model, and each option of its configuration, against its paper's equations in plain loops."""

import inspect
import re
import sys
from dataclasses import fields, is_dataclass, replace
from importlib import import_module

import numpy as np
import pytest
import torch

import made
from reference.common import Item
from regard.batch import Images, Texts
from regard.files import InputError
from regard.matcher import Matcher
from regard.models import MODELS


def items(vectors: torch.Tensor, mask: torch.Tensor, batch: Images | Texts) -> list[Item]:
    """Each image or text on its own, without padding; `mask` says which of `vectors` are real."""
    result = []
    for row, real in enumerate(mask):
        count = int(real.sum())
        rows = {name: tensor[row, :count].double().numpy() for name, tensor in batch.tensors().items()}
        relations = None if batch.relations is None else batch.relations[row, :count, :count].numpy()
        labels = None if "labels" not in rows else rows["labels"].astype(int)
        features = list(rows.get("features", []))
        some = list(vectors[row, :count].double().numpy())
        result.append(Item(some, features, rows.get("boxes"), labels, relations))
    return result


def oracle(model: Matcher, name: str, images: Images, texts: Texts) -> np.ndarray:
    """The reference score of every pair, from each side's projected fragments."""
    words = model.words(texts)
    image_items = items(model.project(images.features), images.mask, images)
    text_items = items(words.vectors, words.mask, texts)
    score = import_module(f"reference.{name}").score
    return np.array([[score(model, image, text) for text in text_items] for image in image_items])


@pytest.mark.parametrize(("name", "options"), made.VARIANTS, ids=made.NAMES)
@torch.no_grad()
def test_a_model_equals_its_oracle(name, options):
    model, images, texts = made.exact(name, options, 4, 5)
    scores = model(images, texts).numpy()
    assert scores.shape == (4, 5)
    # Models add 1e-16 under the root of a norm; the equations do not. Scores of short vectors differ by up to 1e-9.
    np.testing.assert_allclose(scores, oracle(model, name, images, texts), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"), [v for v in made.VARIANTS if v[1]], ids=[n for n in made.NAMES if "=" in n]
)
@torch.no_grad()
def test_each_option_changes_the_score(name, options):
    """Both models have the same seed, so an option that changes no score has no effect."""
    (plain, images, texts), (other, *_) = made.exact(name, {}), made.exact(name, options)
    assert (plain(images, texts) - other(images, texts)).abs().max() > 1e-4


ALL_OF_RESG = [field.name for field in fields(MODELS["resg"].Config)]  # test_resg.py tests its losses


def option_names(config: type, prefix: str = "") -> set[str]:
    """The names of all options; those of a nested table contain its name, as in `graph.spatial`."""
    names = set()
    for field in fields(config):
        nested = is_dataclass(field.type)
        names |= option_names(field.type, f"{prefix}{field.name}.") if nested else {f"{prefix}{field.name}"}
    return names


def test_every_option_is_among_the_variants():
    for name, model in MODELS.items():
        tested = {key for other, options in made.VARIANTS if other == name for key in options}
        numbers = {"dim", "iou_threshold", "graph.iou_threshold", "graph.num_kernels"}
        numbers |= {"interaction.region_temperature", "interaction.word_temperature"}
        of_training = {"dropout", *(option for option in ALL_OF_RESG if option.startswith(("center", "margin")))}
        assert option_names(model.Config) - tested - numbers - of_training == set()


@pytest.mark.parametrize("name", MODELS)
def test_the_file_of_a_model_shows_every_option(name):
    source = inspect.getsource(sys.modules[MODELS[name].__module__])
    words = set(re.findall(r"\w+", source[source.index("class Config") : source.index("def __init__")]))
    assert {option.split(".")[-1] for option in option_names(MODELS[name].Config)} - words == set()


@torch.no_grad()
def test_relations_and_boxes_reach_the_score_of_cmsei():
    images, texts = made.images(), made.texts()
    for options, name in (
        ({"graph.spatial": "none"}, "relations"),
        ({"graph.semantic": "none", "graph.iou_threshold": 0.05}, "boxes"),
        ({"graph.semantic": "none", "graph.spatial": "polar"}, "boxes"),
    ):
        model = made.model("cmsei", **options)
        shuffled = {**images.tensors(), name: images.tensors()[name].flip(1)}
        assert (model(images, texts) - model(Images(**shuffled), texts)).abs().max() > 1e-4


@torch.no_grad()
def test_only_directed_relations_distinguish_subject_and_object():
    images, texts = made.images(), made.texts()
    swapped = Images(**{**images.tensors(), "relations": images.relations.mT})
    undirected, directed = made.model("cmsei"), made.model("cmsei", **{"graph.directed": True})
    assert torch.equal(undirected(images, texts), undirected(swapped, texts))
    assert (directed(images, texts) - directed(swapped, texts)).abs().max() > 1e-4


def test_an_absent_input_is_named():
    images = made.images()
    bare = Images(images.features, images.mask)
    model = made.model("cmsei")
    assert model.needs() == {"boxes", "relations"}
    with pytest.raises(InputError, match="CMSEI as configured needs boxes, which these Images do not have"):
        model.encode_images(bare)
    assert made.model("cmsei", **{"graph.spatial": "full", "graph.semantic": "none"}).needs() == frozenset()


@torch.no_grad()
def test_tvrn_without_its_additions_equals_sgraf():
    bare = {"context": "none", "unify": "none", "expand": False, "refine": "none", "enhancement": "none"}
    stripped, images, texts = made.exact("tvrn", {"similarity_dim": 8, **bare})
    sgraf = made.model("sgraf", similarity_dim=8).double()
    assert stripped.needs() == frozenset()
    sgraf.load_state_dict(stripped.state_dict())
    torch.testing.assert_close(stripped(images, texts), sgraf(images, texts), **made.EXACT)


@torch.no_grad()
def test_boxes_and_undirected_dependencies_reach_the_score_of_tvrn():
    model, images, texts = made.exact("tvrn", {"iou_threshold": 0.05})
    scores = model(images, texts)
    shuffled = Images(**{**images.tensors(), "boxes": images.boxes.flip(1)})
    assert (model(shuffled, texts) - scores).abs().max() > 1e-4
    assert (model(images, replace(texts, relations=texts.relations.flip(0))) - scores).abs().max() > 1e-4
    # Neither the direction nor the label of a dependency matters.
    turned = replace(texts, relations=(texts.relations.mT > 0).long())
    torch.testing.assert_close(model(images, turned), scores, **made.EXACT)
