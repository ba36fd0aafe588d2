"""A split of a data set: each image once, each text once, and the image of each text."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.batch import Images, Texts, Vectors
from regard.data.layout import (
    Files,
    Pairing,
    boxes_of,
    check_repeats,
    counts_of,
    features_of,
    files_of,
    image_ids,
    labels_of,
    pair,
    sizes_of,
)
from regard.data.lines import Lines
from regard.data.names import renumbering
from regard.data.relation_files import Triples
from regard.data.rows import Column, ConstantColumn, RenumberedColumn, Rows, Shards
from regard.files import InputError
from regard.words import ROLES


@dataclass(frozen=True, eq=False)
class Split:
    """Region features and sentences that stay on disk and are read by rows; memory does not grow with the features."""

    folder: Path
    name: str
    features: Column  # [image, region, feature]
    ids: Sequence  # of str, one per image
    captions: Sequence  # of str, one per text, read on access
    image_of_text: np.ndarray  # int64 [text], the image row of each text
    region_counts: np.ndarray | None = None  # int64 [image], number of real regions; None = all
    boxes: Column | None = None  # [image, region, 4] as fractions of the image
    sizes: np.ndarray | None = None  # int [image, 2], width and height in pixels
    labels: Column | None = None  # [image, region], object class from 1
    classes: tuple[str, ...] = ()  # names of the labels; classes[0] is "none"
    relations: Triples | None = None
    text_relations: Triples | None = None
    relation_threshold: float = 0.5  # relations of lower confidence are left out
    embeddings: tuple[Vectors, ...] = ()  # of each embedding model, one vector per image

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.features)

    @property
    def num_texts(self) -> int:
        """The number of sentences."""
        return len(self.captions)

    @property
    def num_regions(self) -> int:
        """The largest number of regions per image."""
        return self.features.shape[1]

    @property
    def counts(self) -> np.ndarray:
        """The number of real regions of each image, int [image]."""
        return np.full(self.num_images, self.num_regions) if self.region_counts is None else self.region_counts

    def digest(self) -> str:
        """Return a hash of the sizes, the ids, the sentences and some features, to compare what two processes read."""
        found = hashlib.sha256(repr((self.features.shape, self.num_texts, sorted(self.fields))).encode())
        found.update(self.image_of_text.tobytes())
        for lines in (self.ids, self.captions):
            found.update("\n".join(map(str, lines)).encode())
        rows = np.linspace(0, self.num_images - 1, min(self.num_images, 16), dtype=int)
        found.update(self.features.read(rows).tobytes())
        return found.hexdigest()[:16]

    def texts_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all texts in the order of their images, and bounds: image i has texts[bounds[i] : bounds[i + 1]]."""
        texts = np.argsort(self.image_of_text, kind="stable")
        return texts, np.searchsorted(self.image_of_text[texts], np.arange(self.num_images + 1))

    @property
    def feature_dim(self) -> int:
        """The number of features per region."""
        return self.features.shape[2]

    @property
    def fields(self) -> frozenset[str]:
        """The optional inputs that the split has: of "boxes", "labels", "relations", "text_relations", "roles" and
        "embeddings" (see `with_embeddings`).

        "roles" means that the relations between words are regard.words.ROLES, as `regard data parse` writes them.
        """
        optional = ("boxes", "labels", "relations", "text_relations")
        present = {name for name in optional if getattr(self, name) is not None}
        present |= {"embeddings"} if self.embeddings else set()
        return frozenset(present | ({"roles"} if self.text_labels == ROLES else set()))

    @property
    def predicates(self) -> tuple[str, ...]:
        """Names of the relations; predicates[0] is "none"."""
        return self.relations.names if self.relations else ()

    @property
    def text_labels(self) -> tuple[str, ...]:
        """Names of the relations between words; text_labels[0] is "none"."""
        return self.text_relations.names if self.text_relations else ()

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The names that the numbers of labels, relations, and relations between words stand for."""
        return {"classes": self.classes, "predicates": self.predicates, "text_labels": self.text_labels}

    def renumbered(self, names: Mapping[str, Sequence[str]]) -> "Split":
        """Return the split with labels and relations renumbered to `names` (of another split), matched by name.

        A label or relation without a matching name becomes "none". If none has one, the field is left out.
        """
        changes: dict[str, Any] = {}
        if self.labels is not None and tuple(names["classes"]) != self.classes:
            numbers = renumbering(self.classes, names["classes"], normalize=str)
            changes |= {"labels": RenumberedColumn(self.labels, numbers) if numbers.any() else None}
            changes |= {"classes": tuple(names["classes"])}
        for field, listed in (("relations", "predicates"), ("text_relations", "text_labels")):
            triples = getattr(self, field)
            if triples is not None and tuple(names[listed]) != triples.names:
                numbers = renumbering(triples.names, names[listed], normalize=str)
                changes[field] = triples.renumbered(numbers, names[listed]) if numbers.any() else None
        return replace(self, **changes) if changes else self

    def blind(self) -> "Split":
        """Return the split with every image replaced by the same one: one region of the whole image, unrelated."""
        shape = (self.num_images, 1, self.feature_dim)
        changes: dict[str, Any] = {"features": ConstantColumn(np.ones(shape[1:], np.float32), self.num_images)}
        if self.boxes is not None:
            changes["boxes"] = ConstantColumn(np.array([[0, 0, 1, 1]], np.float32), self.num_images)
        if self.labels is not None:
            changes["labels"] = ConstantColumn(np.zeros(1, np.int64), self.num_images)
        if self.relations is not None:
            none = np.zeros(0, np.int64)
            changes["relations"] = Triples.of(none, none, none, none, self.predicates, self.num_images)
        return replace(self, region_counts=None, **changes)

    def with_embeddings(self, fingerprints: Mapping[str, str]) -> "Split":
        """Return the split with the stored vectors of embedding models, given as fingerprints by name.

        Raises InputError if there are none of a model of that name and fingerprint, or not one for each image.
        """
        files, found = Files(self.folder, self.name), []
        for name, fingerprint in fingerprints.items():
            path = files.path(embeddings_file(name))
            if not path.is_file():
                raise InputError(
                    f"{path} is not there: `regard extract PHOTOGRAPHS --out {self.folder} --embeddings {name}` makes "
                    f"it."
                )
            vectors = Vectors.load(path, fingerprint)
            if vectors.vectors.ndim != 2 or len(vectors) != self.num_images:
                raise InputError(
                    f"{path} has vectors {list(vectors.vectors.shape)}: expected one for each of {self.num_images} "
                    f"images."
                )
            found.append(vectors)
        return replace(self, embeddings=tuple(found))

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        split: str,
        *,
        captions_per_image: int | None = None,
        relation_threshold: float = 0.5,
    ) -> "Split":
        """Open a split of a data folder in any layout of docs/data.md.

        Relations of lower confidence than `relation_threshold` are left out. `captions_per_image` is needed only if the
        files do not say which image a sentence describes. Raises InputError if files are missing or do not fit.
        """
        files = files_of(folder, split)
        features, captions = features_of(files), Lines(files.path("caps.txt"))
        ids = Lines(path) if (path := files.found("ids.txt")) else None
        pairing = pair(files, len(features), len(captions), ids, captions_per_image)
        return cls.of(files, features, captions, image_ids(files, pairing, ids), pairing, relation_threshold)

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
        """Create a split with the optional files that lie beside its features. Raises InputError if they do not fit."""
        check_repeats(features, pairing, files.path("ims.npy"))
        num_regions = features.shape[1]
        sizes = sizes_of(files, pairing)
        labels, classes = labels_of(files, pairing, num_regions)
        relations, text_relations = files.found("relations.npz"), files.found("text_relations.npz")
        return cls(
            files.folder,
            files.split,
            features.take(pairing.rows),
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
        """Return the images at `rows`, in any order, repeats allowed.

        Features have the stored dtype (float64 becomes float32), and are zero beyond an image's regions. Several
        threads may call this at the same time.
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
            parts["labels"] = labels = self.labels.read(rows).astype(np.int64) * mask
            if self.classes and labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
                raise InputError(
                    f"{self.folder} {self.name}: class numbers are between {labels.min()} and {labels.max()}; expected "
                    f"0 to {len(self.classes) - 1}, because labels.txt names {len(self.classes) - 1} classes."
                )
        if self.region_counts is not None:
            for part in parts.values():
                part[~mask] = 0
        if self.relations is not None:
            parts["relations"] = self.relations.dense(rows, self.num_regions, self.relation_threshold, lengths=counts)
        if self.embeddings:
            parts["embeddings"] = np.concatenate([each.vectors[rows].float().numpy() for each in self.embeddings], 1)
        return Images(**{name: torch.from_numpy(part) for name, part in parts.items()})

    def texts(self, rows: Sequence[int] | np.ndarray | torch.Tensor, tokenizer: Any) -> Texts:
        """Return the sentences at `rows`, tokenized by `tokenizer`, with relations between words if the split has them.

        Files number words from 0. `tokenizer.offset` fragments precede the first word, and as many follow the last.
        The texts have no relations if it is None: the tokenizer has no words, or others than the files.
        """
        rows = np.asarray(rows, np.int64)
        texts = tokenizer([self.captions[row] for row in rows.tolist()])
        if self.text_relations is None or tokenizer.offset is None:
            return texts
        return with_relations(texts, self.text_relations, rows, tokenizer.offset)


def embeddings_file(name: str) -> str:
    """Return the end of the name of the file with a split's vectors of an embedding model, a folder or a hub's name."""
    return f"embeddings_{re.sub(r'[^A-Za-z0-9.-]+', '-', Path(name).name)}.safetensors"


def with_relations(texts: Texts, relations: Triples, rows: np.ndarray, offset: int) -> Texts:
    """Return the texts with the relations of `rows`; `offset` fragments precede the first word of each text."""
    lengths = (texts.mask.sum(1) if texts.words is None else texts.words.amax(1)).numpy()
    width = texts.tokens.shape[1] if texts.words is None else int(lengths.max(initial=0))
    dense = relations.dense(rows, width, offset=offset, lengths=lengths - offset)
    return replace(texts, relations=torch.from_numpy(dense))
