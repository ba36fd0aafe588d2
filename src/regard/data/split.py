"""One split of a data set: images once, texts once, and which text belongs to which image."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.batch import Images, Texts
from regard.data.layout import (
    Files,
    Pairing,
    boxes_of,
    counts_of,
    features_of,
    files_of,
    labels_of,
    named,
    pair,
    sizes_of,
)
from regard.data.lines import Lines
from regard.data.names import renumbering
from regard.data.relation_files import Triples
from regard.data.rows import Column, Renumbered, Rows, Shards
from regard.words import ROLES


@dataclass(frozen=True, eq=False)
class Split:
    """Region features and sentences, on disk and read by rows. Nothing here grows with the feature file."""

    folder: Path
    name: str
    features: Column  # [image, region, feature]
    ids: Sequence  # of str, one an image
    captions: Sequence  # of str, one a text, read when asked for
    image_of_text: np.ndarray  # int64 [text], the image row of each sentence
    region_counts: np.ndarray | None = None  # int64 [image], how many regions are real; None = all
    boxes: Column | None = None  # [image, region, 4] as fractions of the image
    sizes: np.ndarray | None = None  # int [image, 2], width and height in pixels
    labels: Column | None = None  # [image, region], object class from 1
    classes: tuple[str, ...] = ()  # names of the labels, classes[0] being "none"
    relations: Triples | None = None
    text_relations: Triples | None = None
    relation_threshold: float = 0.5  # less sure relations are left out

    @property
    def num_images(self) -> int:
        return len(self.features)

    @property
    def num_texts(self) -> int:
        return len(self.captions)

    @property
    def num_regions(self) -> int:
        """The most that an image has."""
        return self.features.shape[1]

    @property
    def feature_dim(self) -> int:
        return self.features.shape[2]

    @property
    def fields(self) -> frozenset[str]:
        """Which of "boxes", "labels", "relations", "text_relations" and "roles" are there.

        "roles": the relations between words are those of regard.words.ROLES, as `regard data parse` writes them.
        """
        optional = ("boxes", "labels", "relations", "text_relations")
        there = {name for name in optional if getattr(self, name) is not None}
        return frozenset(there | ({"roles"} if self.text_labels == ROLES else set()))

    @property
    def predicates(self) -> tuple[str, ...]:
        """Names of the relations, predicates[0] being "none"."""
        return self.relations.names if self.relations else ()

    @property
    def text_labels(self) -> tuple[str, ...]:
        """Names of the relations between words, text_labels[0] being "none"."""
        return self.text_relations.names if self.text_relations else ()

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What the numbers of labels, relations, and relations between words mean."""
        return {"classes": self.classes, "predicates": self.predicates, "text_labels": self.text_labels}

    def renumbered(self, names: Mapping[str, Sequence[str]]) -> "Split":
        """The split with its labels and relations numbered as `names` has them (another split's), found by their names.

        What has no such name becomes none; where none has, the labels or relations are left out.
        """
        found: dict[str, Any] = {}
        if self.labels is not None and tuple(names["classes"]) != self.classes:
            places = renumbering(self.classes, names["classes"], alike=str)
            found |= {"labels": Renumbered(self.labels, places) if places.any() else None}
            found |= {"classes": tuple(names["classes"])}
        for field, listed in (("relations", "predicates"), ("text_relations", "text_labels")):
            triples = getattr(self, field)
            if triples is not None and tuple(names[listed]) != triples.names:
                places = renumbering(triples.names, names[listed], alike=str)
                found[field] = triples.renumbered(places, names[listed]) if places.any() else None
        return replace(self, **found) if found else self

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        split: str,
        *,
        captions_per_image: int | None = None,
        relation_threshold: float = 0.5,
    ) -> "Split":
        """Open `split` of a data folder; docs/data.md lists the layouts.

        Relations of less confidence than `relation_threshold` are left out. `captions_per_image` is needed only where
        the files do not say which sentence belongs to which image. Raises InputError.
        """
        files = files_of(folder, split)
        features, captions = features_of(files), Lines(files.path("caps.txt"))
        ids = Lines(path) if (path := files.found("ids.txt")) else None
        pairing = pair(files, len(features), len(captions), ids, captions_per_image)
        return cls.of(files, features, captions, named(files, pairing, ids), pairing, relation_threshold)

    @classmethod
    def of(
        cls,
        files: Files,
        features: Rows | Shards,
        captions: Sequence,
        ids: Sequence,
        pairing: Pairing,
        relation_threshold: float = 0.5,
    ) -> "Split":
        """The split with whatever optional files lie beside its features. Raises InputError."""
        num_regions = features.shape[1]
        sizes = sizes_of(files, pairing)
        labels, classes = labels_of(files, pairing, num_regions)
        relations, text_relations = files.found("relations.npz"), files.found("text_relations.npz")
        return cls(
            files.folder,
            files.split,
            features.taking(pairing.rows),
            ids,
            captions,
            pairing.image_of_text,
            region_counts=counts_of(files, pairing, num_regions),
            boxes=boxes_of(files, pairing, num_regions, sizes),
            sizes=sizes,
            labels=labels,
            classes=classes,
            relations=Triples.load(relations, pairing.num_images, num_regions) if relations else None,
            text_relations=Triples.load(text_relations, len(captions)) if text_relations else None,
            relation_threshold=relation_threshold,
        )

    def images(self, rows: Sequence[int] | np.ndarray | torch.Tensor) -> Images:
        """The images at `rows`, in any order, repeats allowed; features as stored, zero beyond an image's regions.

        Safe to call from several threads at once.
        """
        rows = np.asarray(rows, np.int64)
        counts = np.full(len(rows), self.num_regions) if self.region_counts is None else self.region_counts[rows]
        mask = np.arange(self.num_regions) < counts[:, None]
        features = self.features.read(rows)
        if features.dtype == np.float64:
            features = features.astype(np.float32)
        parts: dict[str, Any] = {"features": features, "mask": mask}
        if self.boxes is not None:
            parts["boxes"] = self.boxes.read(rows).astype(np.float32, copy=False)
        if self.labels is not None:
            parts["labels"] = self.labels.read(rows).astype(np.int64)
        if self.region_counts is not None:
            for part in parts.values():
                part[~mask] = 0
        if self.relations is not None:
            parts["relations"] = self.relations.dense(rows, self.num_regions, self.relation_threshold, lengths=counts)
        return Images(**{name: torch.from_numpy(part) for name, part in parts.items()})

    def texts(self, rows: Sequence[int] | np.ndarray | torch.Tensor, tokenizer: Any) -> Texts:
        """The sentences at `rows` as `tokenizer` makes them, with their relations where the split has some.

        The file counts words from 0; `tokenizer.offset` fragments precede the first word, and as many follow the last.
        """
        rows = np.asarray(rows, np.int64)
        texts = tokenizer([self.captions[row] for row in rows.tolist()])
        return texts if self.text_relations is None else related(texts, self.text_relations, rows, tokenizer.offset)


def related(texts: Texts, relations: Triples, rows: np.ndarray, offset: int) -> Texts:
    """The texts with the relations of `rows` among them; `offset` fragments precede the first word of each."""
    lengths = (texts.mask.sum(1) if texts.words is None else texts.words.amax(1)).numpy()
    width = texts.tokens.shape[1] if texts.words is None else int(lengths.max(initial=0))
    dense = relations.dense(rows, width, offset=offset, lengths=lengths - offset)
    return replace(texts, relations=torch.from_numpy(dense))
