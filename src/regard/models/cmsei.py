"""CMSEI: Cross-modal Semantic Enhanced Interaction for Image-Sentence Retrieval. Ge, Chen, Xu, Tao, Jose. WACV 2023.

A reconstruction. The abstract and the caption of a figure were read. The method section was not available, and no code
is public. The modules and their order follow the abstract. The equations are rebuilt from the code that the author
builds on (the refinement and guidance cells of DIME, the graphs of CGMN and VSRN). Equation numbers are those of
docs/models/cmsei.md.

Needs: boxes (spatial graph: iou, polar, classes); relations (semantic graph).

Differences, each an option where the paper may mean something else
- no batch normalisation before the pooled similarity (DIME has one): a pair's score would depend on the batch;
- padded words are left out of the normalisation over queries; in DIME they count, and its scores depend on padding;
- the two linear maps of an attended vector are applied to the context before attention, which is equal because the
  weights sum to one;
- one checkpoint scores both directions (`alignment="both"`); DIME trains one model for each and averages their scores.

Beyond the paper, all off by default: a learnt summary (`summary`), and a score that adds it with a learnt weight
(`interaction.learn_weights`).
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from regard.batch import Images, Pooled, Texts
from regard.layers.interaction import Interaction, InteractionOptions
from regard.layers.pooling import unit
from regard.layers.reasoning import ExplicitReasoning, GraphOptions
from regard.layers.summary import SummaryOptions, summarise
from regard.matcher import Matcher


class CMSEI(Matcher):
    image_encoding, text_encoding = Pooled, Pooled

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dim: int = 256
        # Graphs between regions (eq. 2-5), with the options spatial, iou_threshold, num_kernels, semantic, directed,
        # num_predicates, num_layers, convolution and fusion
        graph: GraphOptions = field(default_factory=GraphOptions)
        # Interaction of regions and words, and the score (eq. 6-11), with the options object_word, region_temperature,
        # word_temperature, object_sentence, word_image, gate, alignment, local_weight, global_weight and learn_weights
        interaction: InteractionOptions = field(default_factory=InteractionOptions)
        # Global vectors, with the options pooling and region_mlp
        summary: SummaryOptions = field(default_factory=SummaryOptions)

    def __init__(self, config: Config, feature_dim: int, words: nn.Module) -> None:
        super().__init__(config, feature_dim, words)
        self.project = nn.Linear(feature_dim, config.dim)
        self.mlp = config.summary.perceptron(feature_dim, config.dim)
        self.pool_images, self.pool_texts = config.summary.pool(), config.summary.pool()
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
        regions = self.explicit(regions, images.mask, boxes, relations)  # eq. 2-5
        return Pooled(regions, images.mask, summarise(self.pool_images, regions, images.mask, projected))

    def encode_texts(self, texts: Texts) -> Pooled:
        words = self.words(texts)
        vectors = unit(words.vectors)  # eq. 1
        return Pooled(vectors, words.mask, summarise(self.pool_texts, vectors, words.mask, words.vectors))

    def score(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text"]:
        return self.interaction(images, texts)  # eq. 6-11

    def score_parts(self, images: Pooled, texts: Pooled) -> dict[str, Float[Tensor, "image text"]]:
        """Return the mean of the two branches as `regions` and `words`, the side that is refined, and `global`."""
        return self.interaction.parts(images, texts)

    def align(self, images: Pooled, texts: Pooled) -> Float[Tensor, "image text region word"]:
        return self.interaction.align(images, texts)

    def start_from(self, source: Matcher) -> list[str]:
        """Copy the encoders of `source`; the interaction starts as the identity, and unscored if its weight is learnt.

        The graphs start as the identity anyway (`classic` graphs do not).
        """
        self.interaction.start_as_identity()
        return super().start_from(source)

    def pair_size(self, regions: int, words: int) -> int:
        return 2 * regions * self.config.dim
