import pytest

from regard.evaluation.multiple_tests import holm


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # as R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        ([0.6, 0.5], [1.0, 1.0]),
    ],
)
def test_holm(given, adjusted):
    assert holm(given) == pytest.approx(adjusted)
