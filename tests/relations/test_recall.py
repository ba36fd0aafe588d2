"""Recall of relations beside plain loops, by hand, and with ties; calibration error by hand."""

import numpy as np
import pytest
import torch

import made
from regard.files import InputError
from regard.relations.predictor import fit
from regard.relations.recall import TOPS, calibration_error, count_recalled, measure, predictor_variants, render


def plain_count(scores, annotated, top, constrained):
    """One image: of all candidates, in the order that is worst where scores are level, those annotated in the top."""
    listed = []
    regions, _, predicates = scores.shape
    for s in range(regions):
        for o in range(regions):
            own = [(-scores[s, o, p], bool(annotated[s, o, p])) for p in range(predicates) if scores[s, o, p] >= 0]
            listed += [min(own)] if constrained and own else own  # False before True: the worst of those level
    return sum(right for _, right in sorted(listed)[:top])


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_recall_is_that_of_plain_loops(constrained, levels):
    random = np.random.default_rng(levels)
    scores = random.integers(0, levels, (8, 5, 5, 3)) / levels
    scores[:, range(5), range(5)] = -1
    scores[3, 2:] = scores[3, :, 2:] = -1  # fewer candidates than are looked at
    scores[4] = 0.5
    annotated = (random.random(scores.shape) < 0.15) & (scores >= 0)
    tops = (1, 5, 20, 100)
    out = count_recalled(torch.from_numpy(scores).float(), torch.from_numpy(annotated), tops, constrained)
    expected = [
        [plain_count(own, true, top, constrained) for top in tops] for own, true in zip(scores, annotated, strict=True)
    ]
    assert out.tolist() == expected


def test_recall_by_hand():
    """Two regions, three predicates; (0, 1) has two of them annotated and (1, 0) its best."""
    scores = torch.full((1, 2, 2, 3), -1.0)
    scores[0, 0, 1] = torch.tensor([0.5, 0.3, 0.1])
    scores[0, 1, 0] = torch.tensor([0.1, 0.2, 0.4])
    annotated = torch.zeros(1, 2, 2, 3, dtype=torch.bool)
    annotated[0, 0, 1, 0] = annotated[0, 0, 1, 1] = annotated[0, 1, 0, 2] = True
    assert count_recalled(scores, annotated, (1, 2, 3, 4), constrained=True).tolist() == [[1, 2, 2, 2]]
    assert count_recalled(scores, annotated, (1, 2, 3, 4), constrained=False).tolist() == [[1, 2, 3, 3]]


def test_a_constant_score_gets_the_last_places():
    scores = torch.zeros(1, 4, 4, 2)
    scores[0, range(4), range(4)] = -1
    annotated = torch.zeros(1, 4, 4, 2, dtype=torch.bool)
    annotated[0, 0, 1, 0] = True
    assert count_recalled(scores, annotated, (1, 23, 24), constrained=False).tolist() == [[0, 0, 1]]
    assert count_recalled(scores, annotated, (1, 12, 100), constrained=True).tolist() == [[0, 0, 0]]


def test_calibration_error_by_hand():
    confidence, correct = torch.tensor([0.9, 0.9, 0.1, 0.1]), torch.tensor([True, False, False, False])
    assert calibration_error(confidence, correct) == pytest.approx((0.8 + 0.2) / 4)
    assert calibration_error(torch.ones(3), torch.ones(3, dtype=torch.bool)) == 0
    assert calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)) == 0


def test_measures_are_those_of_each_image_alone(images):
    predictor = fit(images)
    whole = measure(predictor, images)
    hits, counts = [], []
    for row in range(len(images)):
        (block,) = images.blocks(np.array([row]))
        probabilities = predictor.probabilities(block.boxes, block.labels)[0, ..., 1:].numpy()
        probabilities[range(len(probabilities)), range(len(probabilities))] = -1
        annotated = block.relation_masks(len(images.predicates) - 1)[0].numpy()
        if annotated.any():
            hits.append([[plain_count(probabilities, annotated, top, way) for top in TOPS] for way in (True, False)])
            counts.append(annotated.sum())
    hits, counts = np.array(hits), np.array(counts)
    assert (whole.images, whole.relations) == (len(counts), counts.sum()) == (len(counts), len(images.relations))
    for way, recall in enumerate((whole.constrained, whole.free)):
        assert list(recall.mean.values()) == pytest.approx(100 * (hits[:, way] / counts[:, None]).mean(0))
        assert list(recall.total.values()) == pytest.approx(100 * hits[:, way].sum(0) / counts.sum())


def test_frequency_alone_knows_no_pair_from_another(images):
    predictor = fit(images)
    frequencies = predictor_variants(predictor)["predicates alone"]
    (block,) = images.blocks(np.arange(20))
    is_pair = block.labels[:, :, None].mul(block.labels[:, None]) > 0
    found = frequencies.probabilities(block.boxes, block.labels)[is_pair]
    counts = np.bincount(images.relations[:, 3], minlength=5)[1:]
    pairs = found[found[:, 0] < 1]  # not a region with itself
    torch.testing.assert_close(pairs, pairs[:1].expand_as(pairs))
    expected = torch.from_numpy((counts + 0.25) / (counts.sum() + 1)).float()
    torch.testing.assert_close(pairs[0, 1:] / pairs[0, 1:].sum(), expected)


def test_the_table_says_what_was_measured(images):
    lines = render({"some": measure(fit(images), images)}).splitlines()
    assert "1 predicate per pair" in lines[1]
    assert lines[2].split() == ["R@20", "R@50", "R@100"] * 2
    assert len(lines[3].split()) == 1 + 6
    assert "Expected calibration error" in lines[-1]


def test_nothing_to_measure_is_refused():
    images = made.annotated(5, parts=0)
    with pytest.raises(
        InputError,
        match="5 images, 0 relations of 4 predicates between 4 classes: expected relations whose names the "
        "predictor has",
    ):
        measure(fit(made.annotated(30)), images)
