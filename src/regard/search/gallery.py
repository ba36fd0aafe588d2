"""Search a gallery of images in memory: a shortlist by summary vectors, ranked by exact scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from regard.data import Split
from regard.encode import check_inputs, encode_images
from regard.files import InputError
from regard.matcher import Matcher
from regard.relations.from_sentences import texts_of
from regard.runtime import inner
from regard.score import score_all


@dataclass(frozen=True)
class GalleryHit:
    """One image of a search result."""

    image: int  # its row in the gallery
    id: str
    score: float


class Gallery:
    """The encodings of images and their ids, with the model (in eval mode) that encoded them."""

    def __init__(self, model: Matcher, images: Any, ids: Sequence[str]) -> None:
        self.model, self.images, self.ids = model, images, ids
        self.summaries = images.summary()

    @classmethod
    def of_split(cls, model: Matcher, split: Split) -> "Gallery":
        """Encode the images of a split. Raises InputError if the split lacks what the model needs."""
        check_inputs(model, split)
        with torch.inference_mode():
            return cls(model, encode_images(model, split, np.arange(split.num_images), model.for_scoring), split.ids)

    @torch.inference_mode()
    def search(self, texts: Any, k: int = 10, shortlist: int | None = 100) -> list[list[GalleryHit]]:
        """Return the `k` best images of each text, best first.

        Exact scores are computed for the `shortlist` images with the best summary vectors (None: for all images).
        Raises InputError for a `k` or a `shortlist` below 1, and for NaN.
        """
        count = len(self.ids) if shortlist is None else shortlist
        if min(k, count) < 1:
            raise InputError(f"Cannot return the {k} best of a shortlist of {count}: both must be at least 1.")
        queries: Any = self.model.encode_texts(texts.to(self.summaries.device))
        nearness = inner(queries.summary(), self.summaries)
        results = []
        for row, near in enumerate(nearness):
            check_scores(near.float().cpu().numpy(), self.ids)
            images = near.topk(min(count, len(self.ids))).indices
            scores = score_all(self.model, self.images[images], queries[row : row + 1])[:, 0]
            check_scores(scores.numpy(), self.ids, images.cpu().numpy())
            best = scores.topk(min(k, len(scores)))
            hits = zip(images.cpu()[best.indices].tolist(), best.values.tolist(), strict=True)
            results.append([GalleryHit(image, self.ids[image], score) for image, score in hits])
        return results

    def search_sentences(
        self, sentences: Sequence[str], k: int = 10, shortlist: int | None = 100
    ) -> list[list[GalleryHit]]:
        """Return the `k` best images of each sentence; see `search`.

        If the model reads relations between words, the sentences are parsed by Regard's own parser.
        """
        if not sentences:
            return []
        return self.search(texts_of(self.model, sentences), k, shortlist)


def check_scores(
    scores: Float[np.ndarray, " image"], ids: Sequence[str], rows: Int[np.ndarray, " image"] | None = None
) -> None:
    """Raise InputError if a score is NaN, which cannot be ranked. `rows` are those of the images in `ids`."""
    wrong = np.flatnonzero(np.isnan(scores))
    if len(wrong):
        first = ids[int(wrong[0] if rows is None else rows[wrong[0]])]
        raise InputError(
            f"{len(wrong)} of {len(scores)} scores are NaN, the first that of {first}: they cannot be ranked. Check "
            f"the model."
        )
