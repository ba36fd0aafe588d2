"""Twins: does a model distinguish two pictures of the same things in different relations?"""

import numpy as np
import torch

from regard.data import Split
from regard.data.twins import Twins
from regard.metrics import refuse_nan

CHANCE = 50.0


def twin_accuracy(scores: np.ndarray | torch.Tensor, split: Split) -> dict[str, float]:
    """Return the percentage of sentences that score their own picture above its twin, for each kind of twin.

    The kinds are `relation` (a dog chases a man; a man chases a dog) and `attribute` (a red dog and a blue car; a blue
    dog and a red car). A tie counts as wrong, so a constant score has 0; chance is 50. `scores` is [image, text] over
    the whole split. Raises InputError for a split without twins, and for NaN.
    """
    pairs = Twins.of(split)
    twin_of, kind_of = np.full(split.num_images, -1), np.full(split.num_images, "", dtype=object)
    for one, other in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        twin_of[one], kind_of[one] = other, pairs.kind
    scores = np.asarray(scores)
    refuse_nan(scores)
    text = np.flatnonzero(twin_of[split.image_of_text] >= 0)
    own = split.image_of_text[text]
    right = scores[own, text] > scores[twin_of[own], text]
    return {str(kind): float(100 * right[kind_of[own] == kind].mean()) for kind in sorted(set(kind_of[own]))}
