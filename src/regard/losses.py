"""Losses: functions of the score matrix and of which pairs match.

`scores[i, t]` is the score of image i and text t; `matches[i, t]` is True if they belong together. Every match is
compared with the negatives of its row (texts of other images) and of its column (other images). Losses are sums over
matches and both directions. Other texts of the same image are matches, never negatives.
`matches` may be on the CPU while the scores are on a GPU: then nothing is read from the GPU.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regard.batch import host, to_device

Negatives = Literal["hardest", "sum", "soft", "soft_hinge"]


def triplet(
    scores: Float[Tensor, "image text"],
    matches: Bool[Tensor, "image text"],
    margin: float = 0.2,
    negatives: Negatives = "hardest",
    temperature: float = 0.05,
    scored: Bool[Tensor, "image text"] | None = None,
) -> Float[Tensor, ""]:
    """Return the hinge loss with a margin, of each match against the negatives of its row and of its column.

    hardest: only the negative with the highest score (VSE++, Faghri et al. 2018). sum: every negative. soft: the
    log-sum-exp over the negatives and the match, `temperature * log(1 + sum exp(violation / temperature))`. It tends to
    `hardest` as the temperature falls, and is the in-batch softmax with a margin. soft_hinge (TVRN, Pang et al. 2024):
    the same with hinges, `temperature * log(1 + sum exp(relu(violation) / temperature))`, which is at least
    `temperature * log(1 + negatives)`. The paper's loss has the factor 1 / temperature and is the mean over matches and
    directions: this loss is 2 x matches x temperature times the paper's.

    Pairs that are not `scored` (by default all are) are no negatives. All matches must be scored.
    """
    images, texts = (to_device(places, scores.device) for places in host(matches).nonzero(as_tuple=True))
    matches = to_device(matches, scores.device)
    excluded_pairs = matches if scored is None else matches | ~scored
    match = scores[images, texts][:, None]
    total = scores.new_zeros(())
    for others, excluded in (
        (scores[images], excluded_pairs[images]),
        (scores.T[texts], excluded_pairs.T[texts]),
    ):
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


def is_collapsed(scores: Float[Tensor, "image text"], matches: Bool[Tensor, "image text"], margin: float) -> bool:
    """Return whether the scores of all pairs differ by less than 2 % of the margin.

    Then every hinge nearly equals the margin and nothing is learnt. With hardest negatives the loss stays at 2 x
    matches x margin; a cold start on hardest negatives causes this. A batch without negatives is never collapsed.
    """
    if host(matches).all():
        return False
    return bool((scores.max() - scores.min()) < 0.02 * margin)
