"""Measure how much each relation of an image changes the score of a sentence, beside random relations as noise.

A relation is removed and the image is encoded and scored again. A random relation is one that the image does not have:
it connects two unrelated regions by a predicate of the image. It is added, and its effect is that of removing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard.batch import Images
from regard.matcher import Matcher
from regard.score import score_all

CHUNK = 64  # changed images that are encoded at a time
MIN_RANDOM = 20  # random relations of an image with fewer relations
ROUNDING = 1e-6  # smaller changes of a float32 score are rounding errors

RelationEnds = tuple[int, int, int]  # subject region, predicate, object region


@dataclass(frozen=True)
class RelationEffects:
    """The effect of each relation of an image: the score of a sentence minus its score without the relation.

    If two regions are related in both directions, both relations are removed together.
    """

    relations: tuple[RelationEnds, ...]
    effects: Float[np.ndarray, " relation"]
    random: Float[np.ndarray, " random"]  # the effects of random relations

    @classmethod
    def of(cls, model: Matcher, images: Images, sentences: Sequence[Any]) -> "tuple[RelationEffects, ...] | None":
        """Return the effects of the relations of one image for each encoded sentence.

        `images` is on the device of the model and in its dtype. None if the model does not read relations. The random
        relations are the same at each call. There are none if all regions are related.
        """
        if "relations" not in model.needs() or images.relations is None:
            return None
        stored = images.relations[0].cpu()
        real = images.mask[0].cpu()
        related = (stored > 0) & real & real[:, None]
        ends = related.nonzero()
        labels = stored[ends[:, 0], ends[:, 1]]
        pairs = ends.sort(1).values.unique(dim=0)
        changed = [stored[None], _without(stored, pairs), _with_random(stored, related, real, labels, len(pairs))]
        scores = [_scores(model, images, relations, sentences) for relations in changed]

        number = real.cumsum(0) - 1  # of each region, without padding
        named = [(int(number[s]), int(label), int(number[o])) for (s, o), label in zip(ends, labels, strict=True)]
        place = {tuple(pair): at for at, pair in enumerate(pairs.tolist())}
        pair_of = [place[(min(pair), max(pair))] for pair in ends.tolist()]
        return tuple(
            cls(tuple(named), whole - without[pair_of], added - whole)
            for whole, without, added in zip(*scores, strict=True)
        )

    @property
    def noise(self) -> float | None:
        """The largest effect of a random relation, without its sign; None if there is no random relation."""
        return float(np.abs(self.random).max()) if len(self.random) else None

    @property
    def notable(self) -> Bool[np.ndarray, " relation"]:
        """Whether the effect of each relation is larger than the noise; not if the noise is unknown."""
        noise = np.inf if self.noise is None else self.noise
        return np.abs(self.effects) > max(noise, ROUNDING)

    def minus(self, other: "RelationEffects") -> "RelationEffects":
        """Return the effects on the difference of two scores: this sentence's and another's, with the same image."""
        return replace(self, effects=self.effects - other.effects, random=self.random - other.random)


def _without(stored: Int[Tensor, "region region"], pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, "pair region region"]:
    """The relations without those of each pair of regions, in both directions."""
    changed, at = stored.repeat(len(pairs), 1, 1), torch.arange(len(pairs))
    changed[at, pairs[:, 0], pairs[:, 1]] = 0
    changed[at, pairs[:, 1], pairs[:, 0]] = 0
    return changed


def _with_random(
    stored: Int[Tensor, "region region"],
    related: Bool[Tensor, "region region"],
    real: Bool[Tensor, " region"],
    labels: Int[Tensor, " relation"],
    count: int,
) -> Int[Tensor, "random region region"]:
    """The relations with one random relation more each: at least `count` of them, as far as there are free pairs."""
    generator = torch.Generator().manual_seed(0)
    free = (real & real[:, None] & ~(related | related.T)).triu(1).nonzero()
    count = min(len(free), max(count, MIN_RANDOM)) if len(labels) else 0
    chosen = free[torch.randperm(len(free), generator=generator)[:count]]
    is_turned = torch.rand(count, generator=generator) < 0.5
    subject, object_ = torch.where(is_turned[:, None], chosen.flip(1), chosen).T
    changed = stored.repeat(count, 1, 1)
    if count:
        predicates = labels[torch.randint(len(labels), (count,), generator=generator)]
        changed[torch.arange(count), subject, object_] = predicates
    return changed


@torch.no_grad()
def _scores(
    model: Matcher, images: Images, relations: Int[Tensor, "image region region"], sentences: Sequence[Any]
) -> list[Float[np.ndarray, " image"]]:
    """The score of each sentence with the image, with each of these relations."""
    found: list[list[np.ndarray]] = [[np.zeros(0, np.float32)] for _ in sentences]
    for first in range(0, len(relations), CHUNK):
        some = relations[first : first + CHUNK]
        encoded = model.encode_images(replace(images[[0] * len(some)], relations=some.to(images.mask.device)))
        for scores, sentence in zip(found, sentences, strict=True):
            scores.append(score_all(model, encoded, sentence)[:, 0].numpy())
    return [np.concatenate(scores) for scores in found]
