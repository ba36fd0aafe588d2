"""A vocabulary made from training captions, and word vectors for it (GloVe and similar files)."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from regard.batch import Texts
from regard.files import InputError, parse_json, replacing
from regard.words.scripts import SOME, UNSPACED, are_unspaced
from regard.words.segmenter import Segmenter, segmenter_named
from regard.words.treebank import tokenize_treebank

PAD, START, END, UNKNOWN = SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
FILE_NAME = "vocabulary.json"


@dataclass(frozen=True)
class Vocabulary:
    """Numbered words, and captions as numbers. An unlisted word becomes `<unk>`, or its stem if it ends in 's.

    `boundaries` puts `<start>` and `<end>` around every caption, as SCAN and its successors do. A caption is cut after
    `max_words` words. A caption without words becomes its boundaries, or one `<unk>`, so that each text has a fragment.
    With `punctuation`, words are those of NLTK, and punctuation marks are words: published vocabularies need it. The
    words of relations between words are others, so that `offset` is then None. Otherwise `segmenter` cuts captions into
    words (`segmenter_named`).
    """

    entries: tuple[str, ...] = field(repr=False)
    boundaries: bool = True
    max_words: int = 64
    punctuation: bool = False
    segmenter: Segmenter = "none"

    def __post_init__(self) -> None:
        missing = [special for special in SPECIALS if special not in self.entries]
        if missing or self.entries[0] != PAD:
            raise InputError(
                f"A vocabulary of {len(self)} words starts with {self.entries[:1]} and lacks {missing}: "
                f"expected <pad> as number 0, and each of {', '.join(SPECIALS)}."
            )

    @classmethod
    def build(
        cls,
        captions: Iterable,
        min_count: int = 4,
        boundaries: bool = True,
        punctuation: bool = False,
        segmenter: Segmenter = "none",
    ) -> "Vocabulary":
        """Build from the words that occur at least `min_count` times in the captions; the most frequent come first.

        The captions are read once. Raises InputError if no word occurs often enough, and if words are not separated.
        """
        iterator = iter(captions)
        first = list(islice(iterator, SOME))
        if segmenter == "none" and are_unspaced(first):
            raise InputError(f"No vocabulary can be built: {UNSPACED}.")
        split = tokenize_treebank if punctuation else segmenter_named(segmenter)
        counts = Counter(word for caption in chain(first, iterator) for word in split(caption))
        kept = [word for word, count in counts.items() if count >= min_count]
        if not kept:
            raise InputError(
                f"None of the captions' {len(counts)} words occurs {min_count} times: give more captions, "
                "or a smaller min_count."
            )
        words = sorted(kept, key=lambda word: (-counts[word], word))
        return cls((*SPECIALS, *words), boundaries, punctuation=punctuation, segmenter=segmenter)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def offset(self) -> int | None:
        """The number of fragments before a caption's first word; None if fragments are not the words of `tokenize`."""
        return None if self.punctuation or self.segmenter != "none" else int(self.boundaries)

    @cached_property
    def number_of(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.entries)}

    @property
    def special_numbers(self) -> list[int]:
        """The numbers of tokens that training must not hide: none, as `<start>` and `<end>` are like words."""
        return []

    @property
    def unknown_number(self) -> int:
        """The number of `<unk>`, which also replaces words that training hides."""
        return self.number_of[UNKNOWN]

    def number(self, word: str) -> int:
        """Return the number of a word, otherwise that of its stem before 's, otherwise that of `<unk>`."""
        numbers = self.number_of
        if self.punctuation:  # 's is a word of its own
            return numbers.get(word, self.unknown_number)
        return numbers.get(word) or numbers.get(word.removesuffix("'s")) or self.unknown_number

    def words(self, caption: str) -> list[str]:
        """Return the words that become the caption's fragments, boundaries included."""
        words = self._split(caption)[: self.max_words]
        if self.boundaries:
            return [START, *words, END]
        return words or [UNKNOWN]

    def __call__(self, captions: Sequence[str]) -> Texts:
        """Return the words of captions as numbers [text word], padded with zero."""
        numbers = [[self.number(word) for word in self.words(caption)] for caption in captions]
        lengths = np.array([len(row) for row in numbers], dtype=np.int64)
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        tokens = np.zeros(mask.shape, dtype=np.int64)
        tokens[mask] = [number for row in numbers for number in row]
        return Texts(torch.from_numpy(tokens), torch.from_numpy(mask))

    def unknown(self, captions: Iterable[str]) -> float:
        """Return the fraction of words in captions that become `<unk>` (0 if there are no words)."""
        known = Counter(self.number(word) != self.unknown_number for text in captions for word in self._split(text))
        return known[False] / max(known.total(), 1)

    def _split(self, caption: str) -> list[str]:
        return tokenize_treebank(caption) if self.punctuation else segmenter_named(self.segmenter)(caption)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a `.json` file, or to `vocabulary.json` in a folder, whole or not at all."""
        with replacing(_file(path)) as temporary:
            temporary.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def of_numbers(cls, number_of: dict[str, int], path: Path) -> "Vocabulary":
        """Create a vocabulary from the number of each word. Raises InputError, with `path`, for gaps and repeats."""
        return cls(_in_order(number_of, path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Read what `save` wrote, or a published JSON vocabulary with `word2idx` (special tokens as in SCAN or NAAF).

        Raises InputError for a pickle, for other content, and for numbers with gaps.
        """
        path = _file(path)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(
                f"{path} is not there: expected the {FILE_NAME} of a run, or a published JSON vocabulary."
            ) from None
        if content[:1] == b"\x80" or path.suffix in (".pkl", ".pickle"):
            raise InputError(
                f"{path} is a pickle, and reading a pickle can run code: build a vocabulary from the "
                'training captions, or turn this one into JSON {"word2idx": {word: number}} if you trust it.'
            )
        try:
            saved = parse_json(content)
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}): expected the {FILE_NAME} of a run, or SCAN's.") from None
        try:
            if isinstance(saved, dict) and "word2idx" in saved:
                return cls.of_numbers(TypeAdapter(dict[str, int]).validate_python(saved["word2idx"], strict=True), path)
            if isinstance(saved, dict) and "entries" in saved:
                return cls(**TypeAdapter(_Saved).validate_python(saved))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{path}, {place}: {first['msg']}: expected the {FILE_NAME} of a run, or SCAN's."
            ) from None
        raise InputError(
            f'{path} contains neither "entries" nor "word2idx": expected the {FILE_NAME} of a run, or SCAN\'s.'
        )


class _Saved(TypedDict):
    entries: tuple[str, ...]
    boundaries: bool
    max_words: Annotated[int, Field(ge=1)]
    punctuation: NotRequired[bool]  # absent from older runs
    segmenter: NotRequired[Segmenter]


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path if path.suffix in (".json", ".pkl", ".pickle") or path.is_file() else path / FILE_NAME


def _in_order(number_of: dict[str, int], path: Path) -> tuple[str, ...]:
    words = sorted(number_of, key=lambda word: number_of[word])
    for want, word in enumerate(words):
        if number_of[word] != want:
            raise InputError(
                f"{path} gives {word!r} the number {number_of[word]}: expected 0, 1, 2, … with no gap or repeat."
            )
    return tuple(words)


def word_vectors(path: str | os.PathLike[str], vocabulary: Vocabulary) -> tuple[Float[Tensor, "word dim"], int]:
    """Read the vectors of the vocabulary's words from a text file; return them and the number of words found.

    Lines are `word number number …` (GloVe), perhaps after a first line `count dim` (word2vec), and are read one at a
    time. A word that is not in the file gets the same uniform numbers in +-0.1 every time; `<pad>` gets zeros. Raises
    InputError, with the line number, for a line of another dimension and for numbers that are not finite.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file: expected a text file of words and their numbers, as GloVe's are.")
    vectors: Any = None
    found: set[int] = set()
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for at, line in enumerate(file, 1):
            word, *numbers = line.rstrip(" \r\n").split(" ")
            if at == 1 and len(numbers) == 1 and word.isdigit() and numbers[0].isdigit():
                vectors = _unfound(len(vocabulary), int(numbers[0]))
                continue
            if vectors is None:
                vectors = _unfound(len(vocabulary), len(numbers))
            dim = vectors.shape[1]
            if len(numbers) > dim and not _is_number(numbers[0]):
                continue  # glove.840B has a few words with spaces, ". . ." for one
            if len(numbers) != dim or not dim:
                raise InputError(
                    f"{path}, line {at} has {len(numbers)} numbers after {word[:40]!r}: expected {dim or 'some'}."
                )
            number = vocabulary.number_of.get(word)
            if number:
                wrong = [text for text in numbers if not _is_number(text)]
                if wrong:
                    raise InputError(f"{path}, line {at} ({word!r}) contains {wrong[0]!r}: expected finite numbers.")
                vectors[number] = torch.tensor([float(text) for text in numbers])
                found.add(number)
    if vectors is None:
        raise InputError(f"{path} is empty: expected lines of a word and its numbers, as GloVe's files have.")
    return vectors, len(found)


def _unfound(num_words: int, dim: int) -> Float[Tensor, "word dim"]:
    vectors = torch.empty(num_words, dim).uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(0))
    vectors[0] = 0
    return vectors


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
