"""Training batches of a split. Their order depends only on the seed and the epoch."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from regard.batch import Images, Texts
from regard.data.split import Split
from regard.data.swapped import SwappedSentences
from regard.data.twins import Twins
from regard.draws import item_states
from regard.files import InputError


@dataclass(frozen=True)
class Pairs:
    """A training batch: each image once, its texts, and which of them match.

    Texts that match no image are further negatives of all images, such as swapped sentences. With several processes,
    each has its part of the images and of the texts, and `matches` of all images of the batch with its own texts.
    `matches` stays on the CPU: it is structure, like the masks (see `regard.batch`).
    """

    images: Images
    texts: Texts
    matches: Bool[Tensor, "image text"]

    def to(self, device: Any, dtype: torch.dtype = torch.float32) -> "Pairs":
        """Return the batch on `device`, with floating-point fields in `dtype`."""
        return Pairs(self.images.to(device).to(dtype), self.texts.to(device), self.matches)

    def pinned(self) -> "Pairs":
        """Return the batch in page-locked memory: see `Batch.pinned`."""
        return Pairs(self.images.pinned(), self.texts.pinned(), self.matches)


class Loader:
    """Batches of `batch_size` sentences with their images. The last, partial batch of an epoch is left out.

    Each sentence occurs once per epoch. Of `world` processes, each reads its part of every batch: a part of the
    sentences, and a part of the images of all of them; or, if it is `alone` with its part, the images of its own
    sentences. Threads read the next batches while the model computes. With `twins`, a sentence of an image with a twin
    (`{split}_twins.npz`) is followed by a sentence of the twin, so that both images, which differ in a relation only,
    are in one batch, unless a batch ends between them. With `swapped`, a batch has further sentences, each made from
    one of its own (`regard.words.swaps`). With `pin`, batches are in page-locked memory, for a GPU. Raises InputError
    if a batch has fewer sentences or images than there are processes.
    """

    def __init__(
        self,
        split: Split,
        tokenizer: Any,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        twins: bool = False,
        swapped: bool = False,
        pin: bool = False,
        alone: bool = False,
    ) -> None:
        self.batch_size = min(batch_size, split.num_texts)
        if self.batch_size < world:
            raise InputError(
                f"A batch has {self.batch_size} sentences ({split.folder} {split.name} has {split.num_texts}) for "
                f"{world} processes: expected at least one for each. Start fewer processes, or raise train.batch_size."
            )
        self.split, self.tokenizer, self.seed, self.rank, self.world = split, tokenizer, seed, rank, world
        self.pin, self.alone = pin, alone
        self.swapped = SwappedSentences(split) if swapped else None
        self.partner = _partners(split) if twins else np.full(split.num_texts, -1)

    def __len__(self) -> int:
        """The number of batches per epoch."""
        return self.split.num_texts // self.batch_size

    def epoch(self, epoch: int, start: int = 0, ahead: int = 3) -> Iterator[Pairs]:
        """Yield the batches of an epoch, beginning with batch `start`. `ahead` batches are read in advance."""
        order = self.order(epoch)
        batches = [(order[batch * self.batch_size :][: self.batch_size], batch) for batch in range(start, len(self))]
        with ThreadPoolExecutor(2) as pool:
            pending: deque[Future[Pairs]] = deque()
            for position in range(-ahead, len(batches)):
                if position + ahead < len(batches):
                    rows, batch = batches[position + ahead]
                    pending.append(pool.submit(self.read, rows, epoch * len(self) + batch))
                if position >= 0:
                    yield pending.popleft().result()

    def order(self, epoch: int) -> np.ndarray:
        """Return all texts in the order of the epoch, each twin's text after its partner."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.split.num_texts)
        partner = self.partner[order]
        first = (partner < 0) | (order < partner)
        order = np.stack([order, partner], 1)[first].ravel()
        return order[order >= 0]

    def read(self, rows: np.ndarray, step: int = 0) -> Pairs:
        """Read this process's part of the batch of the texts at `rows` and their images, for a training step."""
        own_rows = np.array_split(rows, self.world)[self.rank]
        image_rows = np.unique(self.split.image_of_text[own_rows if self.alone else rows])
        own_images = image_rows if self.alone else np.array_split(image_rows, self.world)[self.rank]
        if not len(own_images):
            raise InputError(
                f"A batch has {len(image_rows)} images for {self.world} processes: expected at least one for each. "
                "Start fewer processes, or raise train.batch_size."
            )
        matches = torch.from_numpy(self.split.image_of_text[own_rows] == image_rows[:, None])
        texts, sources = self.split.texts(own_rows, self.tokenizer), [3 * own_rows + 1]
        if self.swapped and (swaps := self.swapped.drawn(own_rows, image_rows, self.seed, step)):
            texts = Texts.cat([texts, self.swapped.texts(list(swaps.values()), self.tokenizer)])
            sources.append(3 * np.array(list(swaps)) + 2)
            matches = F.pad(matches, (0, len(swaps)))

        # The numbers of images, texts and swapped texts differ, so that none shares its random numbers with another.
        def states(numbers: np.ndarray) -> Tensor:
            return item_states(self.seed, step, torch.from_numpy(numbers))

        images = replace(self.split.images(own_images), draws=states(3 * own_images))
        pairs = Pairs(images, replace(texts, draws=states(np.concatenate(sources))), matches)
        return pairs.pinned() if self.pin else pairs


def _partners(split: Split) -> np.ndarray:
    """For each text, the text of the twin image that follows it; -1 for none."""
    twins = Twins.of(split)
    by_image, bounds = split.texts_by_image()
    partner = np.full(split.num_texts, -1)
    for one, other in zip(twins.first, twins.second, strict=True):
        count = min(bounds[one + 1] - bounds[one], bounds[other + 1] - bounds[other])
        ours, theirs = (by_image[bounds[image] : bounds[image] + count] for image in (one, other))
        partner[ours], partner[theirs] = theirs, ours
    return partner
