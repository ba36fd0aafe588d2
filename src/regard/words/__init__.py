"""Captions to the tokens that models encode: numbered words, or word pieces of a pretrained model."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from regard.files import InputError
from regard.words import pieces, vocabulary
from regard.words.parser import ROLES, Parse, parser
from regard.words.pieces import Pieces
from regard.words.segmenter import Segmenter
from regard.words.tokens import tokenize
from regard.words.treebank import tokenize_treebank
from regard.words.vocabulary import Vocabulary, word_vectors

__all__ = [
    "ROLES",
    "Parse",
    "Pieces",
    "Vocabulary",
    "WordsConfig",
    "build_tokenizer",
    "load_tokenizer",
    "parser",
    "tokenize",
    "tokenize_treebank",
    "word_vectors",
]


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """Settings of the text encoder and its tokenizer.

    `gru` uses the second group of settings, `pretrained` the first.
    """

    encoder: Literal["gru", "pretrained"] = "gru"
    segmenter: Segmenter = "none"  # icu: cut scripts without spaces into words

    path: str = "minilm"  # the folder of a model, a name on the Hugging Face hub, or minilm
    frozen: bool = True
    head: Literal["linear", "conv"] = "linear"
    fragments: Literal["words", "pieces"] = "words"  # pieces: each one, [CLS], [SEP] and punctuation included

    word_dim: int = 300
    num_layers: int = 1
    bidirectional: bool = True  # the mean of both directions; otherwise the GRU reads forwards only
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the word vectors
    min_count: int = 4  # a word needs this many occurrences in the training captions
    boundaries: bool = True  # <start> and <end> around each caption
    punctuation: bool = False  # split captions as NLTK does, so that punctuation marks are words
    vectors: str | None = None  # a text file of word vectors (GloVe, word2vec)


def build_tokenizer(config: WordsConfig, captions: Iterable) -> Vocabulary | Pieces:
    """Build the tokenizer of `config`. A vocabulary is built from `captions` (str), those of the training split."""
    # `Iterable`, not `Iterable[str]`: a run-time type checker would read a line of the file and hide its InputError.
    if config.encoder == "pretrained":
        return Pieces(config.path, fragments=config.fragments, segmenter=config.segmenter)
    return Vocabulary.build(captions, config.min_count, config.boundaries, config.punctuation, config.segmenter)


def load_tokenizer(folder: str | os.PathLike[str]) -> Vocabulary | Pieces:
    """Load the tokenizer that was saved in a folder. Raises InputError if there is none."""
    if (Path(folder) / vocabulary.FILE_NAME).exists():
        return Vocabulary.load(folder)
    if (Path(folder) / pieces.FILE_NAME).exists():
        return Pieces.load(folder)
    raise InputError(
        f"{folder} has neither {vocabulary.FILE_NAME} nor {pieces.FILE_NAME}: expected the folder of a run."
    )
