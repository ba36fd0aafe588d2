"""Training batches of a split, in an order that depends on the seed, the epoch and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from regard.batch import Images, Texts
from regard.data.split import Split
from regard.data.twins import Twins


class Pairs:
    """A batch of training: each image once, and which of the texts are its own.

    A plain class: Fabric takes frozen dataclasses among a module's inputs apart, and cannot put them together.
    """

    def __init__(self, images: Images, texts: Texts, matches: Bool[Tensor, "image text"]) -> None:
        self.images, self.texts, self.matches = images, texts, matches

    def to(self, device: Any) -> "Pairs":
        """On `device`, with floating fields in float32."""
        images = self.images.to(device).to(torch.float32)
        return Pairs(images, self.texts.to(device), self.matches.to(device))


class Loader:
    """Every sentence once an epoch, `batch_size` at a time with their images; the last, smaller batch is left out.

    Of several processes, each takes its own part of every batch of `batch_size * world` sentences. The next batches
    are read by threads while the model works on this one. With `twins`, a sentence of a picture that has a twin
    (`{split}_twins.npz`) is followed by one of the twin's: of two pictures of the same things, only the relation can
    then tell them apart.
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
    ) -> None:
        self.split, self.tokenizer, self.seed, self.rank, self.world = split, tokenizer, seed, rank, world
        self.batch_size = min(batch_size, split.num_texts // world)
        self.partner = _partners(split) if twins else np.full(split.num_texts, -1)

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.split.num_texts // (self.batch_size * self.world)

    def epoch(self, epoch: int, start: int = 0, ahead: int = 3) -> Iterator[Pairs]:
        """The batches of an epoch from the batch `start` on."""
        order = self.order(epoch)
        whole, mine = self.batch_size * self.world, self.batch_size * self.rank
        parts = [order[at * whole + mine :][: self.batch_size] for at in range(start, len(self))]
        with ThreadPoolExecutor(2) as pool:
            coming = [pool.submit(self.read, rows) for rows in parts[:ahead]]
            for position in range(len(parts)):
                if position + ahead < len(parts):
                    coming.append(pool.submit(self.read, parts[position + ahead]))
                yield coming.pop(0).result()

    def order(self, epoch: int) -> np.ndarray:
        """All texts in the epoch's order, each twin's text right after its partner."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.split.num_texts)
        partner = self.partner[order]
        first = (partner < 0) | (order < partner)
        order = np.stack([order, partner], 1)[first].ravel()
        return order[order >= 0]

    def read(self, rows: np.ndarray) -> Pairs:
        """The texts at `rows` and their images."""
        images, image_of_text = np.unique(self.split.image_of_text[rows], return_inverse=True)
        matches = torch.from_numpy(image_of_text) == torch.arange(len(images))[:, None]
        return Pairs(self.split.images(images), self.split.texts(rows, self.tokenizer), matches)


def _partners(split: Split) -> np.ndarray:
    """For each text, the text of its image's twin that takes its place among the twin's texts; -1 for none."""
    twins = Twins.of(split)
    by_image = np.argsort(split.image_of_text, kind="stable")
    bounds = np.searchsorted(split.image_of_text[by_image], np.arange(split.num_images + 1))
    partner = np.full(split.num_texts, -1)
    for one, other in zip(twins.first, twins.second, strict=True):
        count = min(bounds[one + 1] - bounds[one], bounds[other + 1] - bounds[other])
        ours, theirs = (by_image[bounds[image] : bounds[image] + count] for image in (one, other))
        partner[ours], partner[theirs] = theirs, ours
    return partner
