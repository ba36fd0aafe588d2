"""One split of a data set: images once, texts once, and which text belongs to which image."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.batch import Images, Texts
from regard.data.lines import Lines
from regard.data.relations import Triples
from regard.data.rows import Rows
from regard.files import InputError, nearest


class Split:
    """Region features and sentences on disk, read by rows. Nothing here grows with the feature file.

    num_images, num_texts, num_regions (the most an image has) and feature_dim are its sizes;
    image_of_text [text] is the image row of each sentence; ids and captions are lazy sequences of strings;
    fields says which optional things are there: "boxes", "labels", "relations", "text_relations";
    classes and predicates name the labels and relations, classes[0] and predicates[0] being "none".
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        features: Rows,
        ids: Sequence[str],
        captions: Sequence[str],
        image_of_text: np.ndarray,
        num_regions: np.ndarray | None = None,
        boxes: Rows | None = None,
        labels: Rows | np.ndarray | None = None,
        classes: Sequence[str] = (),
        relations: Triples | None = None,
        text_relations: Triples | None = None,
        relation_threshold: float = 0.5,
    ) -> None:
        self.folder, self.name = folder, name
        self.ids, self.captions, self.image_of_text = ids, captions, image_of_text
        self.num_images, self.num_regions, self.feature_dim = features.shape
        self.num_texts = len(captions)
        self.classes = tuple(classes)
        self.predicates = relations.names if relations else ()
        self._features, self._counts, self._boxes, self._labels = features, num_regions, boxes, labels
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
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder of data.")
        path = lambda name: folder / f"{split}_{name}"  # noqa: E731
        splits = [found.name.removesuffix("_ims.npy") for found in folder.glob("*_ims.npy")]
        if split not in splits:
            raise InputError(f"{path('ims.npy')} is not there. {nearest(split, splits) if splits else ''}")
        features, ids, captions = Rows(path("ims.npy")), Lines(path("ids.txt")), Lines(path("caps.txt"))
        optional = lambda name, read: read(path(name)) if path(name).exists() else None  # noqa: E731
        labels: Any = optional("labels.npy", Rows)
        classes: Sequence[str] = ()
        if labels is not None:
            classes = ("none", *Lines(folder / "labels.txt"))
        elif path("labels.json").exists():
            labels, classes = _labels_of_json(folder, split, features.shape[:2])
        stored = optional("image_of_text.npy", Rows)
        per_image = len(captions) // len(features)
        return cls(
            folder,
            split,
            features,
            ids,
            captions,
            stored.all().astype(np.int64) if stored else np.arange(len(features)).repeat(per_image),
            num_regions=counts.all().astype(np.int64) if (counts := optional("num_regions.npy", Rows)) else None,
            boxes=optional("boxes.npy", Rows),
            labels=labels,
            classes=classes,
            relations=optional("relations.npz", lambda file: Triples.load(file, len(features), features.shape[1])),
            text_relations=optional("text_relations.npz", lambda file: Triples.load(file, len(captions))),
            relation_threshold=relation_threshold,
        )

    def images(self, rows: Sequence[int] | np.ndarray | torch.Tensor) -> Images:
        """The images at `rows`, in any order, repeats allowed; features as stored, zero beyond an image's regions.

        Safe to call from several threads at once.
        """
        rows = np.asarray(rows, np.int64)
        counts = np.full(len(rows), self.num_regions) if self._counts is None else self._counts[rows]
        mask = np.arange(self.num_regions) < counts[:, None]
        parts: dict[str, Any] = {"features": self._features.read(rows), "mask": mask}
        if self._boxes is not None:
            parts["boxes"] = self._boxes.read(rows)
        if isinstance(self._labels, Rows):
            parts["labels"] = self._labels.read(rows).astype(np.int64)
        elif self._labels is not None:
            parts["labels"] = self._labels[rows].astype(np.int64)
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


def _labels_of_json(folder: Path, split: str, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """int16 [image, region] and class names of `{split}_labels.json`: an image is a list of [region, class, confidence].

    The class numbers are those of all the folder's splits together, so that they agree between splits.
    """
    lists = {path.name: json.loads(path.read_text("utf-8")) for path in folder.glob("*_labels.json")}
    names = sorted({name for images in lists.values() for image in images for _, name, _ in image})
    number = {name: position for position, name in enumerate(names, 1)}
    labels = np.zeros(shape, np.int16)
    for row, image in enumerate(lists[f"{split}_labels.json"]):
        for region, name, _ in image:
            labels[row, region] = number[name]
    return labels, ("none", *names)
