"""What an explanation contains is what the model scores: for inputs that are edited by hand, and for every model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import made
from commands import loaded_by
from regard.batch import Images
from regard.data import Split
from regard.explain import Explanation
from regard.explain.relation_effects import MIN_RANDOM, ROUNDING, RelationEffects
from regard.files import InputError
from regard.models import MODELS
from regard.relations.from_sentences import texts_of
from regard.training.weights import build_model
from regard.words import build_tokenizer

CAPTION, OTHER = "w3 w7 a w5", "w3 w8 a w5 w9"
CLASSES = ("none", *(f"class{number}" for number in range(1, 9)))
PREDICATES = ("none", *(f"does{number}" for number in range(1, made.NUM_PREDICATES + 1)))


def explained(model, images, caption=CAPTION, **more):
    texts = texts_of(model, [caption])
    return Explanation.of(model, images, texts, caption, classes=CLASSES, predicates=PREDICATES, **more)


def score(model, images, caption=CAPTION):
    with torch.no_grad():
        return float(model(images, texts_of(model, [caption])))


def without(images, *pairs):
    relations = images.relations.clone()
    for subject, object_ in pairs:
        relations[0, subject, object_] = 0
    return replace(images, relations=relations)


@pytest.mark.parametrize(
    ("name", "options"),
    [("cmsei", {}), ("cmsei", {"graph.directed": True}), ("hire", {}), ("resg", {"num_relations": 3})],
)
def test_a_relation_has_the_effect_of_its_removal_by_hand(name, options):
    model, images = made.model(name, **options), made.images(1)
    found = explained(model, images).relations
    stored = images.relations[0]
    assert set(found.relations) == {(s, int(stored[s, o]), o) for s, o in stored.nonzero().tolist()}
    assert len(found.relations) > 5
    whole = score(model, images)
    for (subject, _, object_), effect in zip(found.relations, found.effects, strict=True):
        edited = without(images, (subject, object_), (object_, subject))
        assert effect == pytest.approx(whole - score(model, edited), abs=1e-5)
    assert np.abs(found.effects).max() > 1e-4


def test_random_relations_are_those_that_the_image_does_not_have():
    model, images = made.model("cmsei"), made.images(1)
    found = explained(model, images).relations
    stored = images.relations[0] > 0
    free = int((~(stored | stored.T)).triu(1).sum())
    assert len(found.random) == min(free, max(len(found.relations), MIN_RANDOM))
    whole = score(model, images)
    possible = []
    for subject, object_ in (~(stored | stored.T)).triu(1).nonzero().tolist():
        added = images.relations.clone()
        added[0, subject, object_] = 1  # this model reads no predicates and no directions
        possible.append(score(model, replace(images, relations=added)) - whole)
    assert sorted(found.random.tolist()) == pytest.approx(sorted(possible), abs=1e-5)
    assert np.array_equal(explained(model, images).relations.random, found.random)


def test_an_effect_is_notable_if_it_exceeds_that_of_every_random_relation():
    ends = ((0, 1, 1), (1, 1, 2), (2, 1, 0))
    found = RelationEffects(ends, np.array([0.3, -0.3, 0.1]), np.array([0.1, -0.2]))
    assert found.noise == 0.2
    assert found.notable.tolist() == [True, True, False]
    rounded = RelationEffects(ends, np.full(3, ROUNDING / 2), np.zeros(5))
    assert (rounded.noise, rounded.notable.any()) == (0.0, False)
    less = found.minus(replace(found, effects=np.array([0.0, -0.3, 0.9]), random=np.array([0.1, 0.5])))
    assert less.effects.tolist() == pytest.approx([0.3, 0.0, -0.8])
    assert less.noise == pytest.approx(0.7)
    assert less.notable.tolist() == [False, False, True]


def test_without_unrelated_regions_the_noise_is_unknown_and_no_relation_is_notable():
    model, images = made.model("cmsei"), made.images(1)
    dense = replace(images, relations=torch.ones_like(images.relations))
    found = explained(model, dense)
    assert found.relations.noise is None
    assert np.abs(found.relations.effects).max() > 1e-4
    assert not found.relations.notable.any()
    assert found.to_dict()["noise"] is None
    none = explained(model, replace(images, relations=torch.zeros_like(images.relations)), against=OTHER)
    assert (none.relations.relations, len(none.relations.random)) == ((), 0)
    assert none.to_dict()["image_relations"] == none.to_dict()["against"]["decisive_relations"] == []
    assert explained(made.model("scan"), images, against=OTHER).decisive_relations is None


def test_regions_are_numbered_without_padding():
    model, images = made.model("cmsei"), made.images(1)
    mask = images.mask.clone()
    mask[0, 2] = False
    left = [0, 1, 3, 4, 5]
    fields = {name: tensor[:, left] for name, tensor in images.tensors().items()}
    fields["relations"] = fields["relations"][:, :, left]
    hidden, absent = explained(model, replace(images, mask=mask)), explained(model, Images(**fields))
    assert hidden.relations.relations == absent.relations.relations
    assert hidden.name_relations() == absent.name_relations()
    assert hidden.relations.effects == pytest.approx(absent.relations.effects, abs=1e-5)
    subject, predicate, object_ = absent.relations.relations[0]
    labels = [CLASSES[number] for number in fields["labels"][0].tolist()]
    expected = (f"{subject} {labels[subject]}", f"does{predicate}", f"{object_} {labels[object_]}")
    assert absent.name_relations()[0] == expected


@pytest.mark.parametrize("name", ["cmsei", "resg", "tvrn"])
def test_a_word_costs_what_the_score_loses_without_it(name):
    model, images = made.model(name), made.images(1)
    found, whole = explained(model, images), score(model, images)
    assert found.alignment.words == ("w3", "w7", "a", "w5")
    for cost, rest in zip(found.word_costs, ("w7 a w5", "w3 a w5", "w3 w7 w5", "w3 w7 a"), strict=True):
        assert cost == pytest.approx(whole - score(model, images, rest), abs=1e-5)
    assert found.costliest_word == found.word_costs.argmax()
    assert np.isfinite(explained(model, images, "w3").word_costs).all()


def test_two_sentences_differ_by_words_and_relations():
    model, images = made.model("cmsei"), made.images(1)
    found = explained(model, images, against=OTHER)
    alone = explained(model, images, OTHER)
    assert found.against.score == pytest.approx(alone.score, abs=1e-6)
    assert found.margin == pytest.approx(score(model, images) - score(model, images, OTHER), abs=1e-5)
    effects = {(each.words, each.other): each.effect for each in found.differences}
    whole = score(model, images)
    assert effects.keys() == {(("w7",), ("w8",)), ((), ("w9",))}
    assert effects[("w7",), ("w8",)] == pytest.approx(whole - score(model, images, "w3 w8 a w5"), abs=1e-5)
    assert effects[(), ("w9",)] == pytest.approx(whole - score(model, images, "w3 w7 a w5 w9"), abs=1e-5)
    assert abs(found.differences[0].effect) >= abs(found.differences[1].effect)
    decisive = found.decisive_relations
    assert decisive.effects == pytest.approx(found.relations.effects - alone.relations.effects, abs=1e-6)
    same = explained(model, images, against=CAPTION)
    assert (same.margin, same.differences) == (0.0, ())
    assert not same.decisive_relations.notable.any()


def test_the_context_of_a_word_is_what_tvrn_expands_it_with():
    model, images = made.model("tvrn"), made.images(1)
    found = explained(model, images)
    assert found.alignment.context.shape == (6, 4)
    assert found.alignment.context.sum(0) == pytest.approx(np.ones(4), abs=1e-5)
    texts = model.encode_texts(texts_of(model, [CAPTION]))
    bare = model.score(model.encode_images(images), replace(texts, context=None))
    assert found.without["context"] == pytest.approx(float(bare.detach()), abs=1e-6)
    assert found.without.keys() == {"global", "local", "context"}
    values = found.to_dict()
    assert values["context"]["best_regions"] == found.alignment.context.argmax(0).tolist()
    assert explained(made.model("tvrn", expand=False), images).to_dict()["context"] is None


@pytest.mark.parametrize("caption", ["", "?!"])
def test_a_sentence_without_words_is_refused(caption):
    model, images = made.model("scan"), made.images(1)
    with pytest.raises(InputError, match="has no words: expected at least one"):
        Explanation.of(model, images, model.tokenizer([caption]), caption)
    with pytest.raises(InputError, match="has no words"):
        explained(model, images, against=caption)


def test_more_than_one_pair_is_refused():
    model = made.model("cmsei")
    with pytest.raises(InputError, match="Expected one image and one text, got 2 images and 1 texts"):
        explained(model, made.images(2))


def scenes_explanation(scenes, name, **more):
    """An explanation by an untrained model of a recipe for the made world."""
    split = Split.open(scenes, "test")
    recipe = made.recipe(name.replace("_", "-") + "-scenes")
    model = build_model(recipe, split.feature_dim, build_tokenizer(recipe.words, split.captions)).eval()
    caption = split.captions[0]
    return Explanation.of(
        model,
        split.images([0]),
        texts_of(model, [caption]),
        caption,
        image_id=split.ids[0],
        classes=split.classes,
        predicates=split.predicates,
        **more,
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_explained(scenes, name):
    found = scenes_explanation(scenes, name, against="a red dog is to the left of a cat")
    values = found.to_dict()
    assert json.loads(json.dumps(values)) == values
    for each in (values, values["against"]):
        words, regions = len(each["words"]), len(each["regions"])
        assert sum(each["parts"].values()) == pytest.approx(each["score"], abs=1e-5)
        assert np.shape(each["weights"]) == (regions, words)
        assert len(each["word_costs"]) == len(each["best_regions"]) == words
        assert [cost["word"] for cost in each["word_costs"]] == each["words"]
        assert all(len(region["box"]) == 4 and region["label"] for region in each["regions"])
        assert bool(each["image_relations"]) == (name in ("cmsei", "hire", "resg"))
        assert bool(each["matched_relations"]) == (name == "resg")
        assert (each["context"] is not None) == (name == "tvrn")
    assert values["against"]["margin"] == pytest.approx(values["score"] - values["against"]["score"], abs=1e-6)
    assert values["against"]["decisive_words"]


def test_data_are_computed_without_matplotlib():
    code = "import regard.explain.explanation, regard.explain.explanation_page, regard.explain.image_contents"
    assert "matplotlib" not in loaded_by(code)
    assert "matplotlib" in loaded_by("from regard.explain import draw_explanation")
