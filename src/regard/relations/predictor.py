"""The relation predictor: the probability of each predicate between two regions, given their classes and boxes.

It is the frequency prior that Neural Motifs (Zellers et al. 2018) found to be strong, smoothed and with geometry.
"none" (no relation) is one outcome for a pair of a subject s and an object o:

    log p(predicate | s, o, boxes) = a log p(none or some | s, o) + b log p(predicate | some, s, o) + w·f(boxes) + c

Both factors are counted for the pair of classes and shrunk toward the mean of those of either class, which are shrunk
toward those of all pairs. The strengths of shrinkage maximise the likelihood of images that were not counted. a, b, w
and c are maximum-likelihood estimates given factors counted on other images, so they calibrate the prior too.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from regard.boxes import PAIR_FEATURES, pair_features
from regard.checksums import check_tensors, save_tensors
from regard.files import InputError, parse_json
from regard.relations.annotations import Annotations, pairs_of

FORMAT = "regard.predicates.1"
FOLDS = 5
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
SAMPLES = 100_000  # relations, and as many pairs without a relation, that the weights are fitted to
TABLE = 2**22  # entries of a table [pair, predicate] in memory at a time
MAX_STEPS = 200  # of L-BFGS

Table = tuple[Tensor, Tensor]  # keys of (subject class, object class, predicate), sorted, and the count of each


@dataclass(frozen=True, eq=False)
class Predictor:
    """P(predicate | class of the subject, class of the object, boxes), where predicate 0 is "no relation".

    A label is an index into `classes`. Label 0 is not an object; `len(classes)` stands for every unknown class.
    """

    classes: tuple[str, ...]
    predicates: tuple[str, ...]
    keys: Int[Tensor, " key"]  # sorted: (subject class, object class, predicate) as one number
    counts: Float[Tensor, " key"]  # number of observations of each key
    # Factors: whether the pair is related; its predicate. Levels: the pair of classes; a single class.
    strengths: Float[Tensor, "factor level"]
    exponents: Float[Tensor, " factor"]  # a and b
    weights: Float[Tensor, "feature predicate"]  # w and, last, c

    def probabilities(
        self, boxes: Float[Tensor, "image region 4"], labels: Int[Tensor, "image region"]
    ) -> Float[Tensor, "image region region predicate"]:
        """Return the probability of each predicate for each (subject, object). They sum to 1 over predicates.

        The probability of "no relation" is 1 if either region is not an object, or if both are the same region.
        """
        image, subject, target = pairs_of(labels).nonzero(as_tuple=True)
        count, width = labels.shape
        out = boxes.new_zeros(count, width, width, len(self.predicates))
        out[..., 0] = 1
        prior = self.prior(labels[image, subject], labels[image, target])
        features = pair_features(boxes[image, subject], boxes[image, target])
        out[image, subject, target] = (_logits(*prior, self.exponents) + features @ self.weights).softmax(-1)
        return out

    def prior(
        self, subject: Int[Tensor, " pair"], target: Int[Tensor, " pair"]
    ) -> tuple[Float[Tensor, "pair 2"], Float[Tensor, "pair named"]]:
        """Return the logarithms of both factors: P(none or some), and P(predicate | some) for predicates from 1."""
        return _prior(self._levels(subject, target), self.strengths)

    def _levels(self, subject: Tensor, target: Tensor) -> list[Tensor]:
        """Counts [pair, predicate] for each pair of classes, for its subject, for its object, and for all pairs."""
        as_subject, as_object = self.marginals
        overall = as_subject.sum(0, keepdim=True)
        return [self._pair_counts(subject, target), as_subject[subject], as_object[target], overall]

    def _pair_counts(self, subject: Tensor, target: Tensor) -> Tensor:
        """Counts [pair, predicate] for each pair of classes, looked up in the sorted keys."""
        size = len(self.predicates)
        key = (subject * (len(self.classes) + 1) + target) * size
        first, last = torch.searchsorted(self.keys, torch.stack([key, key + size]))
        pair = torch.repeat_interleave(last - first)
        at = torch.arange(len(pair)) + (first - (last - first).cumsum(0) + last - first)[pair]
        out = torch.zeros(len(subject), size)
        out[pair, self.keys[at] % size] = self.counts[at]
        return out

    @cached_property
    def marginals(self) -> tuple[Tensor, Tensor]:
        """The counts [class, predicate] of each class as a subject, and as an object."""
        names, size = len(self.classes) + 1, len(self.predicates)
        pair, predicate = self.keys // size, self.keys % size
        zeros = torch.zeros(names * size)
        as_subject, as_object = (
            zeros.index_add(0, label * size + predicate, self.counts).view(names, size)
            for label in (pair // names, pair % names)
        )
        return as_subject, as_object

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, whole or not at all."""
        names = {"format": FORMAT, "classes": json.dumps(self.classes), "predicates": json.dumps(self.predicates)}
        save_tensors(path, {name: getattr(self, name) for name in _TENSORS}, names)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Predictor":
        """Read a file that `save` wrote. Raises InputError if it is missing or is another file."""
        try:
            check_tensors(path)
            with safe_open(path, "pt") as file:
                names = file.metadata() or {}
                if names.get("format") != FORMAT:
                    raise SafetensorError("it has another format")
                lists: dict[str, Any] = {name: tuple(parse_json(names[name])) for name in ("classes", "predicates")}
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
                if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
                    raise ValueError(f"{broken[0]} contains NaN or infinity")
                return cls(**lists, **tensors)
        except FileNotFoundError:
            raise InputError(f"{path} is not there. `regard relations fit` writes one.") from None
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} is not a predictor of relations ({error}): expected what `regard relations fit` wrote."
            ) from None


_TENSORS = tuple(field.name for field in fields(Predictor) if field.name not in ("classes", "predicates"))


def _logits(related: Tensor, predicate: Tensor, exponents: Tensor) -> Tensor:
    """The logits [pair, predicate] of both factors of the prior, without the boxes."""
    a, b = exponents
    return torch.cat([a * related[:, :1], a * related[:, 1:] + b * predicate], 1)


def _prior(levels: list[Tensor], strengths: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of none or some relation, and of each predicate given some, from the counts of `_levels`."""
    none_or_some = [torch.stack([counts[:, 0], counts[:, 1:].sum(1)], 1) for counts in levels]
    named = [counts[:, 1:] for counts in levels]
    return _smooth(*none_or_some, *strengths[0]).log(), _smooth(*named, *strengths[1]).log()


def _smooth(
    pair: Tensor, subject: Tensor, target: Tensor, overall: Tensor, of_pair: Tensor, of_class: Tensor
) -> Float[Tensor, "pair outcome"]:
    """Distributions from counts [pair, outcome]. Each level is shrunk toward the next, the last toward uniform."""

    def shrink(counts: Tensor, base: Tensor, strength: Tensor | float) -> Tensor:
        return (counts + strength * base) / (counts.sum(1, keepdim=True) + strength)

    base = shrink(overall, torch.full_like(overall, 1 / overall.shape[1]), 1.0)
    mean = (shrink(subject, base, of_class) + shrink(target, base, of_class)) / 2
    return shrink(pair, mean, of_pair)


# Fitting --------------------------------------------------------------------------------------------------------------


def fit(images: Annotations, rows: np.ndarray | None = None) -> Predictor:
    """Fit a predictor to the images at `rows` (by default all). The result is deterministic.

    Strengths and weights are fitted by cross-fitting: the images are split into five folds by a hash of their ids, and
    the observations of each fold are predicted from the counts of the other four.
    """
    rows = np.arange(len(images)) if rows is None else rows
    fold_of = images.id_hashes()[rows] // 10 % FOLDS  # the last digit selects the held-out images
    folds = [rows[fold_of == fold] for fold in range(FOLDS)]
    tables = [_count(images, fold) for fold in folds]

    def build(tables: Sequence[Table], *fitted: Tensor) -> Predictor:
        return Predictor(images.classes, images.predicates, *_merge(tables), *fitted)

    ones, zeros = torch.ones(2), torch.zeros(PAIR_FEATURES, len(images.predicates))
    others = [build(tables[:fold] + tables[fold + 1 :], torch.ones(2, 2), ones, zeros) for fold in range(FOLDS)]
    strengths = _fit_strengths(others, tables)
    others = [replace(other, strengths=strengths) for other in others]
    return build(tables, strengths, *_fit_weights(images, folds, others))


def _count(images: Annotations, rows: np.ndarray) -> Table:
    """The number of observations of each (subject class, object class, predicate) in the images at `rows`."""
    names, size, tables = len(images.classes) + 1, len(images.predicates), []
    for block in images.blocks(rows):
        image, subject, target, predicate = block.observations().T
        pair = block.labels[image, subject] * names + block.labels[image, target]
        keys, counts = (pair * size + predicate).unique(return_counts=True)
        tables.append((keys, counts.float()))
    return _merge(tables)


def _merge(tables: Sequence[Table]) -> Table:
    keys = torch.cat([torch.zeros(0, dtype=torch.long), *(keys for keys, _ in tables)])
    counts = torch.cat([torch.zeros(0), *(counts for _, counts in tables)])
    keys, key_of = keys.unique(return_inverse=True)
    return keys, torch.zeros(len(keys)).index_add(0, key_of, counts)


def _fit_strengths(others: Sequence[Predictor], tables: Sequence[Table]) -> Float[Tensor, "factor level"]:
    """The strengths of each factor that maximise the likelihood of each fold's counts given those of the others."""
    grid = torch.tensor(list(product(STRENGTHS, STRENGTHS)))
    losses = torch.zeros(2, len(grid))
    for other, (keys, counts) in zip(others, tables, strict=True):
        names, size = len(other.classes) + 1, len(other.predicates)
        pair = (keys // size).unique()
        pair = pair[torch.randperm(len(pair), generator=torch.Generator().manual_seed(0))[: TABLE // size]]
        levels = other._levels(pair // names, pair % names)
        held_out = replace(other, keys=keys, counts=counts)._pair_counts(pair // names, pair % names)
        for row, strengths in enumerate(grid):
            related, predicate = _prior(levels, strengths.expand(2, 2))
            losses[0, row] -= (held_out[:, 0] * related[:, 0] + held_out[:, 1:].sum(1) * related[:, 1]).sum()
            losses[1, row] -= (held_out[:, 1:] * predicate).sum()
    return grid[losses.argmin(1)]


def _fit_weights(
    images: Annotations, folds: Sequence[np.ndarray], others: Sequence[Predictor]
) -> tuple[Float[Tensor, " factor"], Float[Tensor, "feature predicate"]]:
    """Maximum-likelihood exponents and weights, with a unit normal prior of the weights, by L-BFGS.

    Of more than `SAMPLES` relations, or pairs without one, about `SAMPLES` are drawn and weighted by 1 / their rate.
    """
    size, random = len(images.predicates), torch.Generator().manual_seed(0)
    totals = torch.stack([other.marginals[0].sum(0) for other in others]).sum(0) / (FOLDS - 1)
    rate = (min(SAMPLES, TABLE // size) / torch.stack([totals[0], totals[1:].sum()]).clamp(min=1)).clamp(max=1)
    parts = []
    for rows, other in zip(folds, others, strict=True):
        for block in images.blocks(rows):
            observations = block.observations()
            rates = rate[(observations[:, 3] > 0).long()]
            drawn = torch.rand(len(observations), generator=random) < rates
            image, subject, target, label = observations[drawn].T
            prior = other.prior(block.labels[image, subject], block.labels[image, target])
            features = pair_features(block.boxes[image, subject], block.boxes[image, target])
            parts.append((*prior, features, label, 1 / rates[drawn]))
    related, predicate, features, label, weight = (torch.cat(columns) for columns in zip(*parts, strict=True))
    exponents = torch.ones(2, requires_grad=True)
    weights = torch.zeros(PAIR_FEATURES, size, requires_grad=True)
    optimizer = torch.optim.LBFGS([exponents, weights], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = _logits(related, predicate, exponents) + features @ weights
        losses = F.cross_entropy(logits, label, reduction="none")
        loss = (losses @ weight + weights.square().sum() / 2) / weight.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return exponents.detach(), weights.detach()
