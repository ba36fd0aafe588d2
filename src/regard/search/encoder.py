"""What an index computes of pictures and sentences: summary vectors for shortlists, and encodings for exact scores."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from regard.batch import Fragments, Vectors
from regard.encode import check_inputs, read_images
from regard.evaluation.fusion import Fusion
from regard.files import InputError
from regard.matcher import Matcher
from regard.relations.from_sentences import texts_of
from regard.runtime import fast_products
from regard.score import score_all
from regard.search.entries import pack, unpack
from regard.search.source import Source
from regard.training.trained_run import TrainedRun


@runtime_checkable
class Shortlist(Protocol):
    """One vector per picture and per sentence, whose inner products choose the pictures to score exactly."""

    fingerprint: str  # of everything that the vectors depend on
    name: str  # for messages

    def check(self, source: Source) -> None:
        """Raise InputError if the pictures of a source cannot be encoded."""

    def encode_images(self, source: Source, rows: np.ndarray) -> Float[np.ndarray, "image dim"]:
        """Return the vectors of pictures, in float32."""

    def encode_texts(self, sentences: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Return the vectors of sentences, in float32."""


class RunShortlist:
    """The summary vectors of one run, or of several: their vectors joined, so that their inner products add up."""

    def __init__(self, runs: Sequence[TrainedRun]) -> None:
        self.runs = list(runs)
        self.fingerprint = "+".join(run.fingerprint for run in self.runs)
        self.name = " + ".join(run.folder.name for run in self.runs)

    def check(self, source: Source) -> None:
        for run in self.runs:
            check_inputs(run.model, source.opened_by(run))

    @torch.inference_mode()
    def encode_images(self, source: Source, rows: np.ndarray) -> Float[np.ndarray, "image dim"]:
        parts = (run.model.encode_images(read_images(run.model, source.opened_by(run), rows)) for run in self.runs)
        return np.concatenate([_summary(part) for part in parts], 1)

    @torch.inference_mode()
    def encode_texts(self, sentences: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        parts = (run.model.encode_texts(texts_of(run.model, sentences).to(_device(run.model))) for run in self.runs)
        return np.concatenate([_summary(part) for part in parts], 1)


@dataclass(frozen=True)
class Queries:
    """Sentences as an index reads them: summary vectors, and the encoding that `score` reads if there is a run."""

    summaries: Float[np.ndarray, "text dim"]
    encoding: Any = None

    def split(self) -> list["Queries"]:
        """Return each sentence on its own."""
        slices = [slice(row, row + 1) for row in range(len(self.summaries))]
        return [Queries(self.summaries[own], self.encoding[own] if self.encoding else None) for own in slices]


@dataclass(frozen=True)
class Stored:
    """Pictures as `score` reads them; see `Encoder.stored`."""

    summaries: Float[np.ndarray, "image dim"]
    encoding: Any = None  # None if there is no run, or no picture

    def take(self, places: np.ndarray) -> "Stored":
        """Return the pictures at `places`."""
        if len(places) == len(self.summaries) and (places[1:] > places[:-1]).all():  # all of them, in their order
            return self
        taken = self.encoding[places] if self.encoding is not None and len(places) else None
        return Stored(self.summaries[places], taken.trimmed() if isinstance(taken, Fragments) else taken)


def nearness(summaries: Float[np.ndarray, "row dim"], vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " row"]:
    """Return the inner products of summary vectors with one vector.

    torch computes them: the threads of NumPy's BLAS go on spinning afterwards, beside torch's, which score next.
    """
    return (torch.from_numpy(summaries) @ torch.from_numpy(vector)).numpy()


class Encoder:
    """The encoder of an index: a run that scores exactly, a first stage that chooses what to score, or both.

    Without a first stage, the summaries of the run choose. With `fusion`, the score of a pair is the weighted sum of
    the standardised scores of both stages. Without it, the score is that of the run, or of the first stage if there is
    no run.
    """

    def __init__(self, run: TrainedRun | None, first: Shortlist | None = None, fusion: Fusion | None = None) -> None:
        if run is None and first is None:
            raise InputError("An index requires a run or an embedding model.")
        self.run, self.first, self.fusion = run, first, fusion

    @cached_property
    def dim(self) -> int:
        """The number of values of a summary vector."""
        return self.encode_texts(["a"]).summaries.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides the stored vectors and the scores."""
        if self.first is None:
            assert self.run is not None
            return self.run.fingerprint
        parts = [self.run.fingerprint if self.run else "", self.first.fingerprint]
        parts.append(str(self.fusion.to_dict()) if self.fusion else "")
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]

    def check(self, source: Source) -> None:
        """Raise InputError if the pictures of a source cannot be encoded."""
        if self.run:
            check_inputs(self.run.model, source.opened_by(self.run))
        if self.first:
            self.first.check(source)

    @torch.inference_mode()
    def encode_images(self, source: Source, rows: np.ndarray) -> tuple[Float[np.ndarray, "image dim"], list[bytes]]:
        """Return the summary vectors and the packed encodings of pictures of a source. Raises InputError for NaN."""
        summaries = self.first.encode_images(source, rows) if self.first else None
        if self.run is None:
            assert summaries is not None
            return summaries, [b""] * len(rows)
        model = self.run.model
        images = model.encode_images(read_images(model, source.opened_by(self.run), rows))
        kept = model.for_scoring(images).to("cpu")
        own = _summary(images)
        if (wrong := np.isnan(own).any(1)).any():
            raise InputError(
                f"The encoding of {source.split.ids[int(rows[wrong.argmax()])]} contains NaN, so that it cannot be "
                f"searched. Check the model."
            )
        if summaries is None and isinstance(kept, Vectors):  # the summary is all that `score` reads
            return own, [b""] * len(rows)
        return own if summaries is None else summaries, pack(kept)

    @torch.inference_mode()
    def encode_texts(self, sentences: Sequence[str]) -> Queries:
        """Return sentences as queries. Raises InputError for a sentence without words."""
        for sentence in sentences:
            if not sentence.strip():
                raise InputError('A sentence is empty: expected words, such as "a dog runs after a man".')
        summaries = self.first.encode_texts(sentences) if self.first else None
        if self.run is None:
            assert summaries is not None
            return Queries(summaries)
        encoding = self.run.model.encode_texts(texts_of(self.run.model, sentences).to(_device(self.run.model)))
        return Queries(_summary(encoding) if summaries is None else summaries, encoding)

    def stored(self, summaries: Float[np.ndarray, "image dim"], packed: Sequence[bytes]) -> Stored:
        """Return pictures from their summaries and packed encodings, which are unpacked here and nowhere else.

        Packed encodings are empty if the summary is all that `score` reads.
        """
        if self.run is None or not packed:
            return Stored(summaries)
        model = self.run.model
        encoding = unpack(model.image_encoding, packed) if packed[0] else Vectors(torch.from_numpy(summaries))
        return Stored(summaries, encoding.to(_device(model)))

    @torch.inference_mode()
    def score_all(self, images: Stored, queries: Queries) -> Float[np.ndarray, "text image"]:
        """Return the scores of stored pictures for all queries."""
        near = queries.summaries @ images.summaries.T
        if self.run is None or not near.size:
            return near
        scores: Any = score_all(self.run.model, images.encoding, queries.encoding).numpy().T
        return self.fusion.combine([near, scores]) if self.fusion else scores

    def score(self, images: Stored, query: Queries) -> Float[np.ndarray, " image"]:
        """Return the scores of stored pictures for one sentence."""
        return self.score_all(images, query)[0]

    @torch.inference_mode()
    def parts(self, images: Stored, query: Queries) -> dict[str, Float[np.ndarray, " image"]]:
        """Return the addends of `score` by name.

        They are those of the run's score (`Matcher.score_parts`), or the two terms of a fusion, or "summary" if there
        is no run.
        """
        near = images.summaries @ query.summaries[0]
        if self.run is None or not len(near):
            return {"summary": near}
        if self.fusion:
            scores: Any = score_all(self.run.model, images.encoding, query.encoding)[:, 0].numpy()
            return dict(zip(("first stage", "second stage"), self.fusion.parts([near, scores]), strict=True))
        with fast_products():
            parts = self.run.model.score_parts(images.encoding.map(_wide), query.encoding)
        return {name: values[:, 0].float().cpu().numpy() for name, values in parts.items()}


def _device(model: Matcher) -> torch.device:
    return next(model.parameters()).device


def _summary(encoding: Any) -> Float[np.ndarray, "item dim"]:
    return encoding.summary().float().cpu().numpy()


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor
