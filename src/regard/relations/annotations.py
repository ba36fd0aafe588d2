"""Annotated regions and relations as numbers: the training data of a predictor of relations."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard.data.names import renumbering

BLOCK = 2**20  # pairs of regions in memory at a time, padding included


@dataclass(frozen=True)
class AnnotationBlock:
    """Some images, padded with regions of class 0. A relation is image, subject, object, predicate."""

    boxes: Float[Tensor, "image region 4"]
    labels: Int[Tensor, "image region"]
    relations: Int[Tensor, "relation 4"]

    def observations(self) -> Int[Tensor, "observation 4"]:
        """Return the relations, and the pairs of two objects without one as relations of predicate 0."""
        free = pairs_of(self.labels)
        image, subject, target, _ = self.relations.T
        free[image, subject, target] = False
        none = free.nonzero()
        return torch.cat([self.relations, torch.cat([none, none.new_zeros(len(none), 1)], 1)])

    def answers(self, num_predicates: int) -> Bool[Tensor, "image region region predicate"]:
        """Return which relations are annotated, for the predicates from 1."""
        count, width = self.labels.shape
        out = torch.zeros(count, width, width, num_predicates, dtype=torch.bool)
        image, subject, target, predicate = self.relations.T
        out[image, subject, target, predicate - 1] = True
        return out


@dataclass(frozen=True)
class Annotations:
    """The regions of all images one after another, and their relations sorted by image.

    Classes and predicates count from 1. Number 0 is "none": a region of class 0 is not an object and has no relations.
    """

    ids: tuple[str, ...]
    bounds: np.ndarray  # int64 [image + 1]: image i has the regions from bounds[i] to bounds[i + 1]
    boxes: np.ndarray  # float32 [region, 4], fractions of the image
    labels: np.ndarray  # int64 [region]
    relations: np.ndarray  # int64 [relation, 4]: image, subject and object (regions of that image), predicate
    classes: tuple[str, ...]
    predicates: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        relations, predicates, classes = len(self.relations), len(self.predicates) - 1, len(self.classes) - 1
        return f"{len(self):,} images, {relations:,} relations of {predicates:,} predicates between {classes:,} classes"

    def frequent(self, classes: int | None, predicates: int | None, at_least: int = 10) -> "Annotations":
        """Return the annotations of the most frequent classes and predicates only.

        By default these are the ones that occur `at_least` times. Predicates are counted between the classes that are
        kept.
        """
        kept = self.named(_frequent(self.labels, self.classes, classes, at_least), self.predicates)
        return kept.named(kept.classes, _frequent(kept.relations[:, 3], self.predicates, predicates, at_least))

    def named(self, classes: Sequence[str], predicates: Sequence[str]) -> "Annotations":
        """Return the annotations renumbered to other lists of names.

        Regions and relations with a name that is not on the lists are left out.
        """
        labels = renumbering(self.classes, classes)[self.labels]
        image, subject, target, predicate = self.relations.T
        first = self.bounds[image]
        predicate = renumbering(self.predicates, predicates)[predicate]
        kept = (labels[first + subject] > 0) & (labels[first + target] > 0) & (predicate > 0)
        relations = np.stack([image, subject, target, predicate], 1)[kept]
        return replace(self, labels=labels, relations=relations, classes=tuple(classes), predicates=tuple(predicates))

    def held_out_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the images to train on and the tenth of them to measure on, chosen by a hash of their ids."""
        held = self.id_hashes() % 10 == 0
        return np.flatnonzero(~held), np.flatnonzero(held)

    def id_hashes(self) -> np.ndarray:
        """Return int64 [image]: a hash of each image id, for splits that are always the same."""
        return np.array([zlib.crc32(name.encode()) for name in self.ids], np.int64)

    def blocks(self, rows: np.ndarray, pairs: int = BLOCK) -> Iterator[AnnotationBlock]:
        """Yield the images at `rows` in blocks of about `pairs` pairs of regions, by number of regions."""
        sizes = np.diff(self.bounds)
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        starts = np.searchsorted(self.relations[:, 0], np.arange(len(self) + 1))
        first = 0
        while first < len(rows):
            last = len(rows)
            while last - first > 1 and (last - first) * int(sizes[rows[last - 1]]) ** 2 > pairs:
                last = first + (last - first) // 2
            some = rows[first:last]
            first = last
            place = np.arange(sizes[some].max(initial=0))
            real = place < sizes[some, None]
            region = np.where(real, self.bounds[some, None] + place, 0)
            counts = starts[some + 1] - starts[some]
            image = np.repeat(np.arange(len(some)), counts)
            at = np.arange(len(image)) + np.repeat(starts[some] - np.cumsum(counts) + counts, counts)
            relations = np.concatenate([image[:, None], self.relations[at, 1:]], 1)
            boxes = np.where(real[..., None], self.boxes[region], 0)
            labels = np.where(real, self.labels[region], 0)
            yield AnnotationBlock(*map(torch.from_numpy, (boxes, labels, relations)))


def pairs_of(labels: Int[Tensor, "image region"]) -> Bool[Tensor, "image region region"]:
    """Return which pairs consist of two different objects."""
    objects = labels > 0
    return objects[:, :, None] & objects[:, None, :] & ~torch.eye(labels.shape[1], dtype=torch.bool)


def _frequent(seen: np.ndarray, names: Sequence[str], most: int | None, at_least: int) -> tuple[str, ...]:
    counts = np.bincount(seen, minlength=len(names))
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= at_least] if most is None else order[: min(most, int((counts > 0).sum()))]
    return ("none", *(names[place] for place in order))
