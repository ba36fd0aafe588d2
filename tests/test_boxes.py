"""The geometry of boxes against plain loops and examples computed by hand."""

import math

import numpy as np
import pytest
import torch

import made
from reference.common import box_iou, box_relation
from regard.boxes import (
    PAIR_FEATURES,
    iou,
    non_maximum_suppression,
    pair_features,
    polar,
    relation_classes,
    to_corners,
)


def test_iou_and_relation_classes_equal_plain_loops():
    images = made.images(6, 8).to(torch.float64)
    overlap, classes = iou(images.boxes), relation_classes(images.boxes)
    seen = set()
    for i in range(len(images)):
        boxes = images.boxes[i, images.mask[i]].numpy()
        for a, first in enumerate(boxes):
            for b, second in enumerate(boxes):
                assert abs(box_iou(first, second) - float(overlap[i, a, b])) < 1e-10
                expected = 0 if a == b else box_relation(first, second)
                assert int(classes[i, a, b]) == expected
                seen.add(expected)
    assert len(seen) >= 8  # the sample is wide enough to test most classes


def test_polar_coordinates_by_hand():
    """The angle points from the first box to the second: 0 is down, pi/2 is right."""
    boxes = [[0.4, 0.4, 0.6, 0.6], [0.6, 0.4, 0.8, 0.6], [0.4, 0.7, 0.6, 0.9], [0.1, 0.1, 0.3, 0.3]]
    distance, angle = polar(torch.tensor([boxes], dtype=torch.float64))
    assert distance[0, 0].tolist() == pytest.approx([0, 0.2, 0.3, 0.3 * math.sqrt(2)])
    assert angle[0, 0].tolist() == pytest.approx([0, math.pi / 2, 0, -3 * math.pi / 4])
    assert angle[0, :, 0].tolist() == pytest.approx([0, -math.pi / 2, math.pi, math.pi / 4])


def test_centres_and_sizes_become_corners():
    boxes = np.array([[[0.5, 0.4, 0.2, 0.4], [0.1, 0.1, 0.2, 0.2]]], np.float32)
    corners = to_corners(boxes)
    assert corners.dtype == np.float32
    np.testing.assert_allclose(corners, [[[0.4, 0.2, 0.6, 0.6], [0, 0, 0.2, 0.2]]], atol=1e-7)


def test_non_maximum_suppression_equals_a_plain_loop():
    random = np.random.default_rng(0)
    corners = np.sort(random.random((60, 2, 2)), 1).reshape(60, 4).astype(np.float32)
    boxes = np.concatenate([corners, corners[:20] + 0.01])
    kept: list[int] = []
    for position, box in enumerate(boxes):
        if all(box_iou(box, boxes[other]) <= 0.5 for other in kept):
            kept.append(position)
    assert non_maximum_suppression(boxes, 0.5).tolist() == kept
    assert len(kept) < len(boxes)


def test_non_maximum_suppression_per_class_is_exact_for_many_classes():
    """For each class a box, one whose IoU with it is just above the threshold, and one just below."""
    classes, threshold, side = np.arange(1, 1601, 4), 0.45, 0.2
    iou_of = np.array([1.0, threshold + 1e-4, threshold - 1e-4])
    shift = side * (1 - iou_of) / (1 + iou_of)  # of two boxes of the same size, side by side
    left = (0.3 + classes[:, None] / 10_000 + shift).ravel()
    boxes = np.stack([left, np.full_like(left, 0.3), left + side, np.full_like(left, 0.5)], 1).astype(np.float32)
    kept = non_maximum_suppression(boxes, threshold, classes.repeat(3))
    assert kept.tolist() == [row for row in range(len(boxes)) if row % 3 != 1]
    assert len(non_maximum_suppression(boxes, threshold)) < 5  # without classes, all are of one


def test_non_maximum_suppression_of_no_box_keeps_none():
    assert non_maximum_suppression(np.zeros((0, 4), np.float32), 0.5).tolist() == []


def test_pair_features_are_bounded_and_contain_the_relation_class():
    (block,) = made.annotated(300).blocks(np.arange(20))
    boxes = block.boxes
    features = pair_features(boxes[:, 0], boxes[:, 1])
    assert features.shape == (20, PAIR_FEATURES)
    assert features.abs().max() <= 2
    assert torch.equal(features[:, :12].argmax(1), relation_classes(boxes)[:, 0, 1])
    empty = torch.zeros(1, 4)
    assert pair_features(empty, empty).isfinite().all()


def test_pair_features_of_one_pair_by_hand():
    features = pair_features(torch.tensor([[0.0, 0.0, 0.2, 0.4]]), torch.tensor([[0.1, 0.2, 0.5, 0.4]]))[0].tolist()
    assert features[:12] == [1.0 if kind == 5 else 0.0 for kind in range(12)]  # below right
    assert features[12:15] == pytest.approx([0.02 / 0.14, 0.02 / 0.08, 0.02 / 0.08])
    assert features[15:19] == pytest.approx([0.2, 0.1, 0.2, 0.1])
    extent = [0.6, 0.6]
    edges = [0.1, 0.2, 0.3, 0.0, 0.5, 0.4, -0.1, -0.2]
    expected = [np.tanh(edge / extent[place % 2]) for place, edge in enumerate([*edges, 0.2, 0.1])]
    assert features[19:29] == pytest.approx(expected, abs=1e-6)
    assert features[-1] == 1
