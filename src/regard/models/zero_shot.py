"""Embedding models of the CLIP and SigLIP families, zero-shot: the baseline that needs no training.

CLIP: "Learning Transferable Visual Models From Natural Language Supervision", Radford et al., ICML 2021.
SigLIP: "Sigmoid Loss for Language Image Pre-Training", Zhai et al., ICCV 2023.

Needs: one vector per photograph, which `regard extract --embeddings NAME` stores in the data folder.
Differences: none in the model, which transformers loads. The score is the cosine; temperature and bias are left out,
because they change no order.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from regard.batch import Images, Texts, Vectors
from regard.files import InputError
from regard.matcher import Matcher
from regard.pretrained import transformers_for
from regard.runtime import default_precision, fast_products, inner

PARTS = "its config, its tokenizer, its image processor and model.safetensors"


class ZeroShot(Matcher):
    """A model of transformers with one vector per photograph and per sentence. Vectors have length 1.

    `name` is a folder, or a name on the Hugging Face hub such as google/siglip2-base-patch16-224. Raises InputError if
    it is not such a model.
    """

    Config: ClassVar[type] = type(None)  # there is nothing to choose
    image_encoding, text_encoding = Vectors, Vectors

    def __init__(self, name: str, device: str = "cpu") -> None:
        nn.Module.__init__(self)
        self.name, self.config, self.feature_dim = name, None, 0
        with transformers_for(name, "vision", PARTS) as transformers:
            self.towers = transformers.AutoModel.from_pretrained(name, dtype=torch.float32)
            if not all(hasattr(self.towers, f"get_{side}_features") for side in ("image", "text")):
                raise InputError(
                    f"{name} is {type(self.towers).__name__}: expected a model of CLIP's or SigLIP's family."
                )
            self._tokenizer = SentencePadding(transformers.AutoTokenizer.from_pretrained(name), self.towers.config)
            self._processor = transformers.AutoImageProcessor.from_pretrained(name)
        self.fingerprint = self._hash()
        self.to(device).eval().requires_grad_(False)
        # Stored vectors of images have this width; measured once, because families name it differently.
        self._dim = self.encode_sentences(["a"]).shape[1]

    @property
    def tokenizer(self) -> "SentencePadding":
        return self._tokenizer

    @property
    def embedding_dim(self) -> int:
        return self._dim

    def needs(self) -> frozenset[str]:
        return frozenset({"embeddings"})

    def encode_images(self, images: Images) -> Vectors:
        """Return the stored vectors of the images. Raises InputError if they have another width."""
        vectors = self.required(images, "embeddings")
        if vectors.shape[1] != self._dim:
            raise InputError(
                f"The stored vectors have {vectors.shape[1]} values, and those of {self.name} {self._dim}."
            )
        return Vectors(F.normalize(vectors, dim=1))

    def encode_texts(self, texts: Texts) -> Vectors:
        inputs = {"input_ids": texts.tokens}
        if self._tokenizer.gives_mask:
            inputs["attention_mask"] = texts.mask.long()
        return Vectors(self._vectors("text", inputs))

    def score(self, images: Vectors, texts: Vectors) -> Float[Tensor, "image text"]:
        return inner(images.vectors, texts.vectors)

    def score_parts(self, images: Vectors, texts: Vectors) -> dict[str, Float[Tensor, "image text"]]:
        return {"global": self.score(images, texts)}

    def align(self, images: Vectors, texts: Vectors) -> Float[Tensor, "image text region word"]:
        """Raise InputError: there are no regions and words."""
        raise InputError(f"{self.name} has one vector per photograph and per sentence: there is nothing to explain.")

    def pair_size(self, regions: int, words: int) -> int:
        return 1

    @torch.inference_mode()
    def encode_photographs(self, photographs: Sequence[Image.Image]) -> Float[np.ndarray, "image dim"]:
        """Return the vectors of decoded photographs, in one pass."""
        inputs = dict(self._processor(images=list(photographs), return_tensors="pt"))
        return self._vectors("image", inputs).cpu().numpy()

    @torch.inference_mode()
    def encode_sentences(self, sentences: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Return the vectors of sentences, in one pass."""
        return self.encode_texts(self._tokenizer(sentences)).vectors.cpu().numpy()

    def _vectors(self, side: str, inputs: dict[str, Tensor]) -> Float[Tensor, "item dim"]:
        device = next(self.parameters()).device
        with fast_products(default_precision(str(device)), device.type):
            found = getattr(self.towers, f"get_{side}_features")(**{n: t.to(device) for n, t in inputs.items()})
        return F.normalize(getattr(found, "pooler_output", found).float(), dim=1)

    def _hash(self) -> str:
        """A hash of the settings and the weights: the same in any folder, and with any version of transformers."""
        digest = hashlib.sha256(json.dumps(_settings(self.towers.config.to_dict()), sort_keys=True).encode())
        for key, tensor in sorted(self.towers.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.reshape(-1).cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()[:32]


def _settings(values: Any) -> Any:
    """The settings of a model, without those that say where it lies and what reads it."""
    if not isinstance(values, dict):
        return values if isinstance(values, str | int | float | list | None) else str(values)
    left_out = ("transformers_version", "dtype", "torch_dtype")
    return {k: _settings(v) for k, v in values.items() if k not in left_out and not str(k).startswith("_")}


class SentencePadding:
    """The tokenizer of an embedding model. SigLIP was trained on sentences that are padded to its full length."""

    offset = None  # there are no words, so that no relations between words are added

    def __init__(self, tokenizer: Any, config: Any) -> None:
        self._tokenizer = tokenizer
        self._options = {
            "padding": "max_length" if "siglip" in config.model_type else "longest",
            "max_length": config.text_config.max_position_embeddings,
            "truncation": True,
            "return_tensors": "pt",
        }
        self.gives_mask = "attention_mask" in tokenizer(["a"], **self._options)

    def __call__(self, sentences: Sequence[str]) -> Texts:
        """Return sentences as numbers [text token]."""
        found = self._tokenizer(list(sentences), **self._options)
        tokens = found["input_ids"]
        mask = found["attention_mask"] > 0 if self.gives_mask else torch.ones_like(tokens, dtype=torch.bool)
        return Texts(tokens, mask)
