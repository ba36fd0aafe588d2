"""Hire: Hybrid-modal Interaction with multiple Relational Enhancements for Image-Text Matching. Ge et al. TIST 2024.

A reconstruction. The abstract and a second-hand summary were read. The method section was not available, and no code is
public. Hire extends CMSEI by implicit relations: self-attention between regions *before* the explicit graphs, "to
improve the fault tolerance of explicit relationship detection". Equation numbers are those of docs/models/hire.md.

Needs: boxes (spatial graph: iou, polar, classes); relations (semantic graph).

Differences, each an option where the paper may mean something else
- the self-attention has the sizes of DIME's (16 heads, a feed-forward layer of 512, no layer normalisation) and a map
  of the joined heads, which DIME's does not have (`output_map=False`); its form in Hire is not known;
- its output is scaled to unit length, like every input of the graphs, whose edges are cosines;
- words attend to each other only with `implicit="both"`: the summary says "each modality", the abstract says regions;
- everything else is as in CMSEI, with its differences, and with its options beyond the paper.
"""

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.batch import Images, Pooled, Texts
from regard.layers.attention import SelfAttention
from regard.layers.interaction import Interaction, InteractionOptions
from regard.layers.pooling import unit
from regard.layers.reasoning import ExplicitReasoning, GraphOptions
from regard.layers.summary import SummaryOptions, summarise, zero
from regard.matcher import Matcher


class Hire(Matcher):
    image_encoding, text_encoding = Pooled, Pooled

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 256
        # Explicit relations (eq. 4), with the options spatial, iou_threshold, num_kernels, semantic, directed,
        # num_predicates, num_layers, convolution and fusion
        graph: GraphOptions = field(default_factory=GraphOptions)
        # Interaction of regions and words, and the score (eq. 6), with the options object_word, region_temperature,
        # word_temperature, object_sentence, word_image, gate, alignment, local_weight, global_weight and learn_weights
        interaction: InteractionOptions = field(default_factory=InteractionOptions)
        # Global vectors, with the options pooling and region_mlp
        summary: SummaryOptions = field(default_factory=SummaryOptions)
        # Implicit relations (eq. 2-3)
        implicit: Literal["regions", "words", "both", "none"] = "regions"
        order: Literal["before", "after"] = "before"  # of the explicit graphs
        recombine: bool = False  # add the input of the second of these two stages to its output
        num_heads: int = 16
        num_implicit: int = 1  # number of layers
        feedforward_dim: int = 512  # 0: no feed-forward layer
        layer_norm: bool = False
        output_map: bool = True  # of the joined heads; DIME has none

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        self.project = nn.Linear(feature_dim, config.dim)
        self.mlp = config.summary.perceptron(feature_dim, config.dim)
        self.pool_images, self.pool_texts = config.summary.pool(), config.summary.pool()
        self.implicit_regions = _implicit(config, config.implicit in ("regions", "both"))
        self.implicit_words = _implicit(config, config.implicit in ("words", "both"))
        self.explicit = ExplicitReasoning(config.dim, config.graph)
        self.interaction = Interaction(config.dim, config.interaction)

    def needs(self) -> frozenset[str]:
        return self.config.graph.needs()

    def encode_images(self, images: Images) -> Pooled:
        read = self.needs()
        boxes, relations = (self.required(images, n) if n in read else None for n in ("boxes", "relations"))
        projected = self.project(images.features)
        if self.mlp is not None:
            projected = projected + self.mlp(images.features, images.mask)
        regions = unit(projected).masked_fill(~images.mask[..., None], 0)  # eq. 1

        def implicit(vectors: Tensor) -> Tensor:
            return _attended(self.implicit_regions, vectors, images.mask)

        def explicit(vectors: Tensor) -> Tensor:
            return self.explicit(vectors, images.mask, boxes, relations)  # eq. 4

        first, second = (implicit, explicit) if self.config.order == "before" else (explicit, implicit)
        inputs = first(regions)
        regions = second(inputs)
        if self.config.recombine:
            regions = unit(inputs + regions)  # eq. 5
        return Pooled(regions, images.mask, summarise(self.pool_images, regions, images.mask, projected))

    def encode_texts(self, texts: Texts) -> Pooled:
        words = self.words(texts)
        vectors = _attended(self.implicit_words, unit(words.vectors), words.mask)
        return Pooled(vectors, words.mask, summarise(self.pool_texts, vectors, words.mask, words.vectors))

    def score(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
        return self.interaction(images, texts)  # eq. 6

    def score_parts(self, images: Pooled, texts: Pooled) -> dict[str, Float[Tensor, "image text"]]:
        """Return the mean of the two branches as `regions` and `words`, the side that is refined, and `global`."""
        return self.interaction.parts(images, texts)

    def align(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text region word"]:
        return self.interaction.align(images, texts)

    def start_from(self, source: Matcher) -> list[str]:
        """Copy the encoders of `source`; implicit relations start as the identity, and the interaction as in CMSEI.

        Implicit relations do not with `layer_norm`, or without `output_map`.
        """
        for layer in [*self.implicit_regions, *self.implicit_words]:
            layer.start_as_identity()
        self.interaction.start_as_identity()
        return super().start_from(source)

    def pair_size(self, regions: int, words: int) -> int:
        return 2 * regions * self.config.dim


class ImplicitRelations(SelfAttention):
    """Fragments of one item attend to each other, then each goes through a feed-forward layer (eq. 2-3)."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, layer_norm: bool, output_map: bool) -> None:
        super().__init__(dim, num_heads, output_map)
        self.norm = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        self.feedforward = self.norm_after = None
        if feedforward_dim:
            layers = (nn.Linear(dim, feedforward_dim), nn.ReLU(), nn.Linear(feedforward_dim, dim))
            self.feedforward = nn.Sequential(*layers)
            self.norm_after = nn.LayerNorm(dim) if layer_norm else nn.Identity()

    def forward(
        self, vectors: Float[Tensor, "item fragment dim"], mask: Bool[Tensor, "item fragment"]
    ) -> Float[Tensor, "item fragment dim"]:
        vectors = self.norm(vectors + self.attend(vectors, mask[:, None]))
        if self.feedforward is not None and self.norm_after is not None:
            vectors = self.norm_after(vectors + self.feedforward(vectors))
        return vectors

    def start_as_identity(self) -> None:
        """Set the last layer of each residual branch to zero."""
        zero(self.write, *([self.feedforward[-1]] if self.feedforward is not None else []))


def _implicit(config: Hire.Config, exists: bool) -> nn.ModuleList:
    count = config.num_implicit if exists else 0
    options = config.dim, config.num_heads, config.feedforward_dim, config.layer_norm, config.output_map
    return nn.ModuleList(ImplicitRelations(*options) for _ in range(count))


def _attended(layers: nn.ModuleList, vectors: Tensor, mask: Tensor) -> Tensor:
    """The fragments after the layers, of unit length and zero on padding; unchanged if there is no layer."""
    for layer in layers:
        vectors = layer(vectors, mask)
    return unit(vectors).masked_fill(~mask[..., None], 0) if layers else vectors
