"""One split of a data set: images once, texts once, and which text belongs to which image."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.batch import Images, Texts
from regard.data.layout import boxes_of, counts_of, files_of, labels_of, named, pair, sizes_of
from regard.data.lines import Lines
from regard.data.relations import Triples
from regard.data.rows import Column, Rows
from regard.files import InputError


class Split:
    """Region features and sentences on disk, read by rows. Nothing here grows with the feature file.

    num_images, num_texts, num_regions (the most an image has) and feature_dim are its sizes;
    image_of_text [text] is the image row of each sentence; ids and captions are lazy sequences of strings;
    fields says which optional things are there: "boxes", "labels", "relations", "text_relations";
    classes and predicates name the labels and relations, classes[0] and predicates[0] being "none";
    sizes is int [image, 2], width and height in pixels, where known.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        features: Column,
        ids: Sequence[str],
        captions: Sequence[str],
        image_of_text: np.ndarray,
        num_regions: np.ndarray | None = None,
        boxes: Column | None = None,
        sizes: np.ndarray | None = None,
        labels: Column | None = None,
        classes: Sequence[str] = (),
        relations: Triples | None = None,
        text_relations: Triples | None = None,
        relation_threshold: float = 0.5,
    ) -> None:
        self.folder, self.name = folder, name
        self.ids, self.captions, self.image_of_text = ids, captions, image_of_text
        self.num_images, self.num_regions, self.feature_dim = features.shape
        self.num_texts = len(captions)
        self.classes, self.sizes = tuple(classes), sizes
        self.predicates = relations.names if relations else ()
        self._features, self._boxes, self._labels = features, boxes, labels
        self._counts = num_regions
        self._relations, self._text_relations = relations, text_relations
        self._threshold = relation_threshold
        found = {"boxes": boxes, "labels": labels, "relations": relations, "text_relations": text_relations}
        self.fields = frozenset(name for name, value in found.items() if value is not None)

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
        features, captions = Rows(files.path("ims.npy")), Lines(files.path("caps.txt"))
        if len(features.shape) != 3 or features.dtype.kind != "f":
            raise InputError(
                f"{features.path} is {features.dtype} {list(features.shape)}: want floats [image, region, feature]."
            )
        ids = Lines(path) if (path := files.found("ids.txt")) else None
        pairing = pair(files, len(features), len(captions), ids, captions_per_image)
        num_images, num_regions = pairing.num_images, features.shape[1]
        sizes = sizes_of(files, pairing)
        labels, classes = labels_of(files, pairing, num_regions)
        relations, text_relations = files.found("relations.npz"), files.found("text_relations.npz")
        return cls(
            files.folder,
            split,
            features.taking(pairing.rows),
            named(files, pairing, ids),
            captions,
            pairing.image_of_text,
            num_regions=counts_of(files, pairing, num_regions),
            boxes=boxes_of(files, pairing, num_regions, sizes),
            sizes=sizes,
            labels=labels,
            classes=classes,
            relations=Triples.load(relations, num_images, num_regions) if relations else None,
            text_relations=Triples.load(text_relations, len(captions)) if text_relations else None,
            relation_threshold=relation_threshold,
        )

    def images(self, rows: Sequence[int] | np.ndarray | torch.Tensor) -> Images:
        """The images at `rows`, in any order, repeats allowed; features as stored, zero beyond an image's regions.

        Safe to call from several threads at once.
        """
        rows = np.asarray(rows, np.int64)
        counts = np.full(len(rows), self.num_regions) if self._counts is None else self._counts[rows]
        mask = np.arange(self.num_regions) < counts[:, None]
        features = self._features.read(rows)
        if features.dtype == np.float64:
            features = features.astype(np.float32)
        parts: dict[str, Any] = {"features": features, "mask": mask}
        if self._boxes is not None:
            parts["boxes"] = self._boxes.read(rows).astype(np.float32, copy=False)
        if self._labels is not None:
            parts["labels"] = self._labels.read(rows).astype(np.int64)
        if self._counts is not None:
            for part in parts.values():
                part[~mask] = 0
        if self._relations is not None:
            parts["relations"] = self._relations.dense(rows, self.num_regions, self._threshold, lengths=counts)
        return Images(**{name: torch.from_numpy(part) for name, part in parts.items()})

    def texts(self, rows: Sequence[int] | np.ndarray | torch.Tensor, tokenizer: Any) -> Texts:
        """The sentences at `rows` as `tokenizer` makes them, with their relations where the split has some.

        The file counts words from 0; `tokenizer.offset` fragments precede the first word.
        """
        rows = np.asarray(rows, np.int64)
        texts = tokenizer([self.captions[row] for row in rows.tolist()])
        if self._text_relations is None:
            return texts
        lengths = (texts.mask.sum(1) if texts.words is None else texts.words.amax(1)).numpy()
        width = texts.tokens.shape[1] if texts.words is None else int(lengths.max(initial=0))
        dense = self._text_relations.dense(rows, width, offset=tokenizer.offset, lengths=lengths)
        return replace(texts, relations=torch.from_numpy(dense))
