"""Wrong sentences made from those of a split: negatives for training, and pairs to measure a model on."""

from typing import Any

import numpy as np

from regard.batch import Texts
from regard.data.names import renumbering
from regard.data.pair_tables import PairTable, Probe
from regard.data.sentence_relations import parse_sentences
from regard.data.split import Split, with_relations
from regard.files import InputError
from regard.words.parser import ROLES, own_parser
from regard.words.swaps import swaps
from regard.words.tokens import tokenize

CHUNK = 1024  # sentences parsed at a time


class SwappedSentences:
    """Wrong sentences made from those of a split by exchanging their parts (see `regard.words.swaps`)."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.by_image, self.bounds = split.texts_by_image()

    def of(self, rows: np.ndarray) -> list[list[tuple[str, str]]]:
        """Return the swaps of each sentence, (kind, sentence), without those that are sentences of its image too."""
        found = []
        for row, parse in zip(
            rows.tolist(), own_parser()([self.split.captions[row] for row in rows.tolist()]), strict=True
        ):
            image = self.split.image_of_text[row]
            others = self.by_image[self.bounds[image] : self.bounds[image + 1]].tolist()
            true = {" ".join(tokenize(self.split.captions[other])) for other in others}
            found.append([(kind, sentence) for kind, sentence in dict.fromkeys(swaps(parse)) if sentence not in true])
        return found

    def drawn(self, rows: np.ndarray, seed: int, step: int) -> dict[int, str]:
        """Return one swap of each sentence that has any, by the sentence's row; drawn by seed, step and row."""
        choices = {row: swapped for row, swapped in zip(rows.tolist(), self.of(rows), strict=True) if swapped}
        draws = {row: np.random.default_rng((seed, step, row)).integers(len(choices[row])) for row in choices}
        return {row: choices[row][draw][1] for row, draw in draws.items()}

    def texts(self, sentences: list[str], tokenizer: Any) -> Texts:
        """Return the sentences, tokenized; parsed if the split has relations between words."""
        texts, names = tokenizer(sentences), self.split.text_labels
        if not names or tokenizer.offset is None:
            return texts
        relations = parse_sentences(sentences)
        if names != ROLES:
            relations = relations.renumbered(renumbering(ROLES, names, normalize=str), names)
        return with_relations(texts, relations, np.arange(len(sentences)), tokenizer.offset)

    def pairs(self) -> PairTable:
        """Return each sentence of the split with each of its swaps, by kind, both as words in lower case."""
        probes = []
        for rows in np.array_split(np.arange(self.split.num_texts), max(1, self.split.num_texts // CHUNK)):
            for row, swapped in zip(rows.tolist(), self.of(rows), strict=True):
                image = str(self.split.ids[self.split.image_of_text[row]])
                caption = " ".join(tokenize(self.split.captions[row]))
                probes += [Probe((image,), (caption, sentence), kind) for kind, sentence in swapped]
        if not probes:
            raise InputError(
                f"{self.split.folder} {self.split.name}: no sentence has parts that can be exchanged. Expected English "
                'sentences such as "a dog chases a man".'
            )
        return PairTable(self.split.folder, probes, ())
