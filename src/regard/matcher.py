"""The interface of every model: encode each side separately, then score every pair of two encodings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.batch import Batch, Images, Texts
from regard.files import InputError
from regard.layers.normalisation import MaskedBatchNorm

# The parts that encode the fragments and summaries of one side alone, by their names in every model that has them. Each
# model has the first two.
ENCODERS = ("words", "project", "mlp", "pool_images", "pool_texts")


@dataclass(frozen=True)
class RelationAlignment:
    """How well each relation of each image matches each relation of each text, for a model that matches relations.

    Ends are (subject, predicate, object). In an image they are a region, the number of a predicate, and a region; in a
    text they are three words. -1 means that there is no such word, and (-1, -1, -1) is the sentence as a whole.
    """

    similarity: Float[Tensor, "image text relation other"]  # zero on padding
    image_ends: Int[Tensor, "image relation 3"]
    image_mask: Bool[Tensor, "image relation"]
    text_ends: Int[Tensor, "text other 3"]
    text_mask: Bool[Tensor, "text other"]


class Matcher(nn.Module, ABC):
    """A model that scores pairs of an image and a text. In eval mode a pair's score depends on that pair only."""

    Config: ClassVar[type]  # a frozen dataclass with one option per choice and per ablation row
    # The types that encode_images and encode_texts return, of the class or, if they depend on the configuration, of the
    # instance. A saved encoding is read with their `load`.
    image_encoding: type[Batch]
    text_encoding: type[Batch]

    def __init__(self, config: Any, feature_dim: int, words: nn.Module) -> None:
        """Create a model for regions with `feature_dim` features.

        `words` encodes Texts as Fragments of width `config.dim`; its attribute `tokenizer` is the tokenizer it expects.
        `feature_dim` is 0 for a model that reads no regions.
        """
        super().__init__()
        self.config, self.feature_dim = config, feature_dim
        self.words = words

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the text encoder."""
        return self.words.tokenizer

    def needs(self) -> frozenset[str]:
        """Return the optional inputs that this configuration reads.

        They are among boxes, labels, relations (between regions), text_relations (between words, of any kind), roles
        (the relations between words in regard.words.ROLES) and embeddings (one vector per image).
        """
        return frozenset()

    @property
    def embedding_dim(self) -> int:
        """The number of values of `Images.embeddings` that the model reads; 0 if it reads none."""
        return 0

    @abstractmethod
    def encode_images(self, images: Images) -> Batch:
        """Return the encoding of the images: everything that `score` and `align` read."""

    @abstractmethod
    def encode_texts(self, texts: Texts) -> Batch:
        """Return the encoding of the texts: everything that `score` and `align` read."""

    @abstractmethod
    def score(self, images: Any, texts: Any) -> Float[Tensor, "image text"]:
        """Return the score of every pair of two encodings, for training, evaluation and search alike."""

    def score_parts(self, images: Any, texts: Any) -> dict[str, Float[Tensor, "image text"]]:
        """Return the addends of `score` by name, computed by its inner functions. Their sum is `score`.

        By default there is one addend: `local`, a score of regions and words.
        """
        return {"local": self.score(images, texts)}

    def scores_without(self, images: Any, texts: Any) -> dict[str, Float[Tensor, "image text"]]:
        """Return the scores if one kind of evidence is left out, by its name; in eval mode only.

        It is for scores that are no sum: their differences from `score` are not addends. By default there is none.
        """
        return {}

    def for_scoring(self, encoding: Any) -> Any:
        """Return the part of an encoding that `score` reads. `score` accepts this part and the whole encoding.

        It has the type of the encoding; a model whose score reads only one vector per item returns Vectors.
        """
        return encoding

    @abstractmethod
    def align(self, images: Any, texts: Any) -> Float[Tensor, "image text region word"]:
        """Return how much each region matches each word, computed by the inner functions of `score`; 0 on padding."""

    def word_context(self, images: Any, texts: Any) -> Float[Tensor, "image text region word"] | None:
        """Return the weight of each region in the context that each word takes from the image; 0 on padding.

        None if the words of the model take no context from the image.
        """
        return None

    def align_relations(self, images: Any, texts: Any) -> RelationAlignment | None:
        """Return how well each two relations match, or None if the model does not match relations."""
        return None

    def extra_losses(
        self, images: Any, texts: Any, scores: Float[Tensor, "image text"], matches: Bool[Tensor, "image text"]
    ) -> dict[str, Tensor]:
        """Return the weighted losses to add to the loss over scores, by name. Like that loss, each is a batch sum."""
        return {}

    @property
    def has_extra_losses(self) -> bool:
        """Whether the model has losses of its own."""
        return type(self).extra_losses is not Matcher.extra_losses

    def pair_size(self, regions: int, words: int) -> int:
        """Return about how many numbers `score` keeps in memory per pair, from which the size of blocks is chosen."""
        return regions * words

    @property
    def pair_norm(self) -> MaskedBatchNorm | None:
        """The batch normalisation inside `score`, over what is computed for each pair; None if there is none.

        `score` may contain no other layer whose output for a pair depends on the batch, and none that draws random
        numbers: then a batch that is scored in blocks gives the scores of the whole (see `regard.score.score_batch`).
        """
        return None

    @property
    def ordered(self) -> bool:
        """Whether the order of an image's regions matters, because the paper's model reads them one after another."""
        return False

    @property
    def num_regions(self) -> int | None:
        """The number of regions that each image must have; None if it may differ."""
        return None

    def start_from(self, source: "Matcher") -> list[str]:
        """Copy the encoders of both sides from a trained model, and return the names of the copied parts.

        They are the parts among ENCODERS that both models have. CMSEI and Hire also set their other parts such that
        they do not change the copied vectors, if `interaction.learn_weights` is true: with the pooling and the
        perceptron of `source`, they start with the scores of an embedding. Raises InputError if the
        text encoder or the projection of regions has another form.
        """
        own, theirs = self.state_dict(), source.state_dict()
        copied = {}
        for part in ENCODERS:
            needed = {key: value for key, value in own.items() if key.startswith(f"{part}.")}
            found = {key: value for key, value in theirs.items() if key.startswith(f"{part}.")}
            if not found and part not in ENCODERS[:2]:
                continue
            shapes, other = ({key: list(value.shape) for key, value in side.items()} for side in (needed, found))
            if needed and shapes != other:
                key = min(key for key in {**shapes, **other} if shapes.get(key) != other.get(key))
                raise InputError(
                    f"This {type(self).__name__} cannot start from that {type(source).__name__}: {key} is "
                    f"{shapes.get(key, 'absent')} here and {other.get(key, 'absent')} there. Use the same dim, [words] "
                    "and features."
                )
            copied.update(found if needed else {})
        self.load_state_dict(copied, strict=False)
        return [part for part in ENCODERS if any(key.startswith(f"{part}.") for key in copied)]

    def required(self, batch: Images | Texts, name: str) -> Tensor:
        """Return the field `name` of the batch. Raises InputError if it is absent."""
        value = getattr(batch, name)
        if value is None:
            raise InputError(
                f"{type(self).__name__} as configured needs {name}, which these {type(batch).__name__} do not have."
            )
        return value

    def forward(self, images: Images, texts: Texts) -> Float[Tensor, "image text"]:
        """Return the score of every pair of an image and a text."""
        return self.score(self.encode_images(images), self.encode_texts(texts))
