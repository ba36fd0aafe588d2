"""An ensemble obeys the laws of a model, and its score is the fusion of the scores of its members."""

import numpy as np
import pytest
import torch

import made
from made import EXACT, ROUNDED
from regard.batch import Texts
from regard.evaluation.ensemble import Ensemble, short_names, shortlist_recall
from regard.files import InputError
from regard.joint import Joint
from regard.layers.encoders import GRUEncoder
from regard.models import MODELS
from regard.relations.from_sentences import texts_of
from regard.score import score_all
from regard.words import Vocabulary

NAMES = ("cmsei", "vse_infinity", "tvrn", "scan")
CONFIG = {"means": (0.1, 0.2, -0.3, 0.5), "deviations": (0.5, 0.25, 2.0, 1.0), "weights": (0.4, 0.1, 0.3, 0.2)}
SENTENCES = ["w1 near w2", "w3", "w4 w5 on w6 w7 w8", "w9 w9 holding w1"]


def build(names=NAMES, lead=1, **changes):
    members = [made.model(name).double() for name in names]
    count = len(names)
    settings = {name: values[:count] for name, values in CONFIG.items()} | changes
    listed = {"members": tuple(f"runs/{name}" for name in names), "fingerprints": ("",) * count}
    return Ensemble(Ensemble.Config(**listed, lead=lead, **settings), members).requires_grad_(False)


@pytest.fixture(scope="module")
def ensemble():
    return build()


@pytest.fixture(scope="module")
def inputs(ensemble):
    texts = made.texts(7).to(torch.float64)
    return made.images(5).to(torch.float64), ensemble.tokenizer.kind.of([texts] * len(NAMES))


@pytest.fixture(scope="module")
def encoded(ensemble, inputs):
    return ensemble.encode_images(inputs[0]), ensemble.encode_texts(inputs[1])


def test_the_score_is_the_weighted_sum_of_standardised_scores(ensemble, inputs, encoded):
    expected = 0
    for name, part, *numbers in zip(NAMES, inputs[1].parts, *CONFIG.values(), strict=True):
        member = made.model(name).double()
        mean, deviation, weight = numbers
        expected += weight * (member(inputs[0], part) - mean) / deviation
    torch.testing.assert_close(ensemble.score(*encoded), expected, **EXACT)
    parts = ensemble.score_parts(*encoded)
    assert list(parts) == list(NAMES)
    torch.testing.assert_close(sum(parts.values()), expected, **EXACT)


def test_a_score_depends_on_its_pair_alone_and_blocks_equal_the_whole(ensemble, inputs, encoded):
    whole = ensemble.score(*encoded)
    images, texts = inputs
    for image, text in ((0, 0), (3, 5), (4, 1)):
        alone = ensemble(images[image : image + 1], texts[text : text + 1].trimmed())
        torch.testing.assert_close(alone[0, 0], whole[image, text], **EXACT)
    for block in ((1, 1), (2, 3), (5, 7)):
        torch.testing.assert_close(score_all(ensemble, *encoded, block=block), whole.float(), **ROUNDED)


def test_an_encoding_is_one_object(ensemble, encoded, tmp_path):
    for encoding in encoded:
        kind = type(encoding)
        encoding.save(tmp_path / "encoding", "mine")
        loaded = kind.load(tmp_path / "encoding", "mine")
        assert loaded.tensors().keys() == encoding.tensors().keys()
        joined = kind.cat([encoding[:2], encoding[2:].trimmed()])
        for name, tensor in encoding.tensors().items():
            torch.testing.assert_close(loaded.tensors()[name], tensor, atol=0, rtol=0)
        assert len(joined) == len(encoding)
        torch.testing.assert_close(joined.lengths(), encoding.lengths())
    joined = [type(encoding).cat([encoding[:2], encoding[2:].trimmed()]) for encoding in encoded]
    torch.testing.assert_close(ensemble.score(*joined), ensemble.score(*encoded), **EXACT)


def test_what_is_stored_for_scoring_gives_the_same_scores(ensemble, encoded):
    stored = [ensemble.for_scoring(encoding) for encoding in encoded]
    torch.testing.assert_close(ensemble.score(*stored), ensemble.score(*encoded), **EXACT)
    assert len(stored[0].tensors()) < len(encoded[0].tensors())  # VSE-infinity keeps its summary only


def test_the_summary_is_that_of_the_chosen_member(ensemble, inputs, encoded):
    own = made.model(NAMES[1]).double().encode_images(inputs[0])
    torch.testing.assert_close(encoded[0].summary(), own.summary(), **EXACT)


def test_each_member_reads_sentences_by_its_own_tokenizer_and_relations():
    own = Vocabulary.build(["w8 w7 w6 near w1 w2 w3 w9 holding w4 w5 on"], min_count=1, boundaries=False)
    config = MODELS["scan"].Config(dim=made.DIM)
    torch.manual_seed(1)
    scan = MODELS["scan"](config, made.FEATURE_DIM, GRUEncoder(own, made.DIM, word_dim=10)).eval()
    tvrn = made.model("tvrn")
    settings = {name: values[:2] for name, values in CONFIG.items()}
    listed = {"members": ("a/x", "b/x"), "fingerprints": ("", "")}
    ensemble = Ensemble(Ensemble.Config(**listed, **settings), [scan, tvrn])
    assert ensemble.needs() == tvrn.needs() >= {"text_relations"}
    texts = texts_of(ensemble, SENTENCES)
    for part, member in zip(texts.parts, (scan, tvrn), strict=True):
        expected = texts_of(member, SENTENCES)
        for name, tensor in expected.tensors().items():
            torch.testing.assert_close(part.tensors()[name], tensor)
    assert ensemble.tokenizer.words("w1 near w2") == own.words("w1 near w2")  # SCAN has the larger weight
    assert list(ensemble.score_parts(*encodings(ensemble, texts))) == ["x (1)", "x (2)"]


def encodings(model, texts):
    return model.encode_images(made.images(3)), model.encode_texts(texts)


def test_the_alignment_is_that_of_the_member_with_the_largest_weight(ensemble, inputs, encoded):
    cmsei = made.model("cmsei").double()
    expected = cmsei.align(cmsei.encode_images(inputs[0]), cmsei.encode_texts(inputs[1].parts[0]))
    torch.testing.assert_close(ensemble.align(*encoded), expected, **EXACT)


def test_an_ensemble_of_an_ensemble_is_a_model(ensemble, inputs):
    outer_config = Ensemble.Config(
        members=("a", "b"), fingerprints=("", ""), means=(0.0, 0.0), deviations=(1.0, 1.0), weights=(0.5, 0.5)
    )
    scan = made.model("scan").double()
    outer = Ensemble(outer_config, [ensemble, scan])
    texts = outer.tokenizer.kind.of([inputs[1], inputs[1].parts[0]])
    sides = outer.encode_images(inputs[0]), outer.encode_texts(texts)
    found = outer.score(*map(outer.for_scoring, sides))
    expected = (ensemble(*inputs) + scan(inputs[0], inputs[1].parts[0])) / 2
    torch.testing.assert_close(found, expected, **EXACT)


def test_it_stays_in_eval_mode(ensemble):
    ensemble.train()
    assert not any(module.training for module in ensemble.modules())


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(InputError, match="differ in length"):
        build(weights=(0.5, 0.5))
    with pytest.raises(InputError, match="differ in length"):
        build(lead=4)


def test_a_shared_tensor_is_stored_twice():
    mask = torch.ones(2, 3, dtype=torch.bool)
    joint = Joint.of_kinds([Texts, Texts]).of([Texts(torch.zeros(2, 3, dtype=torch.long), mask)] * 2)
    places = {tensor.untyped_storage().data_ptr() for tensor in joint.tensors().values()}
    assert len(places) == 4
    assert joint.width == 3


def test_the_recall_of_a_shortlist():
    random = np.random.default_rng(0)
    scores = random.normal(size=(200, 30))
    assert shortlist_recall(scores, scores) == 1
    assert shortlist_recall(-scores, scores) == 0
    some = shortlist_recall(random.normal(size=scores.shape), scores)
    assert 0.02 < some < 0.25  # a tenth of the images, at random
    assert shortlist_recall(scores[:4], scores[:4]) == 1
    assert shortlist_recall(np.zeros_like(scores), scores) == 0  # ties count against the summaries


def test_short_names():
    assert short_names(["/runs/a", "runs/b/", "embeddings:google/c"]) == ["a", "b", "c"]
    assert short_names(["1/a", "2/a", "b"]) == ["a (1)", "a (2)", "b"]
