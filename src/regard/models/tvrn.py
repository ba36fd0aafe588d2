"""TVRN: A Mutually Textual and Visual Refinement Network for Image-Text Matching. Pang, Zeng, Zhao, Xue. IEEE TMM 2024.

The authors' code and the figures of the paper were read, its text was not. Equation numbers are those of
docs/models/tvrn.md.

Needs: boxes (spatial graph of regions); text_relations (spatial graph of words).

Differences from the authors' code. The first four are faults of that code; docs/models/tvrn.md lists all seven, none of
which is reproduced
- each text is expanded with what it attends to in the image of its pair; theirs takes image 0 of the block for all;
- an image's boxes stay with it; theirs scores every block with the overlaps of the last batch that was loaded;
- the two gates of eq. 10 are softmaxes over regions and over words; theirs run over an axis of size 1, so all are 1;
- the global attention of an image normalises features; theirs normalises each of 72 positions, which have no meaning;
- the gate of words would cancel in the quotient of eq. 11: it is left out, or weights the nodes of words (`weighted`);
- the dropout of the words' global attention is drawn once per text and training step; theirs once per pair;
- words have a spatial graph of their dependencies, as in the paper's figure; theirs is loaded and not used;
- `reasoning="both"` scores with both heads in one checkpoint; the authors train two models and average their scores,
  which is `regard evaluate RUN RUN`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.batch import Fragments, Images, Texts, has_holes, on_both
from regard.boxes import iou
from regard.kernels import fused
from regard.layers.attention import attended, attention, of_context, of_queries, similarities
from regard.layers.graph_convolution import between_real
from regard.layers.normalisation import MaskedBatchNorm
from regard.layers.packed import Packed
from regard.layers.pooling import fill, unit
from regard.layers.recurrent import run_gru
from regard.layers.similarity import GlobalAttention, Head, Heads, Noise, SimilarityVector, xavier
from regard.matcher import Matcher


@dataclass(frozen=True)
class TVRNImages(Fragments):
    """Images: words attend to the context features (`vectors`) and are compared with the unified features."""

    unified: Float[Tensor, "item fragment part dim"]  # parts: content and, if there is any, context
    pooled: Float[Tensor, "item dim"] | None = None

    fragment_axes: ClassVar[dict[str, tuple[int, ...]]] = {**Fragments.fragment_axes, "unified": (1,)}

    def parts(self) -> Fragments:
        """Return the unified features as fragments: one or two per region."""
        mask = on_both(lambda t: t.repeat_interleave(self.unified.shape[2], 1), self.mask)
        return Fragments(self.unified.flatten(1, 2), mask)

    def summary(self) -> Float[Tensor, "item dim"]:
        return self.parts().summary() if self.pooled is None else self.pooled


@dataclass(frozen=True)
class TVRNTexts(Fragments):
    """Texts: content features (`vectors`), the same after the GRU (`refined`), and the GRU's final state (`state`)."""

    refined: Float[Tensor, "item fragment dim"] | None = None
    context: Float[Tensor, "item fragment dim"] | None = None  # attends to regions
    state: Float[Tensor, "item dim"] | None = None
    # Random factors of the global attention's dropout in a training step. They are drawn once per text, not per pair,
    # so that a batch that is scored in blocks gives the scores of the whole.
    noise: Float[Tensor, "item fragment copy dim"] | None = None
    whole_noise: Float[Tensor, "item dim"] | None = None

    fragment_axes: ClassVar[dict[str, tuple[int, ...]]] = {
        **Fragments.fragment_axes,
        **dict.fromkeys(("refined", "context", "noise"), (1,)),
    }

    def dropout(self) -> Noise | None:
        """Return the factors of the global attention's dropout; None if nothing is dropped."""
        return None if self.noise is None or self.whole_noise is None else Noise(self.noise, self.whole_noise)

    def summary(self) -> Float[Tensor, "item dim"]:
        """Return the unit mean of the refined words, which are compared with images."""
        return super().summary() if self.refined is None else Fragments(self.refined, self.mask).summary()


class TVRN(Matcher):
    image_encoding, text_encoding = TVRNImages, TVRNTexts

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 1024
        # Each side on its own
        unit_regions: bool = True  # scale regions to unit length
        unit_words: bool = True
        context: Literal["both", "self", "spatial", "none"] = "both"  # of regions
        spatial: Literal["cosine", "released"] = "cosine"  # eq. 3; released: of regions as in the authors' code
        iou_threshold: float = 0.5
        text_spatial: Literal["dep", "none"] = "dep"  # a graph of words, beside their self-attention
        unify: Literal["gru", "gru_plain", "none"] = "gru"  # gru_plain: without the residual
        # Each pair
        expand: bool = True  # add a second vector per word: what it attends to in the image
        refine: Literal["gru", "gru_plain", "none"] = "gru"
        enhancement: Literal["regions", "weighted", "equal", "prob", "none"] = "regions"
        temperature: float = 9.0
        # The score
        nodes: Literal["both", "global", "local"] = "both"
        reasoning: Literal["sgr", "saf", "both"] = "sgr"
        steps: int = 3  # of SGR
        similarity_dim: int = 256
        dropout: float = 0.4  # of the global attention
        places: int = 0  # regions per image if each place has an affine map in the global attention; 0: BN of features

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        dim, similarity_dim = config.dim, config.similarity_dim
        self.has_self_attention = config.context in ("both", "self")
        guides = config.nodes != "local" or config.enhancement in ("weighted", "regions")
        self.project = nn.Linear(feature_dim, dim)
        xavier(self.project)
        self.attend = Attention(dim, config.temperature) if config.expand or self.has_self_attention else None
        by_boxes, by_words = "boxes" in self.needs(), "text_relations" in self.needs()
        released = config.spatial == "released"
        self.region_graph = SpatialAttention(dim, config.temperature, released) if by_boxes else None
        self.word_graph = SpatialAttention(dim, config.temperature) if by_words else None
        self.read_regions = Reader(dim, config.unify)
        self.read_words = Reader(dim, config.refine)
        places = config.places * (1 if config.context == "none" else 2)  # of the fragments of TVRNImages.parts
        self.image_pool = GlobalAttention(dim, config.dropout, True, places) if guides else None
        self.text_pool = GlobalAttention(dim, config.dropout, normalise=False) if config.nodes != "local" else None
        self.whole = SimilarityVector(dim, similarity_dim) if config.nodes != "local" else None
        self.local = SimilarityVector(dim, similarity_dim) if config.nodes != "global" else None
        kinds = ["sgr", "saf"] if config.reasoning == "both" else [config.reasoning]
        kinds = kinds if self.local is not None else ["mean"]  # a single node needs no reasoning
        self.heads = Heads(Head(similarity_dim, config.steps, kind) for kind in kinds)

    def needs(self) -> frozenset[str]:
        boxes = {"boxes"} if self.config.context in ("both", "spatial") else set()
        relations = {"text_relations"} if self.config.expand and self.config.text_spatial == "dep" else set()
        return frozenset(boxes | relations)

    @property
    def ordered(self) -> bool:
        return self.config.unify != "none" or self.config.places > 0

    @property
    def num_regions(self) -> int | None:
        return self.config.places or None

    def encode_images(self, images: Images) -> TVRNImages:
        vectors = self.project(images.features)  # eq. 1
        vectors = (unit(vectors) if self.config.unit_regions else vectors).masked_fill(~images.mask[..., None], 0)
        content, contexts = Fragments(vectors, images.mask), []
        if self.attend is not None and self.has_self_attention:
            contexts.append(self.attend.within(content))  # eq. 2
        if self.region_graph is not None:
            near = iou(self.required(images, "boxes")) >= self.config.iou_threshold
            contexts.append(self.region_graph(content, near))  # eq. 3
        context = unit(torch.stack(contexts).sum(0)) if contexts else vectors  # eq. 4
        unified, state = self.read_regions(vectors, content)  # eq. 6
        parts = [unified]
        if contexts:
            joint = unit(F.leaky_relu(vectors * context, 0.1))  # eq. 5
            parts.append(self.read_regions(joint, content, state)[0])  # eq. 6
        encoding = TVRNImages(context, images.mask, torch.stack(parts, 2))
        if self.image_pool is None:
            return encoding
        features = encoding.parts()
        pooled = self.image_pool(
            features.vectors, features.mask, self.image_pool.draw_noise(features.mask, images.draws)
        )  # eq. 9
        return replace(encoding, pooled=pooled)

    def encode_texts(self, texts: Texts) -> TVRNTexts:
        words = self.words(texts)
        content = Fragments(unit(words.vectors) if self.config.unit_words else words.vectors, words.mask)  # eq. 1
        refined, state = self.read_words(content.vectors, content)  # eq. 8
        refined = None if refined is content.vectors else refined
        expands = self.config.expand and self.attend is not None
        noise = None if self.text_pool is None else self.text_pool.draw_noise(words.mask, texts.draws, 1 + expands)
        if not self.config.expand or self.attend is None:
            return TVRNTexts(content.vectors, words.mask, refined, None, None, *(noise or (None, None)))
        context = self.attend.within(content)  # eq. 2
        if self.word_graph is not None:
            relations = self.required(texts, "relations")[:, : words.mask.shape[1], : words.mask.shape[1]]
            context = unit(context + self.word_graph(content, (relations + relations.mT) > 0))  # eq. 3-4
        return TVRNTexts(content.vectors, words.mask, refined, context, state, *(noise or (None, None)))

    def score(self, images: TVRNImages, texts: TVRNTexts) -> Float[Tensor, "image text"]:
        return self.heads(*self._nodes(images, texts))  # eq. 14-15

    def score_parts(self, images: TVRNImages, texts: TVRNTexts) -> dict[str, Float[Tensor, "image text"]]:
        """Return the scores of the heads. The nodes of a head are no addends: see `scores_without`."""
        return self.heads.parts(*self._nodes(images, texts))

    def scores_without(self, images: TVRNImages, texts: TVRNTexts) -> dict[str, Float[Tensor, "image text"]]:
        """Return the scores without the `global` node, without the `local` nodes, and without `context`.

        Each is present if the model has it. Without context, words are not expanded with what they attend to.
        """
        scores = {}
        if self.whole is not None and self.local is not None:
            scores = self.heads.scores_without(*self._nodes(images, texts))
        if texts.context is not None:
            scores["context"] = self.score(images, replace(texts, context=None))
        return scores

    def _nodes(
        self, images: TVRNImages, texts: TVRNTexts
    ) -> tuple[Float[Tensor, "image text node similarity"], Bool[Tensor, "image text node"]]:
        """The similarity vectors of each pair, the global one first, and their mask."""
        words, mask = self._refined(images, texts)
        nodes, real = [], []
        if self.whole is not None and self.text_pool is not None and images.pooled is not None:
            pooled = self.text_pool(words, mask.expand(words.shape[:-1]), texts.dropout())  # eq. 9
            nodes.append(self.whole(images.pooled[:, None], pooled)[:, :, None])  # eq. 13
            real.append(mask.new_ones(len(texts), 1))
        if self.local is not None:
            parts, weights = images.parts(), self._weights(images, words, mask)
            items = Packed(mask)
            attended_regions = attended(_to_unit(weights, parts.vectors), parts.vectors, items)  # eq. 12
            local = items.unpack(self.local(attended_regions, items.pack(words.flatten(1, 2))))  # eq. 13
            if self.config.enhancement == "weighted" and images.pooled is not None:
                logits = self.config.temperature * torch.einsum("itwd,id->itw", words, images.pooled)
                gate = logits.masked_fill(~mask, float("-inf")).softmax(-1) * mask.sum(1)[:, None]  # eq. 10
                local = local * gate[..., None]
            nodes.append(local)
            real.append(mask)
        return torch.cat(nodes, 2), torch.cat(real, 1).expand(len(images), -1, -1)

    def align(self, images: TVRNImages, texts: TVRNTexts) -> Float[Tensor, "image text region word"]:
        """Return the weight of each region for each word: the sum over the region's content and context.

        If words are expanded, it is the mean over the two vectors of each word.
        """
        words, mask = self._refined(images, texts)
        weights = self._weights(images, words, mask).masked_fill(~mask.T, 0)
        by_region = weights.unflatten(1, images.unified.shape[1:3]).sum(2)
        by_word = by_region.unflatten(2, (-1, texts.mask.shape[1])).mean(2)
        return by_word.permute(0, 3, 1, 2)

    def word_context(self, images: TVRNImages, texts: TVRNTexts) -> Float[Tensor, "image text region word"] | None:
        """Return the weight of each region in what each word is expanded with (eq. 7)."""
        weights = self._context_weights(images, texts)
        return None if weights is None else weights.masked_fill(~texts.mask.T, 0).permute(0, 3, 1, 2)

    @property
    def pair_norm(self) -> MaskedBatchNorm | None:
        return self.heads.norm

    def pair_size(self, regions: int, words: int) -> int:
        return 2 * words * max(2 * regions, self.config.dim)

    def _refined(
        self, images: TVRNImages, texts: TVRNTexts
    ) -> tuple[Float[Tensor, "#image text word dim"], Bool[Tensor, "text word"]]:
        """The refined words: first those of the sentence, then, for each image, what each word attends to in it."""
        words = (texts.vectors if texts.refined is None else texts.refined)[None]
        weights = self._context_weights(images, texts)
        if weights is None:
            return words, texts.mask
        expanded = self.read_words.pairs(weights, images.vectors, texts)  # eq. 7-8
        words = words.to(expanded.dtype).expand(len(images), -1, -1, -1)  # bfloat16 under autocast
        return torch.cat([words, expanded], 2), on_both(lambda t: t.repeat(1, 2), texts.mask)

    def _context_weights(self, images: TVRNImages, texts: TVRNTexts) -> Float[Tensor, "image region word text"] | None:
        """What each word attends to in each image (eq. 7); None if words are not expanded."""
        if self.attend is None or texts.context is None:
            return None
        return self.attend.between(images, Fragments(texts.context, texts.mask))

    def _weights(
        self, images: TVRNImages, words: Float[Tensor, "#image text word dim"], mask: Bool[Tensor, "text word"]
    ) -> Float[Tensor, "image fragment word text"]:
        """The weight of each unified feature for each word (eq. 10-11)."""
        parts = images.parts()
        similarity = (parts.vectors @ words.flatten(1, 2).mT).unflatten(2, mask.shape).transpose(2, 3).contiguous()
        similarity = fill(fill(similarity, on_both(of_context, parts.mask), 0.0), on_both(of_queries, mask), 0.0)
        return self.enhanced(attention(similarity, parts, self.config.temperature), images)

    def enhanced(
        self, weights: Float[Tensor, "image fragment word text"], images: TVRNImages
    ) -> Float[Tensor, "image fragment word text"]:
        """Return attention weights after semantic alignment enhancement (eq. 10-11), or BFAN's (`equal`, `prob`)."""
        parts, kind = images.parts(), self.config.enhancement
        if kind == "none":
            return weights
        if kind == "equal":
            weights = weights * _at_least(weights, 1 / parts.mask.sum(1)[:, None, None, None])
        elif kind == "prob":
            roots = weights.sqrt()
            weights = weights * _at_least(weights, (weights * roots).sum(1, True) / roots.sum(1, True))
        elif images.pooled is not None:
            agreement = self.config.temperature * torch.einsum("ifd,id->if", parts.vectors, images.pooled)
            gate = agreement.masked_fill(~parts.mask, float("-inf")).softmax(1)
            weights = weights * gate[:, :, None, None]
        return weights / weights.sum(1, keepdim=True)


def _at_least(weights: Tensor, bound: Tensor) -> Tensor:
    """Whether each weight is at least the bound, up to rounding, so that of equal weights all are."""
    return weights >= (1 - 1e-5) * bound


class Attention(nn.Module):
    """ATT (eq. 2): fragments attend to those of their own or of another item. Both uses share the two linear maps."""

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        xavier(self)

    def within(self, items: Fragments) -> Float[Tensor, "item fragment dim"]:
        """Return what each fragment attends to in its own item, of unit length."""
        return _attended_within(self.key(items.vectors) @ self.query(items.vectors).mT, items, self.temperature)

    def between(
        self, context: Fragments, queries: Fragments
    ) -> Float[Tensor, "context context_fragment query_fragment query"]:
        """Return the weight of each context fragment for each query fragment, for all pairs of items."""
        keys = Fragments(self.key(context.vectors), context.mask)
        similarity = similarities(keys, Fragments(self.query(queries.vectors), queries.mask))
        return attention(similarity, context, self.temperature)


class SpatialAttention(nn.Module):
    """SPA (eq. 3): fragments attend to each other by cosine. The cosine of two that are not near is set to 0.

    If `released`, it is as in the authors' code, whose maps have biases. There, the inner product of the key of i and
    the query of j is divided by the length of the key of j.
    """

    def __init__(self, dim: int, temperature: float, released: bool = False) -> None:
        super().__init__()
        self.temperature, self.released = temperature, released
        self.query, self.key = nn.Linear(dim, dim, bias=released), nn.Linear(dim, dim, bias=released)
        xavier(self)

    def forward(
        self, items: Fragments, near: Bool[Tensor, "item fragment fragment"]
    ) -> Float[Tensor, "item fragment dim"]:
        near = near | torch.eye(near.shape[1], dtype=torch.bool, device=near.device)
        keys, queries = self.key(items.vectors), unit(self.query(items.vectors))
        if self.released:
            queries = queries / keys.norm(dim=2, keepdim=True).clamp(min=1e-8)
        cosine = (keys if self.released else unit(keys)) @ queries.mT
        return _attended_within(cosine * near, items, self.temperature)


def _to_unit(
    weights: Float[Tensor, "image fragment word text"], vectors: Float[Tensor, "image fragment dim"]
) -> Float[Tensor, "image fragment word text"]:
    """The weights, scaled so that each weighted sum of the vectors has unit length (by the Gram matrix)."""
    gram = vectors @ vectors.mT
    squares = (weights * (gram @ weights.flatten(2)).view_as(weights)).sum(1, keepdim=True)
    return weights * torch.rsqrt(squares.clamp(min=1e-6))  # sums that cancel have no direction: they stay short


def _attended_within(
    similarity: Float[Tensor, "item context query"], items: Fragments, temperature: float
) -> Float[Tensor, "item query dim"]:
    """What each fragment attends to in its own item, of unit length; zero on padding."""
    weights = attention(between_real(similarity, items.mask)[..., None], items, temperature)[..., 0]
    return unit(weights.mT @ items.vectors).masked_fill(~items.mask[..., None], 0)


class Reader(nn.Module):
    """A GRU over an item's content and then its attended vectors: unit(GRU + content) at each position (eq. 6, 8).

    `kind`: gru; gru_plain, which does not add the content; or none, which returns the vectors unchanged.
    """

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, batch_first=True) if kind != "none" else None
        self.residual = kind == "gru"

    def forward(
        self,
        vectors: Float[Tensor, "item fragment dim"],
        content: Fragments,
        state: Float[Tensor, "item dim"] | None = None,
    ) -> tuple[Float[Tensor, "item fragment dim"], Float[Tensor, "item dim"] | None]:
        """Return the refined vectors, starting from `state`, and the state after the last real fragment."""
        if self.gru is None:
            return vectors, None
        output, last = run_gru(self.gru, vectors, content.mask, None if state is None else state[None])
        return self._refined(output.contiguous(), content.vectors), last[0]

    def pairs(
        self,
        weights: Float[Tensor, "image region word text"],
        regions: Float[Tensor, "image region dim"],
        texts: TVRNTexts,
    ) -> Float[Tensor, "image text word dim"]:
        """Return what each word attends to, unit(weights x regions), after the GRU has continued from `texts.state`."""
        if self.gru is None or texts.state is None:
            items = Packed(texts.mask)
            return items.unpack(attended(_to_unit(weights, regions), regions, items))
        input_map, state_map, input_bias, state_bias = self.gru.all_weights[0]
        # The map of the input is linear, so it is applied once per region instead of once per word and pair.
        mapped = F.linear(regions, input_map)
        by_word = _to_unit(weights, regions).permute(2, 0, 3, 1).contiguous()
        state, refined, gates = texts.state.expand(len(regions), -1, -1), [], 2 * regions.shape[-1]
        is_real = texts.mask.mT if has_holes(texts.mask) else None
        for number, (of_word, content) in enumerate(zip(by_word, texts.vectors.unbind(1), strict=True)):
            x, h = torch.baddbmm(input_bias, of_word, mapped), F.linear(state, state_map, state_bias)
            if kernels := fused(x, h):
                after = kernels.gru_step(x, h, state.contiguous())
            else:
                reset, update = (x[..., :gates] + h[..., :gates]).sigmoid().chunk(2, -1)
                new = (x[..., gates:] + reset * h[..., gates:]).tanh()
                after = torch.lerp(new.to(state.dtype), state, update.to(state.dtype))
            state = after if is_real is None else torch.where(is_real[number, :, None], after, state)
            refined.append(self._refined(state, content).to(weights.dtype))
        return torch.stack(refined, 2)

    def _refined(
        self, output: Float[Tensor, "*item dim"], content: Float[Tensor, "*#item dim"]
    ) -> Float[Tensor, "*item dim"]:
        return unit(output + content if self.residual else output)
