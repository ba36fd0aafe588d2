"""The inputs of a benchmark: random images and sentences of the usual size, or a split of a data folder."""

from dataclasses import dataclass

import numpy as np
import torch

from regard.batch import Images, Texts
from regard.data import Split
from regard.words import ROLES, Vocabulary
from regard.words.vocabulary import SPECIALS

NUM_WORDS = 8481  # in the vocabulary of Flickr30K


@dataclass(frozen=True)
class RandomInputs:
    """Random images, and sentences of 5 to 20 words. The same rows always give the same items."""

    num_images: int = 1000
    num_texts: int = 5000
    regions: int = 36
    feature_dim: int = 2048

    @property
    def tokenizer(self) -> Vocabulary:
        return Vocabulary((*SPECIALS, *(f"w{number}" for number in range(NUM_WORDS - len(SPECIALS)))))

    def images(self, rows: np.ndarray) -> Images:
        random, shape = torch.Generator().manual_seed(int(rows[0])), (len(rows), self.regions)
        corners = torch.rand(*shape, 2, 2, generator=random).sort(2).values
        # Each region has relations to two others, about as many as in a scene graph.
        relations = torch.zeros(*shape, self.regions, dtype=torch.long)
        others = torch.randint(self.regions, (*shape, 2), generator=random)
        relations.scatter_(2, others, torch.randint(1, 50, (*shape, 2), generator=random))
        return Images(
            features=torch.rand(*shape, self.feature_dim, generator=random),
            mask=torch.ones(shape, dtype=torch.bool),
            boxes=(corners.flatten(2) + torch.tensor([0.0, 0.0, 0.1, 0.1])).clamp(max=1),
            labels=torch.randint(1, 1600, shape, generator=random),
            relations=relations,
        )

    def texts(self, rows: np.ndarray) -> Texts:
        random = torch.Generator().manual_seed(int(rows[0]))
        lengths = torch.randint(5, 21, (len(rows),), generator=random)
        mask = torch.arange(20) < lengths[:, None]
        tokens = torch.randint(len(SPECIALS), NUM_WORDS, mask.shape, generator=random) * mask
        relations = torch.zeros(len(rows), 20, 20, dtype=torch.long)
        relations[:, [1, 1, 4], [0, 2, 3]] = torch.tensor([ROLES.index(r) for r in ("subject", "object", "attribute")])
        return Texts(tokens, mask, relations=relations)


@dataclass(frozen=True)
class SplitInputs:
    """The images and texts of a split, with a vocabulary of all its words."""

    split: Split
    tokenizer: Vocabulary

    @classmethod
    def of(cls, split: Split) -> "SplitInputs":
        return cls(split, Vocabulary.build(split.captions, min_count=1))

    @property
    def num_images(self) -> int:
        return self.split.num_images

    @property
    def num_texts(self) -> int:
        return self.split.num_texts

    @property
    def feature_dim(self) -> int:
        return self.split.feature_dim

    def images(self, rows: np.ndarray) -> Images:
        return self.split.images(rows)

    def texts(self, rows: np.ndarray) -> Texts:
        return self.split.texts(rows, self.tokenizer)


Inputs = RandomInputs | SplitInputs
