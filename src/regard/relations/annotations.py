"""Annotated regions and relations of images, as arrays: the training data of the relation predictor."""

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
    """A few images, padded with regions of class 0. A relation is (image, subject, object, predicate)."""

    boxes: Float[Tensor, "image region 4"]
    labels: Int[Tensor, "image region"]
    relations: Int[Tensor, "relation 4"]

    def observations(self) -> Int[Tensor, "observation 4"]:
        """Return the relations, and each pair of two objects without a relation as one of predicate 0."""
        unrelated = pairs_of(self.labels)
        image, subject, target, _ = self.relations.T
        unrelated[image, subject, target] = False
        pairs = unrelated.nonzero()
        return torch.cat([self.relations, torch.cat([pairs, pairs.new_zeros(len(pairs), 1)], 1)])

    def relation_masks(self, num_predicates: int) -> Bool[Tensor, "image region region predicate"]:
        """Return whether each relation is annotated. The last axis starts at predicate 1."""
        count, width = self.labels.shape
        out = torch.zeros(count, width, width, num_predicates, dtype=torch.bool)
        image, subject, target, predicate = self.relations.T
        out[image, subject, target, predicate - 1] = True
        return out


@dataclass(frozen=True)
class Annotations:
    """The regions of all images in one list, and their relations sorted by image.

    Class 0 and predicate 0 are "none". A region of class 0 is not an object and has no relations.
    """

    ids: tuple[str, ...]
    bounds: np.ndarray  # int64 [image + 1]: the regions of image i are bounds[i] to bounds[i + 1] - 1
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

    def most_frequent(self, classes: int | None, predicates: int | None, at_least: int = 10) -> "Annotations":
        """Return the annotations with only the `classes` and `predicates` most frequent names.

        If a number is None, the names that occur at least `at_least` times are kept. Predicates are counted between the
        classes that are kept.
        """
        kept = self.renumbered(_most_frequent(self.labels, self.classes, classes, at_least), self.predicates)
        names = _most_frequent(kept.relations[:, 3], self.predicates, predicates, at_least)
        return kept.renumbered(kept.classes, names)

    def renumbered(self, classes: Sequence[str], predicates: Sequence[str]) -> "Annotations":
        """Return the annotations with the numbers that the names have in other lists.

        A region whose class is not in the list gets class 0. Its relations, and those whose predicate is not in the
        list, are left out.
        """
        labels = renumbering(self.classes, classes)[self.labels]
        image, subject, target, predicate = self.relations.T
        first = self.bounds[image]
        predicate = renumbering(self.predicates, predicates)[predicate]
        kept = (labels[first + subject] > 0) & (labels[first + target] > 0) & (predicate > 0)
        relations = np.stack([image, subject, target, predicate], 1)[kept]
        return replace(self, labels=labels, relations=relations, classes=tuple(classes), predicates=tuple(predicates))

    def held_out_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of nine tenths of the images and of the held-out tenth, chosen by a hash of the image ids."""
        held_out = self.id_hashes() % 10 == 0
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def id_hashes(self) -> np.ndarray:
        """Return int64 [image]: a hash of each image id, for deterministic splits."""
        return np.array([zlib.crc32(name.encode()) for name in self.ids], np.int64)

    def blocks(self, rows: np.ndarray, pairs: int = BLOCK) -> Iterator[AnnotationBlock]:
        """Yield the images at `rows`, sorted by number of regions, in blocks of at most `pairs` pairs of regions.

        A block has at least one image, so a single image may exceed `pairs`.
        """
        sizes = np.diff(self.bounds)
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        starts = np.searchsorted(self.relations[:, 0], np.arange(len(self) + 1))
        first = 0
        while first < len(rows):
            last = len(rows)
            while last - first > 1 and (last - first) * int(sizes[rows[last - 1]]) ** 2 > pairs:
                last = first + (last - first) // 2
            chosen = rows[first:last]
            first = last
            position = np.arange(sizes[chosen].max(initial=0))
            real = position < sizes[chosen, None]
            region = np.where(real, self.bounds[chosen, None] + position, 0)
            counts = starts[chosen + 1] - starts[chosen]
            image = np.repeat(np.arange(len(chosen)), counts)
            at = np.arange(len(image)) + np.repeat(starts[chosen] - np.cumsum(counts) + counts, counts)
            relations = np.concatenate([image[:, None], self.relations[at, 1:]], 1)
            boxes = np.where(real[..., None], self.boxes[region], 0)
            labels = np.where(real, self.labels[region], 0)
            yield AnnotationBlock(*map(torch.from_numpy, (boxes, labels, relations)))


def pairs_of(labels: Int[Tensor, "image region"]) -> Bool[Tensor, "image region region"]:
    """Return whether each pair consists of two different objects."""
    objects = labels > 0
    return objects[:, :, None] & objects[:, None, :] & ~torch.eye(labels.shape[1], dtype=torch.bool)


def _most_frequent(numbers: np.ndarray, names: Sequence[str], limit: int | None, at_least: int) -> tuple[str, ...]:
    counts = np.bincount(numbers, minlength=len(names))
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= at_least] if limit is None else order[: min(limit, int((counts > 0).sum()))]
    return ("none", *(names[number] for number in order))
