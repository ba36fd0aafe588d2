"""Twins: does a model distinguish two pictures of the same things in different relations?"""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from regard.data import Split
from regard.data.twins import Twins
from regard.metrics import refuse_nan

CHANCE = 50.0


@dataclass(frozen=True)
class TwinAnswers:
    """The sentences of one kind of twins that score their own picture above its twin, in percent."""

    correct: float  # a tie is wrong
    half_credit: float  # a tie is half right
    ties: float  # equal scores: of all sentences, in percent
    count: int  # number of sentences

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def twin_answers(scores: np.ndarray | torch.Tensor, split: Split) -> dict[str, TwinAnswers]:
    """Return how many sentences score their own picture above its twin, for each kind of twin.

    The kinds of Scenes are `relation` (a dog chases a man; a man chases a dog) and `attribute` (a red dog and a blue
    car; a blue dog and a red car), that of `regard data spatial` is `mirror`, and that of `regard data collage` is
    `exchange`. A constant score has 0 correct, and 50 with half credit; chance is 50. `scores` is [image, text] over
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
    margin = scores[own, text] - scores[twin_of[own], text]
    return {str(kind): _answers(margin[kind_of[own] == kind]) for kind in sorted(set(kind_of[own]))}


def twin_accuracy(scores: np.ndarray | torch.Tensor, split: Split) -> dict[str, float]:
    """Return `TwinAnswers.correct` of `twin_answers`, for each kind of twin."""
    return {kind: answers.correct for kind, answers in twin_answers(scores, split).items()}


def _answers(margin: np.ndarray) -> TwinAnswers:
    correct, ties = float(100 * (margin > 0).mean()), float(100 * (margin == 0).mean())
    return TwinAnswers(correct, correct + ties / 2, ties, len(margin))
