"""CMSEI: Cross-modal Semantic Enhanced Interaction for Image-Sentence Retrieval. Ge, Chen, Xu, Tao, Jose. WACV 2023.

A reconstruction. The abstract and a figure's caption were read; the method section was not, and no code is public. The
modules and their order are the abstract's; the equations are rebuilt from the code that the author demonstrably builds
on (DIME's refinement and guidance cells, CGMN's and VSRN's graphs). Equation numbers are those of docs/models/cmsei.md.

Needs: boxes (spatial graph: iou, polar, classes); relations (semantic graph).

Differences, each an option where the paper may mean something else
- no batch normalisation before the pooled similarity (DIME has one): it would make a pair's score depend on the batch;
- padded words are left out of the normalisation over queries: DIME leaves them in, and its scores depend on padding;
- the two linear maps of an attended vector are applied to the context before attention (weights sum to one): equal;
- one checkpoint scores both directions (`alignment="both"`); DIME trains one model for each and averages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.batch import Fragments, Images, Pooled, Texts
from regard.layers.attention import attention, similarities
from regard.layers.graph import GraphConvolution, PolarConvolution, between_real, normalised
from regard.layers.pooling import mean_max_pool, unit
from regard.matcher import Matcher
from regard.regions.geometry import RELATION_CLASSES, iou, relation_classes

Gate = Literal["norm", "sigmoid", "memory"]
EdgesOf = Callable[[Tensor, Images], tuple[Tensor, ...]]


class CMSEI(Matcher):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 256
        # Stage 1: explicit relations
        spatial: Literal["iou", "polar", "classes", "full", "none"] = "iou"
        iou_threshold: float = 0.4
        num_kernels: int = 8  # of the polar graph
        semantic: Literal["edges", "weighted", "none"] = "edges"  # weighted: each edge times the cosine of its ends
        directed: bool = False  # False: an edge either way; True: only the subject hears of the object
        num_predicates: int = 0  # 0: edges only; else each predicate adds a learnt vector (later ones share the last)
        num_layers: int = 2  # of each graph
        convolution: Literal["residual", "classic"] = "residual"
        fusion: Literal["parallel", "sequential", "gated"] = "parallel"
        # Stage 2: interactive attention between objects and words
        object_word: Literal["both", "regions", "words", "none"] = "both"  # which side attends to the other
        region_temperature: float = 4.0
        word_temperature: float = 9.0
        # Stage 3: interaction across levels
        object_sentence: bool = True
        word_image: bool = True
        gate: Gate = "norm"
        # The score
        alignment: Literal["both", "regions", "words"] = "both"
        global_weight: float = 0.0  # beta, of the cosine of the two global vectors

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        self.project = nn.Linear(feature_dim, config.dim)
        self.spatial = _spatial_graph(config)
        self.semantic = _semantic_graph(config)
        self.fusion_gate = nn.Linear(2 * config.dim, config.dim) if config.fusion == "gated" else None
        # Each branch refines the fragments of one side by the other side, and compares them with its global vector.
        self.regions = self.sentences = None
        if config.alignment in ("both", "regions"):
            attends = config.object_word in ("both", "regions")
            self.regions = Branch(config.dim, attends, config.region_temperature, config.object_sentence, config.gate)
        if config.alignment in ("both", "words"):
            attends = config.object_word in ("both", "words")
            self.sentences = Branch(config.dim, attends, config.word_temperature, config.word_image, config.gate)

    def needs(self) -> frozenset[str]:
        boxes = {"boxes"} if self.config.spatial in ("iou", "polar", "classes") else set()
        return frozenset(boxes | ({"relations"} if self.config.semantic != "none" else set()))

    def encode_images(self, images: Images) -> Pooled:
        regions = unit(self.project(images.features)).masked_fill(~images.mask[..., None], 0)  # eq. 1
        regions = unit(self._fuse(regions, images))  # eq. 2-5
        return Pooled(regions, images.mask, Fragments(regions, images.mask).summary())

    def encode_texts(self, texts: Texts) -> Pooled:
        words = self.words(texts)
        vectors = unit(words.vectors)  # eq. 1
        return Pooled(vectors, words.mask, Fragments(vectors, words.mask).summary())

    def score(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
        scores = []
        if self.regions is not None:
            scores.append(self.regions(context=texts, queries=images).T)  # eq. 9
        if self.sentences is not None:
            scores.append(self.sentences(context=images, queries=texts))  # eq. 10
        return sum(scores) / len(scores) + self.config.global_weight * (images.pooled @ texts.pooled.T)  # eq. 11

    def align(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text region word"]:
        """The attention of words over regions, where that branch is; else of regions over words."""
        if self.sentences is not None:
            weights = self.sentences.weights(images, texts).masked_fill(~texts.mask, 0)
            return weights.permute(0, 2, 1, 3)
        assert self.regions is not None
        return self.regions.weights(texts, images).masked_fill(~images.mask, 0).permute(2, 0, 3, 1)

    def _fuse(self, regions: Tensor, images: Images) -> Tensor:
        """The regions after both graphs (eq. 2-5)."""
        spatial = self._reason(self.spatial, regions, images, self._spatial_edges)
        if self.config.fusion == "sequential":
            return self._reason(self.semantic, spatial, images, self._semantic_edges)
        semantic = self._reason(self.semantic, regions, images, self._semantic_edges)
        if self.fusion_gate is not None:
            gate = self.fusion_gate(torch.cat([spatial, semantic], -1)).sigmoid()
            return gate * spatial + (1 - gate) * semantic
        if not self.spatial or not self.semantic:
            return spatial if self.spatial else semantic
        return (spatial + semantic) / 2

    @staticmethod
    def _reason(layers: nn.ModuleList, regions: Tensor, images: Images, edges_of: EdgesOf) -> Tensor:
        if layers:
            inputs = edges_of(regions, images)
            for layer in layers:
                regions = layer(regions, images.mask, *inputs)
        return regions

    def _spatial_edges(self, regions: Tensor, images: Images) -> tuple[Tensor, ...]:
        """What each spatial layer reads: (edges,), (edges, labels) or (boxes,) (eq. 2)."""
        kind = self.config.spatial
        if kind == "full":
            return (between_real(regions @ regions.mT, images.mask),)
        boxes = self.required(images, "boxes")
        if kind == "polar":
            return (boxes,)
        if kind == "classes":
            labels = between_real(relation_classes(boxes), images.mask)
            return normalised(_with_self((labels > 0), images.mask, regions.dtype)), labels
        near = (iou(boxes) >= self.config.iou_threshold).to(regions.dtype)
        return (_with_self(near, images.mask, regions.dtype) * (regions @ regions.mT),)

    def _semantic_edges(self, regions: Tensor, images: Images) -> tuple[Tensor, ...]:
        """What each semantic layer reads: (edges,), or (edges, predicates) (eq. 3)."""
        relations = between_real(self.required(images, "relations"), images.mask)
        related = relations > 0
        edges = _with_self(related if self.config.directed else related | related.mT, images.mask, regions.dtype)
        edges = edges * (regions @ regions.mT) if self.config.semantic == "weighted" else normalised(edges)
        return (edges, relations.clamp(max=self.config.num_predicates)) if self.config.num_predicates else (edges,)


class Branch(nn.Module):
    """One direction: the queries' fragments attend to the context, hear its global vector, and are compared with it."""

    def __init__(self, dim: int, attends: bool, temperature: float, guided: bool, gate: Gate) -> None:
        super().__init__()
        self.temperature = temperature
        self.attend = RefinementCell(dim) if attends else None
        self.guide = GuidanceCell(dim, gate) if guided else None

    def forward(self, context: Pooled, queries: Pooled) -> Float[Tensor, "context query"]:
        fragments = queries.vectors.expand(len(context), -1, -1, -1)
        if self.attend is not None:
            fragments = self.attend(queries.vectors, context.vectors, self.weights(context, queries))
        if self.guide is not None:
            fragments = self.guide(fragments, context.pooled, queries.mask)
        pooled = mean_max_pool(fragments, queries.mask)
        return torch.einsum("cqd,cd->cq", pooled, context.pooled)

    def weights(self, context: Pooled, queries: Pooled) -> Float[Tensor, "context fragment query word"]:
        return attention(similarities(context, queries), context, self.temperature)  # eq. 6


class RefinementCell(nn.Module):
    """DIME's cross-modal refinement: the attended context scales and shifts each query fragment (eq. 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(dim, 2 * dim)  # scale and shift
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)

    def forward(
        self,
        queries: Float[Tensor, "query word dim"],
        context: Float[Tensor, "context fragment dim"],
        weights: Float[Tensor, "context fragment query word"],
    ) -> Float[Tensor, "context query word dim"]:
        # The weights of a query sum to one, so mapping the context first equals mapping the attended vector.
        modulation = weights.flatten(2).mT @ self.modulation(context)
        scale, shift = modulation.unflatten(1, weights.shape[2:]).chunk(2, dim=-1)
        return queries + self.second(self.first(torch.addcmul(shift, queries, scale.tanh())).relu())


class GuidanceCell(nn.Module):
    """DIME's global-local guidance: the other side's global vector re-weighs each fragment's features (eq. 8).

    norm: (1 + x) v, x = (W v) * g scaled to unit length along the fragments; sigmoid: v * sigma(W [v; g]);
    memory: IMRAM's gated memory, s v + (1 - s) tanh(W' [v; g]) with s = sigma(W [v; g]).
    """

    def __init__(self, dim: int, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        width = 2 * dim if gate == "memory" else dim
        self.local = nn.Linear(dim, width)
        self.whole = None if gate == "norm" else nn.Linear(dim, width, bias=False)

    def forward(
        self,
        fragments: Float[Tensor, "context query word dim"],
        whole: Float[Tensor, "context dim"],
        mask: Tensor,
    ) -> Float[Tensor, "context query word dim"]:
        local = self.local(fragments)
        if self.whole is None:
            x = (local * whole[:, None, None, :]).masked_fill(~mask[..., None], 0)
            squares = (x * x).sum(2, keepdim=True)
            return torch.addcmul(fragments, fragments, x * torch.rsqrt(squares + 1e-16))
        joint = local + self.whole(whole)[:, None, None, :]
        if self.gate == "sigmoid":
            return fragments * joint.sigmoid()
        keep, new = joint.chunk(2, dim=-1)
        return torch.lerp(new.tanh(), fragments, keep.sigmoid())


def _spatial_graph(config: CMSEI.Config) -> nn.ModuleList:
    if config.spatial == "none":
        return nn.ModuleList()
    if config.spatial == "polar":
        return nn.ModuleList(PolarConvolution(config.dim, config.num_kernels) for _ in range(config.num_layers))
    num_labels = len(RELATION_CLASSES) if config.spatial == "classes" else 0
    classic = config.convolution == "classic"
    return nn.ModuleList(GraphConvolution(config.dim, num_labels, classic) for _ in range(config.num_layers))


def _semantic_graph(config: CMSEI.Config) -> nn.ModuleList:
    if config.semantic == "none":
        return nn.ModuleList()
    num_labels = config.num_predicates + 1 if config.num_predicates else 0
    classic = config.convolution == "classic"
    return nn.ModuleList(GraphConvolution(config.dim, num_labels, classic) for _ in range(config.num_layers))


def _with_self(edges: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The edges between real regions, and one from each real region to itself."""
    loops = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return between_real(edges.bool() | loops, mask).to(dtype)
