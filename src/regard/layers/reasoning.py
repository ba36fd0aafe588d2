"""Graph convolutions over the explicit relations between regions: stage 1 of CMSEI, shared by Hire.

Equation numbers are those of docs/models/cmsei.md.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.boxes import RELATION_CLASSES, iou, relation_classes
from regard.layers.graph_convolution import GraphConvolution, PolarConvolution, between_real, normalised
from regard.layers.pooling import unit


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """Options of the graphs between the regions of an image."""

    # Edges: iou: between boxes that overlap; polar: weighted by kernels over distance and angle; classes: labelled by
    # the relation class of the boxes; full: between all regions. Those of iou and full are weighted by the cosine.
    spatial: Literal["iou", "polar", "classes", "full", "none"] = "iou"
    iou_threshold: float = 0.4  # of the iou graph
    num_kernels: int = 8  # of the polar graph
    semantic: Literal["edges", "weighted", "none"] = "edges"  # weighted: each edge times the cosine of its ends
    directed: bool = False  # False: edges in both directions; True: only from object to subject
    num_predicates: int = 0  # 0: no labels; otherwise each predicate adds a learnt vector (later ones share the last)
    num_layers: int = 2  # of each graph
    convolution: Literal["residual", "classic"] = "residual"
    fusion: Literal["parallel", "sequential", "gated"] = "parallel"

    def needs(self) -> frozenset[str]:
        """Return the optional inputs that the graphs read, among boxes and relations."""
        boxes = {"boxes"} if self.spatial in ("iou", "polar", "classes") else set()
        return frozenset(boxes | ({"relations"} if self.semantic != "none" else set()))


class ExplicitReasoning(nn.Module):
    """A spatial and a semantic graph over the regions of each image, fused (eq. 2-5)."""

    def __init__(self, dim: int, options: GraphOptions) -> None:
        super().__init__()
        self.options = options
        classic = options.convolution == "classic"

        def graph(num_labels: int) -> nn.ModuleList:
            return nn.ModuleList(GraphConvolution(dim, num_labels, classic) for _ in range(options.num_layers))

        self.spatial = self.semantic = nn.ModuleList()
        if options.spatial == "polar":
            self.spatial = nn.ModuleList(PolarConvolution(dim, options.num_kernels) for _ in range(options.num_layers))
        elif options.spatial != "none":
            self.spatial = graph(len(RELATION_CLASSES) if options.spatial == "classes" else 0)
        if options.semantic != "none":
            self.semantic = graph(options.num_predicates + 1 if options.num_predicates else 0)
        both = options.spatial != "none" and options.semantic != "none"
        self.gate = nn.Linear(2 * dim, dim) if options.fusion == "gated" and both else None

    def forward(
        self,
        regions: Float[Tensor, "image region dim"],
        mask: Bool[Tensor, "image region"],
        boxes: Float[Tensor, "image region 4"] | None,
        relations: Int[Tensor, "image region region"] | None,
    ) -> Float[Tensor, "image region dim"]:
        """Return the regions after both graphs, of unit length. The input has unit length, too.

        `boxes` and `relations` may be None if `GraphOptions.needs` does not contain them.
        """
        spatial = semantic = regions
        if self.spatial:
            inputs = self._spatial_inputs(regions, mask, boxes)
            for layer in self.spatial:
                spatial = layer(spatial, mask, *inputs)
        if self.options.fusion == "sequential":
            semantic = spatial
        if self.semantic:
            inputs = self._semantic_inputs(semantic, mask, relations)
            for layer in self.semantic:
                semantic = layer(semantic, mask, *inputs)
        return unit(self._fused(spatial, semantic))  # eq. 5

    def _fused(self, spatial: Tensor, semantic: Tensor) -> Tensor:
        if self.options.fusion == "sequential":
            return semantic
        if self.gate is not None:
            gate = self.gate(torch.cat([spatial, semantic], -1)).sigmoid()
            return gate * spatial + (1 - gate) * semantic
        if not self.spatial or not self.semantic:
            return spatial if self.spatial else semantic
        return (spatial + semantic) / 2

    def _spatial_inputs(self, regions: Tensor, mask: Tensor, boxes: Tensor | None) -> tuple[Tensor, ...]:
        """The inputs of each spatial layer: (edges,), (edges, labels) or (boxes,) (eq. 2)."""
        kind = self.options.spatial
        if kind == "full":
            return (between_real(regions @ regions.mT, mask),)
        assert boxes is not None
        if kind == "polar":
            return (boxes,)
        if kind == "classes":
            labels = between_real(relation_classes(boxes), mask)
            return normalised(_with_self((labels > 0), mask, regions.dtype)), labels
        near = iou(boxes) >= self.options.iou_threshold
        return (_with_self(near, mask, regions.dtype) * (regions @ regions.mT),)

    def _semantic_inputs(self, regions: Tensor, mask: Tensor, relations: Tensor | None) -> tuple[Tensor, ...]:
        """The inputs of each semantic layer: (edges,) or (edges, predicates) (eq. 3)."""
        assert relations is not None
        relations = between_real(relations, mask)
        related = relations > 0
        edges = _with_self(related if self.options.directed else related | related.mT, mask, regions.dtype)
        edges = edges * (regions @ regions.mT) if self.options.semantic == "weighted" else normalised(edges)
        return (edges, relations.clamp(max=self.options.num_predicates)) if self.options.num_predicates else (edges,)


def _with_self(edges: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The edges between real regions, with an edge from each real region to itself."""
    loops = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return between_real(edges | loops, mask).to(dtype)
