"""VSE-infinity: Learning the Best Pooling Strategy for Visual Semantic Embedding. Chen, Hu, Wu, Jiang, Wang. CVPR 2021.

Needs: features only. Equation numbers are those of docs/models/vse_infinity.md.

Differences
- masked scores are -inf, so that padding has no weight at all; common code uses -10000;
- the paper's augmentation, which drops regions and words, is part of training (`train.region_drop`, `train.word_drop`);
- the two-layer perceptron of the image side has one hidden width (half of `dim`), as in the authors' code.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.batch import Fragments, Images, Pooled, Texts, Vectors
from regard.layers.pooling import GeneralizedPooling, mean_pool, unit
from regard.layers.summary import RegionMLP
from regard.matcher import Matcher
from regard.runtime import inner


class VSEInfinity(Matcher):
    image_encoding, text_encoding = Pooled, Pooled

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 1024
        pooling: Literal["gpo", "mean"] = "gpo"
        region_mlp: bool = True  # add a perceptron to the linear map of regions
        unit_images: bool = True  # scale the vectors of images to unit length
        unit_texts: bool = True

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        self.project = nn.Linear(feature_dim, config.dim)
        self.mlp = RegionMLP(feature_dim, config.dim // 2, config.dim) if config.region_mlp else None
        self.pool_images = GeneralizedPooling() if config.pooling == "gpo" else mean_pool
        self.pool_texts = GeneralizedPooling() if config.pooling == "gpo" else mean_pool

    def encode_images(self, images: Images) -> Pooled:
        vectors = self.project(images.features)  # eq. 1
        if self.mlp is not None:
            vectors = vectors + self.mlp(images.features, images.mask)
        regions = Fragments(vectors.masked_fill(~images.mask[..., None], 0), images.mask)
        pooled = self.pool_images(regions)  # eq. 2-3
        return Pooled(regions.vectors, regions.mask, unit(pooled) if self.config.unit_images else pooled)

    def encode_texts(self, texts: Texts) -> Pooled:
        words = self.words(texts)
        pooled = self.pool_texts(words)  # eq. 2-3
        return Pooled(words.vectors, words.mask, unit(pooled) if self.config.unit_texts else pooled)

    def for_scoring(self, encoding: Pooled | Vectors) -> Vectors:
        """Return the summary vectors, which are all that `score` reads: Vectors instead of Pooled."""
        return Vectors(encoding.summary())

    def score(self, images: Pooled | Vectors, texts: Pooled | Vectors) -> Float[Tensor, "image text"]:
        return inner(images.summary(), texts.summary())  # eq. 4

    def score_parts(self, images: Pooled | Vectors, texts: Pooled | Vectors) -> dict[str, Float[Tensor, "image text"]]:
        return {"global": self.score(images, texts)}

    def align(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text region word"]:
        """Return the cosine of each region and word, for illustration: the model scores pooled vectors."""
        return torch.einsum("ird,twd->itrw", unit(images.vectors), unit(texts.vectors))

    def pair_size(self, regions: int, words: int) -> int:
        return 1
