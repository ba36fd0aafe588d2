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
from regard.words.swaps import Swap, swaps
from regard.words.tokens import respelled, tokenize

CHUNK = 1024  # sentences parsed at a time


class SwappedSentences:
    """Wrong sentences made from those of a split by exchanging their parts (see `regard.words.swaps`)."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.by_image, self.bounds = split.texts_by_image()

    def of(self, rows: np.ndarray) -> list[list[Swap]]:
        """Return the swaps of each sentence, without those that are sentences of its image too."""
        true = [self._sentences_of([image]) for image in self.split.image_of_text[rows].tolist()]
        return [_without(found, own) for found, own in zip(self._found(rows), true, strict=True)]

    def drawn(self, rows: np.ndarray, images: np.ndarray, seed: int, step: int) -> dict[int, str]:
        """Return one swap of each sentence that has any, by the sentence's row; drawn by seed, step and row.

        `images` are those of the batch, which include those of the sentences. A swap that is a sentence of one of them,
        such as that of a twin, is not drawn: it would be a negative of an image that it describes. Swaps are spelled
        like their captions.
        """
        true, found = self._sentences_of(images.tolist()), {}
        for row, swapped in zip(rows.tolist(), self._found(rows), strict=True):
            if choices := _without(swapped, true):
                draw = np.random.default_rng((seed, step, row)).integers(len(choices))
                found[row] = respelled(self.split.captions[row], choices[draw].words)
        return found

    def _found(self, rows: np.ndarray) -> list[list[Swap]]:
        """The swaps of each sentence, each once."""
        parses = own_parser()([self.split.captions[row] for row in rows.tolist()])
        return [list(dict.fromkeys(swaps(parse))) for parse in parses]

    def _sentences_of(self, images: list[int]) -> set[str]:
        """The sentences of images, as words in lower case."""
        texts = [text for image in images for text in self.by_image[self.bounds[image] : self.bounds[image + 1]]]
        return {" ".join(tokenize(self.split.captions[text])) for text in texts}

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
                probes += [Probe((image,), (caption, swap.sentence), swap.kind) for swap in swapped]
        if not probes:
            raise InputError(
                f"{self.split.folder} {self.split.name}: no sentence has parts that can be exchanged. Expected English "
                'sentences such as "a dog chases a man".'
            )
        return PairTable(self.split.folder, probes, ())


def _without(found: list[Swap], true: set[str]) -> list[Swap]:
    return [swap for swap in found if swap.sentence not in true]
