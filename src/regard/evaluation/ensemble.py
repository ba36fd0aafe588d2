"""Several models as one: the weighted sum of their standardised scores (`Fusion`), as a Matcher.

Its encodings hold those of the members, so that an ensemble is evaluated, searched, indexed and explained like any
model. It is made by `regard ensemble` from trained runs, and is not trained itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from regard.batch import Images
from regard.evaluation.fusion import Fusion
from regard.files import InputError
from regard.joint import Joint, JointTokenizer
from regard.matcher import Matcher, RelationAlignment

TOP, SHORTLIST = 10, 50  # images that a shortlist should contain, and its length, to compare members by


class Ensemble(Matcher):
    """The members score; their standardised scores are summed with weights. Always in eval mode.

    The alignment is that of one member, the one with the largest weight that aligns regions and words.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The members and the numbers of their fusion."""

        members: Annotated[tuple[str, ...], Field(min_length=2)]  # folders of runs, or embeddings:NAME
        fingerprints: tuple[str, ...]  # of the members
        means: tuple[float, ...]
        deviations: tuple[float, ...]
        weights: tuple[float, ...]
        lead: int = 0  # the member whose summary vectors make shortlists

    image_encoding: type[Joint]
    text_encoding: type[Joint]

    def __init__(self, config: Config, members: Sequence[Matcher]) -> None:
        """Join the members, which are in the order of `config.members`.

        Raises InputError if the lists of `config` differ in length, or if members read different numbers of features.
        """
        nn.Module.__init__(self)
        lists = (config.members, config.fingerprints, config.means, config.deviations, config.weights)
        if {len(members)} != set(map(len, lists)) or not 0 <= config.lead < len(members):
            raise InputError("The lists of an ensemble differ in length: make it again with `regard ensemble`.")
        self.config, self.members = config, nn.ModuleList(members)
        dims = sorted({member.feature_dim for member in members} - {0})
        if len(dims) > 1:
            raise InputError(f"The members read {' and '.join(map(str, dims))} features per region: expected the same.")
        self.feature_dim = dims[0] if dims else 0
        self.fusion = Fusion(config.means, config.deviations, config.weights)
        aligning = [at for at, member in enumerate(members) if member.feature_dim]
        self.explaining = max(aligning, key=lambda at: config.weights[at], default=0)
        self.image_encoding = Joint.of_kinds([member.image_encoding for member in members], config.lead)
        self.text_encoding = Joint.of_kinds([member.text_encoding for member in members], config.lead)
        self._tokenizer = JointTokenizer([member.tokenizer for member in members], self.explaining)
        self.eval()

    @property
    def tokenizer(self) -> JointTokenizer:
        return self._tokenizer

    @property
    def embedding_dim(self) -> int:
        return sum(self._of_members("embedding_dim"))

    @property
    def ordered(self) -> bool:
        return any(self._of_members("ordered"))

    @property
    def num_regions(self) -> int | None:
        return max(filter(None, self._of_members("num_regions")), default=None)

    def train(self, mode: bool = True) -> "Ensemble":
        """Stay in eval mode: an ensemble is not trained."""
        super().train(False)
        return self

    def needs(self) -> frozenset[str]:
        return frozenset().union(*(member.needs() for member in self._members))

    def encode_images(self, images: Images) -> Joint:
        parts, first = [], 0
        for member in self._members:
            own, width = images, member.embedding_dim
            if width:
                vectors = self.required(images, "embeddings")
                own = replace(images, embeddings=vectors[:, first : first + width])
                first += width
            parts.append(member.encode_images(own))
        return self.image_encoding.of(parts)

    def encode_texts(self, texts: Any) -> Joint:
        """Return the encodings of texts that `tokenizer` made."""
        return self.text_encoding.of([m.encode_texts(own) for m, own in zip(self._members, texts.parts, strict=True)])

    def forward(self, images: Images, texts: Any) -> Float[Tensor, "image text"]:
        """Return the score of every pair; `texts` are those that `tokenizer` made."""
        return self.score(self.encode_images(images), self.encode_texts(texts))

    def for_scoring(self, encoding: Joint) -> Joint:
        return encoding.of([m.for_scoring(own) for m, own in zip(self._members, encoding.parts, strict=True)])

    def score(self, images: Joint, texts: Joint) -> Float[Tensor, "image text"]:
        scores: Tensor = self.fusion.combine(self._scores(images, texts))
        return scores

    def score_parts(self, images: Joint, texts: Joint) -> dict[str, Float[Tensor, "image text"]]:
        """Return the weighted standardised score of each member, by its name."""
        return dict(zip(self.names(), self.fusion.parts(self._scores(images, texts)), strict=True))

    def align(self, images: Joint, texts: Joint) -> Float[Tensor, "image text region word"]:
        """Return the alignment of the member that explains. Raises InputError if none aligns regions and words."""
        return self._members[self.explaining].align(*self._explained(images, texts))

    def word_context(self, images: Joint, texts: Joint) -> Float[Tensor, "image text region word"] | None:
        return self._members[self.explaining].word_context(*self._explained(images, texts))

    def align_relations(self, images: Joint, texts: Joint) -> RelationAlignment | None:
        return self._members[self.explaining].align_relations(*self._explained(images, texts))

    def pair_size(self, regions: int, words: int) -> int:
        return max(member.pair_size(regions, words) for member in self._members)

    def names(self) -> list[str]:
        """Return a short name of each member, all different."""
        return short_names(self.config.members)

    @property
    def _members(self) -> list[Matcher]:
        members: list[Any] = list(self.members)
        return members

    def _of_members(self, name: str) -> list[Any]:
        return [getattr(member, name) for member in self._members]

    def _scores(self, images: Joint, texts: Joint) -> list[Tensor]:
        pairs = zip(self._members, images.parts, texts.parts, strict=True)
        return [member.score(own_images, own_texts) for member, own_images, own_texts in pairs]

    def _explained(self, images: Joint, texts: Joint) -> tuple[Any, Any]:
        return images.parts[self.explaining], texts.parts[self.explaining]


def short_names(members: Sequence[str]) -> list[str]:
    """Return the last part of the path of each member, followed by its position where two are the same."""
    last = [member.rstrip("/").rpartition("/")[2] for member in members]
    return [name if last.count(name) == 1 else f"{name} ({at + 1})" for at, name in enumerate(last)]


def shortlist_recall(summaries: Float[np.ndarray, "image text"], scores: Float[np.ndarray, "image text"]) -> float:
    """Return the share of the TOP best images by `scores` that are among the SHORTLIST best by `summaries`.

    It is the mean over texts. A summary score that others share with the first image outside the shortlist is outside
    too: ties count against the summaries. In a gallery of less than 10 * SHORTLIST images, a shortlist has a tenth of
    them, so that the share is informative.
    """
    num_images = len(scores)
    length = min(SHORTLIST, max(TOP, num_images // 10), num_images)
    top = np.argpartition(-scores, min(TOP, num_images) - 1, axis=0)[:TOP]
    if length == num_images:
        return 1.0
    first_outside = -np.partition(-summaries, length, axis=0)[length]
    return float((np.take_along_axis(summaries, top, 0) > first_outside).mean())
