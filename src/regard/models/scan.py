"""SCAN: Stacked Cross Attention for Image-Text Matching. Lee, Chen, Hua, Hu, He. ECCV 2018.

Needs: features only. Equation numbers are those of docs/models/scan.md.

Differences
- padded words are left out of the normalisation over queries and of every mean; the authors cut each caption instead;
- the attended vector is not computed: its cosine comes from the similarities and the Gram matrix (equal to 1e-6);
- an attended vector of length zero scores 0; the authors' code divides by a small number.
"""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.batch import Fragments, Images, Texts, on_both
from regard.layers.attention import GramFragments, Normalisation, attended_cosine, attention, of_queries, similarities
from regard.layers.pooling import fill, unit
from regard.matcher import Matcher


class SCAN(Matcher):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 1024
        direction: Literal["t2i", "i2t"] = "t2i"  # t2i: words attend to regions; i2t: regions to words
        aggregation: Literal["mean", "lse", "max", "sum"] = "mean"
        temperature: float = 9.0  # lambda 1; the authors use 9 for t2i, 4 for i2t
        lse_temperature: float = 6.0  # lambda 2; the authors use 6 for t2i, 5 for i2t
        normalisation: Normalisation = "clipped_l2norm"
        unit_regions: bool = True  # scale regions to unit length
        unit_words: bool = True

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        types = GramFragments, Fragments  # of the context and of the queries
        self.image_encoding, self.text_encoding = types if config.direction == "t2i" else types[::-1]
        self.project = nn.Linear(feature_dim, config.dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def encode_images(self, images: Images) -> Fragments:
        vectors = self.project(images.features)
        vectors = unit(vectors) if self.config.unit_regions else vectors
        regions = Fragments(vectors.masked_fill(~images.mask[..., None], 0), images.mask)
        return GramFragments.of(regions) if self.config.direction == "t2i" else regions

    def encode_texts(self, texts: Texts) -> Fragments:
        words = self.words(texts)
        words = Fragments(unit(words.vectors) if self.config.unit_words else words.vectors, words.mask)
        return GramFragments.of(words) if self.config.direction == "i2t" else words

    def score(self, images: Fragments, texts: Fragments) -> Float[Tensor, "image text"]:
        context, queries = self._roles(images, texts)
        similarity = similarities(context, queries)
        weights = self._weights(similarity, context, queries)  # eq. 1-2
        cosine = attended_cosine(similarity, weights, context.gram)  # eq. 3
        if not (self.config.unit_words if self.config.direction == "t2i" else self.config.unit_regions):
            cosine = cosine / queries.vectors.norm(dim=2).T.clamp(min=1e-8)
        scores = self._aggregate(cosine, queries.mask)
        return scores if self.config.direction == "t2i" else scores.T

    def align(self, images: Fragments, texts: Fragments) -> Float[Tensor, "image text region word"]:
        """Return the attention weights: of regions for each word (t2i), or of words for each region (i2t)."""
        context, queries = self._roles(images, texts)
        weights = self._weights(similarities(context, queries), context, queries)
        weights = weights.masked_fill(~queries.mask.T, 0)
        return weights.permute(0, 3, 1, 2) if self.config.direction == "t2i" else weights.permute(3, 0, 2, 1)

    def _roles(self, images: Fragments, texts: Fragments) -> tuple[GramFragments, Fragments]:
        context, queries = (images, texts) if self.config.direction == "t2i" else (texts, images)
        assert isinstance(context, GramFragments)
        return context, queries

    def _weights(
        self,
        similarity: Float[Tensor, "context context_fragment query_fragment query"],
        context: Fragments,
        queries: Fragments,
    ) -> Float[Tensor, "context context_fragment query_fragment query"]:
        return attention(similarity, context, self.config.temperature, self.config.normalisation, queries.mask)

    def _aggregate(
        self, cosine: Float[Tensor, "context query_fragment query"], mask: Bool[Tensor, "query query_fragment"]
    ) -> Float[Tensor, "context query"]:
        if self.config.aggregation in ("mean", "sum"):  # eq. 4
            total = fill(cosine, on_both(of_queries, mask), 0.0).sum(1)
            return total if self.config.aggregation == "sum" else total / mask.sum(1).clamp(min=1)
        if self.config.aggregation == "max":
            return fill(cosine, on_both(of_queries, mask), -math.inf).amax(1)
        logits = fill(self.config.lse_temperature * cosine, on_both(of_queries, mask), -math.inf)  # eq. 5
        return logits.logsumexp(1) / self.config.lse_temperature
