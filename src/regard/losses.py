"""Losses: pure functions of the score matrix and of which pairs match.

`scores[i, t]` is the score of image i and text t; `matches[i, t]` says that they belong together. Every match is drawn
above the negatives of its row (other images' texts) and of its column (other images), summed over matches and both
ways. Other texts of the same image are matches, never negatives.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Negatives = Literal["hardest", "sum", "soft", "soft_hinge"]


def triplet(
    scores: Float[Tensor, "image text"],
    matches: Bool[Tensor, "image text"],
    margin: float = 0.2,
    negatives: Negatives = "hardest",
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """The hinge loss with a margin, of each match against its row's and its column's negatives.

    hardest: the highest-scoring negative only (VSE++, Faghri et al. 2018). sum: every negative. soft: the log-sum-exp
    over the negatives and the match itself, `temperature * log(1 + sum exp(violation / temperature))`, which tends to
    `hardest` as the temperature falls, and is the in-batch softmax with a margin. soft_hinge (TVRN, Pang et al. 2024):
    the same of hinges, `temperature * log(1 + sum exp(relu(violation) / temperature))`, which no pair can bring below
    `temperature * log(1 + negatives)`. The paper has 1 / temperature of it, the mean over matches and over both ways:
    this is 2 x matches x temperature of the paper's.
    """
    images, texts = matches.nonzero(as_tuple=True)
    match = scores[images, texts][:, None]
    total = scores.new_zeros(())
    for others, excluded in ((scores[images], matches[images]), (scores.T[texts], matches.T[texts])):
        violation = margin + others - match
        if negatives == "soft_hinge":
            violation = violation.relu()
        violation = violation.masked_fill(excluded, float("-inf"))
        if negatives == "hardest":
            total = total + violation.amax(1).relu().sum()
        elif negatives == "sum":
            total = total + violation.relu().sum()
        else:
            with_match = torch.cat([torch.zeros_like(match), violation / temperature], 1)
            total = total + temperature * with_match.logsumexp(1).sum()
    return total


def collapsed(scores: Float[Tensor, "image text"], matches: Bool[Tensor, "image text"], margin: float) -> bool:
    """Whether all pairs score alike, far inside the margin: then every hinge equals the margin and nothing is learnt.

    The field knows it as the loss that stays at 2 x batch x margin; hardest negatives from a cold start cause it.
    """
    if matches.all():
        return False
    return bool((scores.max() - scores.min()) < 0.02 * margin)
