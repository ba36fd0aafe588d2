"""SGRAF: Similarity Reasoning and Filtration for Image-Text Matching. Diao, Zhang, Ma, Lu. AAAI 2021.

Needs: features only. Equation numbers are those of docs/models/sgraf.md.

Differences
- the global attention of an image normalises each feature over the batch; the authors normalise each of 36 *positions*,
  but the order of regions has no meaning, and their number varies here;
- biases that a softmax or a batch normalisation cancels are left out; SGR's two maps of a node are applied as one, and
  its last step is computed only for the global node, the only one that is read. The scores are equal;
- `reasoning="both"` scores with both heads over the same similarity vectors in one checkpoint; the authors train two
  models and average their scores, which is `regard evaluate RUN RUN`;
- padded words are left out of the normalisation over queries and of both heads; the authors cut each caption in a loop.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from regard.batch import Fragments, Images, Pooled, Texts
from regard.layers.attention import Normalisation, attended, attention, similarities
from regard.layers.normalisation import MaskedBatchNorm
from regard.layers.packed import Packed
from regard.layers.pooling import unit
from regard.layers.similarity import GlobalAttention, Head, Heads, SimilarityVector, xavier
from regard.matcher import Matcher


class SGRAF(Matcher):
    image_encoding, text_encoding = Pooled, Pooled

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 1024
        similarity_dim: int = 0  # 0: a quarter of dim, as the authors' 256 for 1024
        reasoning: Literal["sgr", "saf", "both", "mean"] = "sgr"  # mean of the nodes: neither reasoning nor filtration
        steps: int = 3  # of SGR
        nodes: Literal["both", "global", "local"] = "both"  # global: one node, without reasoning
        global_pooling: Literal["attention", "mean"] = "attention"
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4  # of the global attention
        temperature: float = 9.0
        normalisation: Normalisation = "clipped_l2norm"
        unit_regions: bool = True  # scale regions to unit length
        unit_words: bool = True
        places: int = 0  # regions per image if each place has an affine map in the global attention; 0: BN of features

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        self.project = nn.Linear(feature_dim, config.dim)
        xavier(self.project)
        similarity_dim = config.similarity_dim or config.dim // 4
        has_global, has_local = config.nodes != "local", config.nodes != "global"
        attends = has_global and config.global_pooling == "attention"
        self.image_pool = GlobalAttention(config.dim, config.dropout, True, config.places) if attends else None
        self.text_pool = GlobalAttention(config.dim, config.dropout, normalise=False) if attends else None
        self.whole = SimilarityVector(config.dim, similarity_dim) if has_global else None
        self.local = SimilarityVector(config.dim, similarity_dim) if has_local else None
        reasonings = ("sgr", "saf") if config.reasoning == "both" else (config.reasoning,)
        self.heads = Heads(
            Head(similarity_dim, config.steps, reasoning) for reasoning in (reasonings if has_local else ("mean",))
        )

    def encode_images(self, images: Images) -> Pooled:
        vectors = self.project(images.features)  # eq. 1
        regions = (unit(vectors) if self.config.unit_regions else vectors).masked_fill(~images.mask[..., None], 0)
        return self._pooled(Fragments(regions, images.mask), self.image_pool, images.draws)

    def encode_texts(self, texts: Texts) -> Pooled:
        words = self.words(texts)  # eq. 1
        vectors = unit(words.vectors) if self.config.unit_words else words.vectors
        return self._pooled(Fragments(vectors, words.mask), self.text_pool, texts.draws)

    def score(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
        return self.heads(*self._nodes(images, texts))  # eq. 10

    def score_parts(self, images: Pooled, texts: Pooled) -> dict[str, Float[Tensor, "image text"]]:
        """Return the scores of the heads. The nodes of a head are no addends: see `scores_without`."""
        return self.heads.parts(*self._nodes(images, texts))

    def scores_without(self, images: Pooled, texts: Pooled) -> dict[str, Float[Tensor, "image text"]]:
        """Return the scores without the `global` node and without the `local` nodes, if there are both."""
        if self.whole is None or self.local is None:
            return {}
        return self.heads.scores_without(*self._nodes(images, texts))

    def align(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text region word"]:
        """Return the attention of words over regions (eq. 3), whether or not the local nodes are scored."""
        return self._weights(images, texts).masked_fill(~texts.mask.T, 0).permute(0, 3, 1, 2)

    @property
    def ordered(self) -> bool:
        return self.config.places > 0

    @property
    def num_regions(self) -> int | None:
        return self.config.places or None

    @property
    def pair_norm(self) -> MaskedBatchNorm | None:
        return self.heads.norm

    def pair_size(self, regions: int, words: int) -> int:
        return max(regions, self.config.dim) * words

    def _pooled(self, fragments: Fragments, pool: GlobalAttention | None, draws: Tensor | None) -> Pooled:
        vectors, mask = fragments.vectors, fragments.mask
        pooled = fragments.summary() if pool is None else pool(vectors, mask, pool.draw_noise(mask, draws))  # eq. 2
        return Pooled(vectors, mask, pooled)

    def _weights(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image region word text"]:
        similarity = similarities(images, texts)
        return attention(similarity, images, self.config.temperature, self.config.normalisation, texts.mask)

    def _nodes(
        self, images: Pooled, texts: Pooled
    ) -> tuple[Float[Tensor, "image text node similarity"], Bool[Tensor, "image text node"]]:
        """The similarity vectors of each pair, the global one first, and their mask."""
        nodes, real = [], []
        if self.whole is not None:
            nodes.append(self.whole(images.pooled[:, None], texts.pooled[None])[:, :, None])  # eq. 5
            real.append(texts.mask.new_ones(len(texts), 1))
        if self.local is not None:
            items = Packed(texts.mask)
            attended_regions = unit(attended(self._weights(images, texts), images.vectors, items))  # eq. 3-4
            words = items.pack(texts.vectors.flatten(0, 1))
            nodes.append(items.unpack(self.local(attended_regions, words[None])))  # eq. 5
            real.append(texts.mask)
        return torch.cat(nodes, 2), torch.cat(real, 1).expand(len(images), -1, -1)
