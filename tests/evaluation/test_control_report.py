"""Reports of controls on models whose inputs are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import made
from regard.batch import Vectors
from regard.data import Split
from regard.data.relation_files import Triples
from regard.data.rows import ArrayColumn
from regard.evaluation.control_report import measure_controls
from regard.evaluation.controls import CONTROLS, OF_REGIONS, OF_WORDS, ROLES_OF_WORDS
from regard.evaluation.evaluate import scores_of
from regard.layers.encoders import GRUEncoder
from regard.matcher import Matcher
from regard.metrics import recalls
from regard.training.trained_run import TrainedRun
from regard.words import Vocabulary


class Counting(Matcher):
    """Scores an image by the words that name a (subject, predicate, object) of it: "s1 p2 o0"; no weights decide.

    An image is a vector of what its relations are; a sentence one of what its words say, in any order.
    """

    image_encoding, text_encoding = Vectors, Vectors

    def __init__(self, vocabulary):
        super().__init__(None, 8, GRUEncoder(vocabulary, 4, word_dim=4))

    def needs(self):
        return frozenset({"relations"})

    def encode_images(self, images):
        found = torch.zeros(len(images), len(self.tokenizer))
        for image, subject, other in self.required(images, "relations").nonzero().tolist():
            predicate = int(images.relations[image, subject, other])
            for word in (f"s{subject}", f"p{predicate}", f"o{other}"):
                found[image, self.tokenizer.number(word)] = 1
        return Vectors(found)

    def encode_texts(self, texts):
        return Vectors(torch.nn.functional.one_hot(texts.tokens, len(self.tokenizer)).float().amax(1))

    def score(self, images, texts):
        return images.vectors @ texts.vectors.T

    def align(self, images, texts):
        raise NotImplementedError


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Split.open(made.folder(tmp_path_factory.mktemp("report") / "data"), "train")


@pytest.fixture(scope="module")
def related(plain):
    """Twelve images, each with one relation of its own between three regions, and one sentence that names it."""
    table = [(s, o, p) for s, o in ((0, 1), (1, 2), (2, 0)) for p in (1, 2, 3)] + [(0, 2, p) for p in (1, 2, 3)]
    subject, target, label = np.array(table).T
    relations = Triples.of(np.arange(12), subject, target, label, plain.predicates, 12)
    captions = [f"s{s} p{p} o{o}" for s, o, p in table]
    split = replace(
        plain,
        captions=captions,
        image_of_text=np.arange(12),
        region_counts=np.full(12, 3),
        relations=relations,
        text_relations=None,
    )
    return Counting(Vocabulary.build(captions, 1)).eval(), split


def by_name(report):
    return {result.control.name: result for result in report.results}


def test_a_model_of_relations_only_loses_what_each_control_takes(related):
    model, split = related
    report = measure_controls(model, split, resamples=200)
    assert report.recalls.rsum == 600
    found = by_name(report)

    dropped = found["relations dropped"]  # all scores are zero: every answer is the last
    assert dropped.recalls.rsum == 0
    assert (dropped.change.rsum, dropped.change.low, dropped.change.high) == (-600, -600, -600)
    assert (dropped.num_changed, dropped.num_items) == (12, 12)
    scores = expected_scores(split, lambda s, o, p: (o, s, p))
    assert found["relations reversed"].recalls == recalls(scores, split.image_of_text)
    cycle = dict(zip(split.relations.label.tolist(), permuted(split), strict=True))
    scores = expected_scores(split, lambda s, o, p: (s, o, cycle[p]))
    assert found["predicates permuted"].recalls == recalls(scores, split.image_of_text)
    for name in ("boxes permuted", "boxes mirrored", "labels permuted", "words shuffled"):
        result = found[name]
        assert not result.is_read
        assert result.num_changed > 0
        assert result.recalls == report.recalls
        assert (result.change.rsum, result.change.low, result.change.high, result.change.p) == (0, 0, 0, 1)
        assert result.reason == "not read: no encoding changes"
    assert report.verdict() == (
        "The run reads relations between regions (relations dropped: rSum -600.0, 95 % -600.0 to -600.0); does not "
        "read boxes, labels or the order of words; was not tested for relations between words (not in the data: no "
        "relations between words) or the roles of words (not in the data: no relations between words)."
    )


def expected_scores(split, change):
    """The number of common words of each image, after a change of its relation, with each sentence."""
    relations = split.relations
    triples = zip(relations.source.tolist(), relations.target.tolist(), relations.label.tolist(), strict=True)
    images = [{f"s{s}", f"p{p}", f"o{o}"} for s, o, p in (change(*triple) for triple in triples)]
    return np.array([[len(words & set(caption.split())) for caption in split.captions] for words in images], float)


def permuted(split):
    control = next(control for control in CONTROLS if control.name == "predicates permuted")
    return control.change(split, 0).relations.label.tolist()


def test_the_tests_are_corrected_for_their_number(related):
    model, split = related
    several, (single,) = (
        measure_controls(model, split, controls=chosen, resamples=199).results
        for chosen in (CONTROLS[:4], CONTROLS[:1])
    )
    assert single.change.p == 0.01
    assert several[0].change.p == 0.04  # Holm: the smallest of four


def opened(plain, folder, name):
    """A model of a recipe with random weights, and the split as its run reads it."""
    run = TrainedRun(made.run(folder, plain.folder, name))
    for module in run.model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.ones_(module.weight)  # it starts at zero, so that an untrained graph adds nothing
    return run.model, run.open_split("train")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("scan-f8k", {"the order of words"}),
        ("cmsei-scenes", {OF_REGIONS, "boxes", "the order of words"}),
        ("tvrn-f8k", {"boxes", "the order of words", OF_WORDS}),  # which words are related, not by which role
        ("resg-f8k", {OF_REGIONS, "boxes", "the order of words", OF_WORDS, ROLES_OF_WORDS}),
    ],
)
def test_what_each_model_reads_is_found(plain, tmp_path, name, read):
    model, split = opened(plain, tmp_path / "run", name)
    report = measure_controls(model, split, resamples=20)
    assert {result.control.subject for result in report.results if result.is_read} == read
    shuffled = by_name(report)["words shuffled"]
    scores = scores_of(model, shuffled.control.change(split, 0)).numpy()
    assert shuffled.recalls == recalls(scores, split.image_of_text)
    assert not np.array_equal(scores, scores_of(model, split).numpy())
    assert all(result.change.rsum == 0 for result in report.results if not result.is_read)


def test_an_input_that_the_split_does_not_exercise_is_not_called_unread(plain, tmp_path):
    """TVRN compares boxes that overlap: where none do, moving them changes nothing, although it reads them."""
    model, split = opened(plain, tmp_path / "run", "tvrn-f8k")
    corners = np.linspace(0, 0.9, split.boxes.all().shape[1], dtype=np.float32)
    boxes = np.stack([corners, corners, corners + 0.05, corners + 0.05], 1)
    report = measure_controls(
        model, replace(split, boxes=ArrayColumn(np.tile(boxes, (split.num_images, 1, 1)))), resamples=20
    )
    assert not any(result.is_read for result in report.results if result.control.subject == "boxes")
    assert "has boxes as an input, on which nothing in this split depends" in report.verdict()


def test_options_decide_which_controls_of_relations_are_read(plain, tmp_path):
    """CMSEI without predicates and directions reads only which regions are related."""
    model, split = opened(plain, tmp_path / "run", "cmsei-f8k")
    found = measure_controls(model, split, controls=CONTROLS[:4], resamples=20).results
    assert [result.is_read for result in found] == [True, True, False, False]  # dropped, moved; reversed, permuted


def test_what_the_data_do_not_support_is_listed_with_the_reason(related):
    model, split = related
    alone = replace(split, boxes=None, labels=ArrayColumn(np.ones((12, 5), np.int64)))
    report = measure_controls(model, alone, resamples=20)
    found = by_name(report)
    for name, reason in {
        "boxes mirrored": "not in the data: no boxes",
        "labels permuted": "not in the data: no image changes",  # all have one label
        "subject, object exchanged": "not in the data: no text changes",
        "roles reversed": "not in the data: no relations between words",
    }.items():
        assert found[name].reason == reason
        assert (found[name].recalls, found[name].change) == (None, None)
        assert any(line.startswith(name) and line.endswith(reason) for line in report.render().splitlines())
    assert len(report.results) == len(CONTROLS)


def test_the_report_is_written_and_drawn(related, tmp_path):
    model, split = related
    seen = []
    report = measure_controls(model, split, resamples=50, seed=3, progress=seen.append)
    assert sum(seen) == (1 + len(CONTROLS)) * 12 * 12
    kept = json.loads(json.dumps(report.to_dict()))
    assert (kept["rsum"], kept["seed"], kept["resamples"], kept["verdict"]) == (600, 3, 50, report.verdict())
    dropped, roles = kept["controls"][0], kept["controls"][-1]
    assert (dropped["rsum"], dropped["read"], dropped["change"]["rsum"]) == (0, True, -600)
    assert roles["change"] is None
    assert "rsum" not in roles
    assert report.render().splitlines()[-1] == report.verdict()
    report.draw(tmp_path / "changes.png")
    with Image.open(tmp_path / "changes.png") as picture:
        assert np.asarray(picture).std() > 10


def test_the_mode_of_the_model_is_kept(related):
    model, split = related
    model.train()
    measure_controls(model, split, controls=CONTROLS[:1], resamples=5)
    assert model.training
    model.eval()
