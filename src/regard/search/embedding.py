"""First stages of an index that are not runs: CLIP and SigLIP by name, and vectors of the user's own."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regard.extract.huggingface import default_precision
from regard.files import InputError
from regard.photographs import decode_photograph
from regard.pretrained import transformers_for
from regard.runtime import fast_products
from regard.search.source import Source

BATCH = 32  # photographs per pass
SIDE = 1024  # larger photographs are scaled down while they are decoded
PARTS = "its config, its tokenizer, its image processor and model.safetensors"


class Embedding:
    """A model of transformers with one vector per photograph and per sentence, of the CLIP and SigLIP families.

    `name` is a folder, or a name on the Hugging Face hub such as google/siglip2-base-patch16-224. Vectors have length
    1, so that their inner product is a cosine. Raises InputError if it is not such a model.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        with transformers_for(name, "vision", PARTS) as transformers:
            self._model = transformers.AutoModel.from_pretrained(name, dtype=torch.float32).to(device).eval()
            if not all(hasattr(self._model, f"get_{side}_features") for side in ("image", "text")):
                raise InputError(
                    f"{name} is {type(self._model).__name__}: expected a model of CLIP's or SigLIP's family."
                )
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            self._processor = transformers.AutoImageProcessor.from_pretrained(name)
        self._precision = default_precision(device)
        # SigLIP was trained on sentences that are padded to its full length.
        self._padding = "max_length" if "siglip" in self._model.config.model_type else "longest"
        self._max_words = self._model.config.text_config.max_position_embeddings
        digest = hashlib.sha256(str(self._model.config.to_dict()).encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.reshape(-1).cpu().contiguous().view(torch.uint8).numpy())
        self.fingerprint = digest.hexdigest()[:32]

    def check(self, source: Source) -> None:
        """Raise InputError if the source has no photographs."""
        self._photograph(source, 0)

    def encode_images(self, source: Source, rows: np.ndarray) -> Float[np.ndarray, "image dim"]:
        """See Shortlist."""
        parts = []
        for first in range(0, len(rows), BATCH):
            paths = [self._photograph(source, int(row)) for row in rows[first : first + BATCH]]
            pictures = [decode_photograph(str(path), path.read_bytes(), SIDE)[0] for path in paths]
            parts.append(self._vectors("image", dict(self._processor(images=pictures, return_tensors="pt"))))
        return np.concatenate(parts)

    def encode_texts(self, sentences: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """See Shortlist."""
        options = {"padding": self._padding, "truncation": True, "max_length": self._max_words, "return_tensors": "pt"}
        return self._vectors("text", dict(self._tokenizer(list(sentences), **options)))

    @torch.inference_mode()
    def _vectors(self, side: str, inputs: dict[str, Tensor]) -> Float[np.ndarray, "item dim"]:
        sent = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with fast_products(self._precision, self.device):
            found = getattr(self._model, f"get_{side}_features")(**sent)
        vectors = getattr(found, "pooler_output", found)
        return F.normalize(vectors.float(), dim=1).cpu().numpy()

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
