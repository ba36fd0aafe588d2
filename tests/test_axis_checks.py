"""Types and axis names are checked in each call of the package."""

from functools import partial

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from axis_checks import jaxtyped
from regard.batch import Vectors
from regard.losses import triplet

SCORES, MATCHES = torch.zeros(3, 4), torch.eye(3, 4).bool()


def test_axes_of_one_name_have_one_size_in_a_call():
    assert triplet(SCORES, MATCHES) > 0
    assert triplet(SCORES.T, MATCHES.T) > 0  # another call, other sizes
    with pytest.raises(TypeError, match="matches"):
        triplet(SCORES, MATCHES.T)
    assert triplet(SCORES, MATCHES) > 0  # an error leaves no sizes behind


def test_types_of_numbers_and_of_arguments_without_axes_are_checked():
    with pytest.raises(TypeError, match="matches"):
        triplet(SCORES, SCORES)
    with pytest.raises(TypeError, match="margin"):
        triplet(SCORES, MATCHES, margin="0.2")


def test_fields_are_checked():
    with pytest.raises(TypeError, match="vectors"):
        Vectors(torch.zeros(3, 4, 5))


def test_results_are_checked():
    @partial(jaxtyped, typechecker=None)
    def swapped(scores: Float[Tensor, "image text"]) -> Float[Tensor, "image text"]:
        return scores.T

    with pytest.raises(TypeError, match="return"):
        swapped(SCORES)
    assert swapped(SCORES[:, :3]).shape == (3, 3)
