"""The one interface of every model: encode each side alone, then score every pair of two encodings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.batch import Batch, Images, Texts
from regard.files import InputError


@dataclass(frozen=True)
class RelationAlignment:
    """How well each relation of each image answers each relation of each text, where a model has relations as nodes.

    Ends are (subject, predicate, object): two regions and the predicate's number between them, or three words; -1 is
    none, and three of them are the sentence as a whole.
    """

    similarity: Float[Tensor, "image text relation other"]  # zero on padding
    image_ends: Int[Tensor, "image relation 3"]
    image_mask: Bool[Tensor, "image relation"]
    text_ends: Int[Tensor, "text other 3"]
    text_mask: Bool[Tensor, "text other"]


class Matcher(nn.Module, ABC):
    """A model that scores every pair of an image and a text; in eval mode a pair's score depends on that pair alone."""

    Config: ClassVar[type]  # a frozen dataclass: one option for each choice and each ablation row

    def __init__(self, config: Any, feature_dim: int, words: nn.Module) -> None:
        """A model for regions of `feature_dim` features.

        `words` encodes Texts to Fragments of `config.dim` and carries the tokenizer that it was made for.
        """
        super().__init__()
        self.config, self.feature_dim = config, feature_dim
        self.words = words

    @property
    def tokenizer(self) -> Any:
        return self.words.tokenizer

    def needs(self) -> frozenset[str]:
        """The optional inputs that this configuration reads.

        Of boxes, labels, relations, text_relations (between words, of any kind), roles (those of regard.words.ROLES).
        """
        return frozenset()

    @abstractmethod
    def encode_images(self, images: Images) -> Batch:
        """Everything that `score` needs of the images."""

    @abstractmethod
    def encode_texts(self, texts: Texts) -> Batch:
        """Everything that `score` needs of the texts."""

    @abstractmethod
    def score(self, images: Any, texts: Any) -> Float[Tensor, "image text"]:
        """The score of every pair of two encodings: the one path of training, evaluation and search."""

    def for_scoring(self, encoding: Any) -> Any:
        """What `score` reads of an encoding, where that is less than all of it: `score` takes either."""
        return encoding

    @abstractmethod
    def align(self, images: Any, texts: Any) -> Float[Tensor, "image text region word"]:
        """How much each region answers each word, from score's own inner functions; zero on padding."""

    def align_relations(self, images: Any, texts: Any) -> RelationAlignment | None:
        """The same between relations, for a model that matches them; None for one that does not."""
        return None

    def extra_losses(
        self, images: Any, texts: Any, scores: Float[Tensor, "image text"], matches: Bool[Tensor, "image text"]
    ) -> dict[str, Tensor]:
        """Losses beside the one over scores, weighted, by name. Sums over the items of a batch, as that one is."""
        return {}

    def pair_size(self, regions: int, words: int) -> int:
        """About how many numbers `score` holds at a time for a pair of so many regions and words: blocks follow it."""
        return regions * words

    @property
    def ordered(self) -> bool:
        """Whether the order of an image's regions matters: where the paper's model reads them one after another."""
        return False

    def required(self, batch: Images | Texts, name: str) -> Tensor:
        """The field `name` of the batch. Raises InputError where it is absent."""
        value = getattr(batch, name)
        if value is None:
            raise InputError(
                f"{type(self).__name__} as configured needs {name}, and these {type(batch).__name__} have none."
            )
        return value

    def needed(self, batch: Images | Texts, name: str) -> Tensor | None:
        """The field `name` where this configuration needs it, else None. Raises InputError where it is absent."""
        return self.required(batch, name) if name in self.needs() else None

    def forward(self, images: Images, texts: Texts) -> Float[Tensor, "image text"]:
        return self.score(self.encode_images(images), self.encode_texts(texts))
