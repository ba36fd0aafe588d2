"""Corrections for several tests or intervals at once."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order.

    If all hypotheses with an adjusted value below 0.05 are rejected, the probability of rejecting any true one is at
    most 0.05, whatever the dependence between the tests. Source: Holm, A Simple Sequentially Rejective Multiple Test
    Procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted, highest = list(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
