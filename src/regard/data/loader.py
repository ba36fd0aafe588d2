"""Training batches of a split. Their order depends only on the seed and the epoch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
from regard.files import InputError


class Pairs:
    """A training batch: each image once, its texts, and which of them match.

    Texts that match no image are further negatives of all images, such as swapped sentences.
    `matches` stays on the CPU: it is structure, like the masks (see `regard.batch`). It is not a dataclass, because
    Fabric takes apart frozen dataclasses among the inputs of a module.
    """

    def __init__(self, images: Images, texts: Texts, matches: Bool[Tensor, "image text"]) -> None:
        self.images, self.texts, self.matches = images, texts, matches

    def to(self, device: Any) -> "Pairs":
        """Return the batch on `device`, with floating-point fields in float32."""
        images = self.images.to(device).to(torch.float32)
        return Pairs(images, self.texts.to(device), self.matches)

    def pinned(self) -> "Pairs":
        """Return the batch in page-locked memory: see `Batch.pinned`."""
        return Pairs(self.images.pinned(), self.texts.pinned(), self.matches)


class Loader:
    """Batches of `batch_size` sentences with their images. The last, partial batch of an epoch is left out.

    Each sentence occurs once per epoch. With several processes, each process reads its own part of every batch of
    `batch_size * world` sentences. Threads read the next batches while the model computes. With `twins`, a sentence of
    an image with a twin (`{split}_twins.npz`) is followed by a sentence of the twin, so that both images, which differ
    in a relation only, are in one batch. With `swapped`, a batch has further sentences, each made from one of its own
    (`regard.words.swaps`). With `pin`, batches are in page-locked memory, for a GPU. Raises InputError if there are
    more processes than sentences.
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
    ) -> None:
        if split.num_texts < world:
            raise InputError(
                f"{split.folder} {split.name} has {split.num_texts} sentences for {world} processes: expected at least "
                "one sentence for each. Start fewer processes."
            )
        self.split, self.tokenizer, self.seed, self.rank, self.world = split, tokenizer, seed, rank, world
        self.pin = pin
        self.swapped = SwappedSentences(split) if swapped else None
        self.batch_size = min(batch_size, split.num_texts // world)
        self.partner = _partners(split) if twins else np.full(split.num_texts, -1)

    def __len__(self) -> int:
        """The number of batches per epoch."""
        return self.split.num_texts // (self.batch_size * self.world)

    def epoch(self, epoch: int, start: int = 0, ahead: int = 3) -> Iterator[Pairs]:
        """Yield the batches of an epoch, beginning with batch `start`. `ahead` batches are read in advance."""
        order = self.order(epoch)
        step, offset = self.batch_size * self.world, self.batch_size * self.rank
        parts = [order[batch * step + offset :][: self.batch_size] for batch in range(start, len(self))]
        with ThreadPoolExecutor(2) as pool:
            pending = [pool.submit(self.read, rows) for rows in parts[:ahead]]
            for position in range(len(parts)):
                if position + ahead < len(parts):
                    pending.append(pool.submit(self.read, parts[position + ahead]))
                yield pending.pop(0).result()

    def order(self, epoch: int) -> np.ndarray:
        """Return all texts in the order of the epoch, each twin's text after its partner."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.split.num_texts)
        partner = self.partner[order]
        first = (partner < 0) | (order < partner)
        order = np.stack([order, partner], 1)[first].ravel()
        return order[order >= 0]

    def read(self, rows: np.ndarray) -> Pairs:
        """Read the texts at `rows` and their images."""
        images, image_of_text = np.unique(self.split.image_of_text[rows], return_inverse=True)
        matches = torch.from_numpy(image_of_text) == torch.arange(len(images))[:, None]
        texts = self.split.texts(rows, self.tokenizer)
        if self.swapped and (negatives := self.swapped.sentences(rows, self.seed)):
            texts = Texts.cat([texts, self.swapped.texts(negatives, self.tokenizer)])
            matches = F.pad(matches, (0, len(negatives)))
        pairs = Pairs(self.split.images(images), texts, matches)
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
