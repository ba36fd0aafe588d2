"""First stages of an index that are not runs: CLIP and SigLIP by name, and vectors of the user's own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from regard.data.layout import Files
from regard.data.split import embeddings_file
from regard.extract.embeddings import BATCH, SIDE
from regard.files import InputError
from regard.models.zero_shot import ZeroShot
from regard.photographs import decode_photograph
from regard.search.source import Source


class Embedding:
    """An embedding model (`ZeroShot`) as a first stage. It reads the vectors that a data folder stores, or photographs.

    `name` is a folder, or a name on the Hugging Face hub. Raises what ZeroShot raises.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self._model = name, ZeroShot(name, device)
        self.fingerprint = self._model.fingerprint
        self._latest: tuple[Source, Float[np.ndarray, "image dim"]] | None = None  # the vectors read last

    def check(self, source: Source) -> None:
        """Raise InputError if the source has neither vectors of the model nor photographs."""
        if self._stored(source) is None:
            self._photograph(source, 0)

    def encode_images(self, source: Source, rows: np.ndarray) -> Float[np.ndarray, "image dim"]:
        """See Shortlist."""
        stored = self._stored(source)
        if stored is not None:
            return stored[rows]
        parts = []
        for first in range(0, len(rows), BATCH):
            paths = [self._photograph(source, int(row)) for row in rows[first : first + BATCH]]
            pictures = [decode_photograph(str(path), path.read_bytes(), SIDE)[0] for path in paths]
            parts.append(self._model.encode_photographs(pictures))
        return np.concatenate(parts)

    def encode_texts(self, sentences: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """See Shortlist."""
        return self._model.encode_sentences(sentences)

    def _stored(self, source: Source) -> Float[np.ndarray, "image dim"] | None:
        """The vectors that the data folder stores for the source; None if there are none."""
        if self._latest and self._latest[0] is source:
            return self._latest[1]
        split = source.split
        if not Files(split.folder, split.name).path(embeddings_file(self.name)).is_file():
            return None
        (vectors,) = split.with_embeddings({self.name: self.fingerprint}).embeddings
        self._latest = source, vectors.vectors.float().numpy()
        return self._latest[1]

    def _photograph(self, source: Source, row: int) -> Path:
        path = source.photograph(row)
        if path is None:
            raise InputError(
                f"{source.folder} {source.name} has no photograph of {source.split.ids[row]}, which {self.name} reads: "
                f"expected a data folder that `regard extract` made."
            )
        return path


class OwnVectors:
    """Vectors of any origin: one per picture by its id, and a function that makes those of sentences.

    `fingerprint` names what made them. An index with such a first stage is opened with `Index(folder, first=...)`.
    """

    def __init__(
        self,
        vectors: dict[str, Float[np.ndarray, " dim"]],
        encode_texts: Callable[[Sequence[str]], Float[np.ndarray, "text dim"]],
        fingerprint: str,
    ) -> None:
        self.name, self.fingerprint = "own vectors", fingerprint
        self._vectors, self._encode_texts = vectors, encode_texts

    def check(self, source: Source) -> None:
        """Raise InputError if there is no vector for a picture of the source."""
        missing = [str(id_) for id_ in source.split.ids if str(id_) not in self._vectors]
        if missing:
            raise InputError(f"{len(missing):,} pictures of {source.folder} have no vector, such as {missing[0]}.")

    def encode_images(self, source: Source, rows: np.ndarray) -> Float[np.ndarray, "image dim"]:
        """See Shortlist."""
        return np.stack([self._vectors[str(source.split.ids[row])] for row in rows.tolist()]).astype(np.float32)

    def encode_texts(self, sentences: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """See Shortlist."""
        return np.asarray(self._encode_texts(sentences), np.float32)
