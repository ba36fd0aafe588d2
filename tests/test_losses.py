import math
from typing import get_args

import pytest
import torch

from regard.losses import Negatives, is_collapsed, triplet

IMAGE_OF_TEXT = torch.tensor([0, 1, 1, 2, 2, 2, 3])  # several texts of one image in a batch
MATCHES = torch.arange(4)[:, None] == IMAGE_OF_TEXT


def scores(seed=0):
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.3


def by_loops(scores, margin, negatives, temperature=0.05):
    """Return the same loss, computed one hinge at a time."""
    total = 0.0
    for text, image in enumerate(IMAGE_OF_TEXT.tolist()):
        match = float(scores[image, text])
        of_row = [float(scores[image, t]) for t, i in enumerate(IMAGE_OF_TEXT.tolist()) if i != image]
        of_column = [float(scores[i, text]) for i in range(4) if i != image]
        for others in (of_row, of_column):
            violations = [margin + other - match for other in others]
            if negatives == "hardest":
                total += max(0.0, *violations)
            elif negatives == "sum":
                total += sum(max(0.0, violation) for violation in violations)
            else:
                if negatives == "soft_hinge":
                    violations = [max(0.0, violation) for violation in violations]
                total += temperature * math.log(1 + sum(math.exp(violation / temperature) for violation in violations))
    return total


@pytest.mark.parametrize("negatives", ["hardest", "sum", "soft", "soft_hinge"])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_loss_equals_plain_loops(negatives, margin):
    for seed in range(3):
        loss = triplet(scores(seed), MATCHES, margin, negatives)
        assert float(loss) == pytest.approx(by_loops(scores(seed), margin, negatives), rel=1e-10)


@pytest.mark.parametrize("negatives", ["hardest", "sum", "soft"])
def test_another_text_of_the_same_image_is_no_negative(negatives):
    """Texts 1 and 2 both belong to image 1, so that a much higher score of one adds nothing to the loss."""
    matrix = torch.full((4, 7), -5.0, dtype=torch.float64)
    matrix[MATCHES] = 0.0
    matrix[1, 1] = 4.0
    assert float(triplet(matrix, MATCHES, 0.2, negatives)) == pytest.approx(0, abs=1e-10)


def test_soft_tends_to_hardest_as_the_temperature_falls():
    hardest = float(triplet(scores(), MATCHES, negatives="hardest"))
    gaps = [float(triplet(scores(), MATCHES, 0.2, "soft", t)) - hardest for t in (0.3, 0.1, 0.03, 0.01, 0.001)]
    assert min(gaps) > -1e-10
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.01 * hardest


def test_the_soft_hinge_is_the_papers_scaled():
    """TVRN's form: cross entropy of the hinges with the diagonal (0) as target, averaged over both directions."""
    matrix, margin, temperature = scores()[:, :4].sigmoid(), 0.2, 0.05
    hinges = [margin + matrix - matrix.diagonal()[:, None], margin + matrix.T - matrix.diagonal()[:, None]]
    hinges = [hinge.relu().masked_fill(torch.eye(4).bool(), 0) / temperature for hinge in hinges]
    paper = sum(torch.nn.functional.cross_entropy(hinge, torch.arange(4)) for hinge in hinges) / 2
    ours = triplet(matrix, torch.eye(4).bool(), margin, "soft_hinge", temperature)
    assert float(ours) == pytest.approx(2 * 4 * temperature * float(paper), rel=1e-10)


def test_the_soft_hinge_has_a_floor():
    """If every match scores far higher, each hinge is 0, and the log counts the negatives and the match."""
    matrix = torch.full((4, 7), -5.0, dtype=torch.float64).masked_fill(MATCHES, 5.0)
    matrix[1, 1] = 9.0  # text 1 is a match of image 1, so not a negative of text 2
    negatives = [(7 - int(MATCHES[image].sum())) for image in IMAGE_OF_TEXT.tolist()]
    floor = 0.05 * sum(math.log(1 + count) + math.log(1 + 3) for count in negatives)
    assert float(triplet(matrix, MATCHES, 0.2, "soft_hinge")) == pytest.approx(floor, rel=1e-10)


@pytest.mark.parametrize("negatives", ["hardest", "sum", "soft", "soft_hinge"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradients_are_finite(negatives, scale):
    matrix = (scores() * scale).requires_grad_()
    triplet(matrix, MATCHES, negatives=negatives).backward()
    assert matrix.grad.isfinite().all()
    assert scale == 1e4 or matrix.grad.any()


@pytest.mark.parametrize("negatives", ["hardest", "sum", "soft", "soft_hinge"])
def test_without_any_negative_there_is_nothing_to_learn(negatives):
    """All texts of the batch belong to one image."""
    matrix = torch.zeros(1, 3, requires_grad=True)
    loss = triplet(matrix, torch.ones(1, 3).bool(), negatives=negatives)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not matrix.grad.any()


def test_equal_scores_far_inside_the_margin_are_a_collapse():
    assert is_collapsed(torch.full((4, 7), 0.7), MATCHES, margin=0.2)
    assert is_collapsed(0.7 + 1e-4 * scores(), MATCHES, margin=0.2)
    assert not is_collapsed(scores(), MATCHES, margin=0.2)
    assert not is_collapsed(torch.zeros(1, 3), torch.ones(1, 3).bool(), margin=0.2)  # no negatives
    loss = triplet(torch.full((4, 7), 0.7), MATCHES, 0.2, "hardest")
    assert float(loss) == pytest.approx(2 * 0.2 * 7)  # 2 x matches x margin


@pytest.mark.parametrize("negatives", get_args(Negatives))
def test_nothing_is_read_from_the_device(negatives):
    """On the meta device, reading a value is an error. The matches stay on the CPU."""
    scores = torch.rand(3, 4, device="meta", requires_grad=True)
    matches = torch.arange(3)[:, None] == torch.tensor([0, 1, 2, 0])
    triplet(scores, matches, negatives=negatives).backward()
    assert scores.grad.shape == (3, 4)


@pytest.mark.parametrize("negatives", ["hardest", "sum", "soft", "soft_hinge"])
def test_pairs_that_are_not_scored_are_no_negatives(negatives):
    """The loss over some texts is the loss of a smaller matrix if every image lacks the same texts."""
    random = torch.Generator().manual_seed(0)
    scores, matches = torch.rand(4, 6, generator=random), torch.zeros(4, 6, dtype=torch.bool)
    matches[[0, 1, 2, 3], [0, 1, 2, 3]] = True
    scored = torch.ones_like(matches)
    scored[:, 4:] = False
    expected = triplet(scores[:, :4], matches[:, :4], negatives=negatives)
    torch.testing.assert_close(triplet(scores, matches, negatives=negatives, scored=scored), expected)
    assert triplet(scores, matches, negatives=negatives) > expected
