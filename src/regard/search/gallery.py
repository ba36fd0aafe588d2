"""Search a gallery of images by sentences: the best by summary vectors, ranked by their exact scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regard.batch import Texts
from regard.data import Split
from regard.data.split import related
from regard.encode import encode_images, missing
from regard.files import InputError
from regard.matcher import Matcher
from regard.relations.from_sentences import parsed
from regard.runtime import inner
from regard.score import score_all


@dataclass(frozen=True)
class Hit:
    """An image found."""

    image: int  # its row
    id: str
    score: float


class Index:
    """A gallery: the encodings of its images, what they are called, and the model (in eval mode) that made them."""

    def __init__(self, model: Matcher, images: Any, ids: Sequence[str]) -> None:
        self.model, self.images, self.ids = model, images, ids
        self.summaries = images.summary()

    @classmethod
    def of(cls, model: Matcher, split: Split) -> "Index":
        """The images of a split. Raises InputError where it lacks what the model needs."""
        missing(model, split)
        with torch.inference_mode():
            return cls(model, encode_images(model, split, model.scored), split.ids)

    @torch.inference_mode()
    def search(self, texts: Texts, k: int = 10, shortlist: int | None = 100) -> list[list[Hit]]:
        """The `k` best images of each text, the best first.

        Exact scores are of the `shortlist` best images by summary alone (None: of all). Raises InputError for a `k` or
        a `shortlist` below 1.
        """
        count = len(self.ids) if shortlist is None else shortlist
        if min(k, count) < 1:
            raise InputError(f"The {k} best of a shortlist of {count}: want at least 1 of each.")
        asked: Any = self.model.encode_texts(texts.to(self.summaries.device))
        listed = inner(asked.summary(), self.summaries).topk(min(count, len(self.ids))).indices
        found = []
        for row, images in enumerate(listed):
            scores = score_all(self.model, self.images[images], asked[row : row + 1])[:, 0]
            best = scores.topk(min(k, len(scores)))
            hits = zip(images.cpu()[best.indices].tolist(), best.values.tolist(), strict=True)
            found.append([Hit(image, self.ids[image], score) for image, score in hits])
        return found

    def ask(self, sentences: Sequence[str], k: int = 10, shortlist: int | None = 100) -> list[list[Hit]]:
        """`search` by sentences as they are written. Relations between their words, if needed, are our parser's."""
        if not sentences:
            return []
        tokenizer = self.model.tokenizer
        texts = tokenizer(list(sentences))
        if self.model.needs() & {"text_relations", "roles"}:
            texts = related(texts, parsed(sentences), np.arange(len(sentences)), tokenizer.offset)
        return self.search(texts, k, shortlist)
