"""Explain the score of one image and one sentence: its parts, and what it would be without a word or a relation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from regard.batch import Images
from regard.data.split import Split
from regard.explain.alignment import Alignment, largest, name_relation
from regard.explain.relation_effects import RelationEffects
from regard.files import InputError
from regard.matcher import Matcher
from regard.relations.from_sentences import texts_of
from regard.score import score_all
from regard.words import tokenize

MAX_NAME = 40  # characters


@dataclass(frozen=True)
class WordDifference:
    """Words of a sentence, and those of another sentence in their place. Either may be empty."""

    words: tuple[str, ...]
    other: tuple[str, ...]
    effect: float  # the score of the sentence minus its score with the other words in this place

    def __str__(self) -> str:
        """Return both in one line, each cut to MAX_NAME characters; a dot stands for no words."""
        sides = (shorten(" ".join(words) or "·", MAX_NAME, placeholder=" …") for words in (self.words, self.other))
        return " / ".join(sides)


@dataclass(frozen=True)
class Explanation:
    """Why a model gives one image and one sentence their score. Effects and costs are differences of scores."""

    image_id: str
    caption: str
    alignment: Alignment  # with the words, the regions, their weights and the score
    predicates: tuple[str, ...]  # names of the image's relations, by number
    parts: dict[str, float]  # the addends of the score: `Matcher.score_parts`
    without: dict[str, float]  # the score without one kind of evidence: `Matcher.scores_without`
    word_costs: Float[np.ndarray, " word"]  # the score minus the score of the sentence without the word
    relations: RelationEffects | None  # None if the model reads no relations between regions
    against: "Explanation | None" = None  # of another sentence with the same image
    differences: tuple[WordDifference, ...] = ()  # from that sentence

    @classmethod
    def of_row(
        cls, model: Matcher, split: Split, row: int, sentence: str, image_id: str, against: str | None = None
    ) -> "Explanation":
        """Explain the score of the image at `row` of a split and a sentence; see `of`."""
        return cls.of(
            model,
            split.images([row]),
            texts_of(model, [sentence]),
            sentence,
            image_id=image_id,
            classes=split.classes,
            predicates=split.predicates,
            against=against,
        )

    @classmethod
    def of(
        cls,
        model: Matcher,
        images: Images,
        texts: Any,
        caption: str,
        *,
        image_id: str = "",
        classes: Sequence[str] = (),
        predicates: Sequence[str] = (),
        against: str | None = None,
    ) -> "Explanation":
        """Explain the score of one image and one text by `model`, which must be in eval mode.

        `texts` is `caption` as the model's tokenizer encodes it, with relations between words if the model reads them
        (`regard.relations.from_sentences.texts_of`). `classes` and `predicates` are the names of labels and relations
        by number. `against` is another sentence to compare with. Sentences without a word, or with words of `against`,
        are parsed by Regard's own parser. Raises InputError unless there is exactly one image and one text, and for a
        sentence without words.
        """
        captions = [caption] if against is None else [caption, against]
        for sentence in captions:
            if not tokenize(sentence):
                raise InputError(f"The sentence {sentence!r} has no words: expected at least one.")
        inputs = [texts] if against is None else [texts, texts_of(model, [against])]
        pairs = list(zip(inputs, captions, strict=True))
        alignments = [Alignment.of(model, images, text, sentence, classes, predicates) for text, sentence in pairs]

        weight = next(model.parameters())
        images = images.to(weight.device).to(weight.dtype)
        with torch.no_grad():
            image = model.encode_images(images)
            sentences = [model.encode_texts(text.to(weight.device)) for text in inputs]
            relations = RelationEffects.of(model, images, sentences) or (None,) * len(sentences)
            found = [
                cls(
                    image_id,
                    sentence,
                    alignment,
                    tuple(predicates),
                    {name: float(part) for name, part in model.score_parts(image, text).items()},
                    {name: float(score) for name, score in model.scores_without(image, text).items()},
                    _word_costs(model, image, alignment.words),
                    effects,
                )
                for sentence, alignment, text, effects in zip(captions, alignments, sentences, relations, strict=True)
            ]
            if against is None:
                return found[0]
            differences = _differences(model, image, *(each.alignment.words for each in found))
        return replace(found[0], against=found[1], differences=differences)

    @property
    def score(self) -> float:
        return self.alignment.score

    @property
    def costliest_word(self) -> int:
        """The position of the word whose removal costs most."""
        return int(self.word_costs.argmax())

    @property
    def margin(self) -> float | None:
        """How much higher the score is than that of the other sentence; None if there is none."""
        return None if self.against is None else self.score - self.against.score

    @property
    def decisive_relations(self) -> RelationEffects | None:
        """The effect of each relation on the margin; None without another sentence or without relations."""
        if self.against is None or self.relations is None or self.against.relations is None:
            return None
        return self.relations.minus(self.against.relations)

    def name_relations(self) -> list[tuple[str, str, str]]:
        """Return subject, predicate and object of each relation in `relations`; regions as number and class name."""
        relations = () if self.relations is None else self.relations.relations
        return [name_relation(each, self.alignment.labels, self.predicates) for each in relations]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON. Regions are numbered from 0, without padding."""
        alignment = self.alignment
        boxes = [None] * len(alignment.labels) if alignment.boxes is None else alignment.boxes.tolist()
        numbered = enumerate(zip(alignment.labels, boxes, strict=True))
        context = alignment.context
        values: dict[str, Any] = {
            "image": self.image_id,
            "sentence": self.caption,
            "score": self.score,
            "parts": self.parts,
            "without": self.without,
            "words": list(alignment.words),
            "regions": [{"number": number, "label": label, "box": box} for number, (label, box) in numbered],
            "weights": alignment.weights.tolist(),
            "best_regions": alignment.best_regions().tolist(),
            "image_relations": self._relations_to_list(self.relations),
            "noise": None if self.relations is None else self.relations.noise,
            "matched_relations": [
                {"text": list(each.text_relation), "image": list(each.image_relation), "score": each.score}
                for each in alignment.relations
            ],
            "word_costs": [
                {"word": word, "cost": cost}
                for word, cost in zip(alignment.words, self.word_costs.tolist(), strict=True)
            ],
            "context": None
            if context is None
            else {"weights": context.tolist(), "best_regions": largest(context).tolist()},
            "against": None,
        }
        if self.against is not None:
            decisive = self.decisive_relations
            values["against"] = {
                **self.against.to_dict(),
                "margin": self.margin,
                "decisive_words": [
                    {"words": list(each.words), "other": list(each.other), "effect": each.effect}
                    for each in self.differences
                ],
                "decisive_relations": self._relations_to_list(decisive),
                "decisive_noise": None if decisive is None else decisive.noise,
            }
        return values

    def _relations_to_list(self, relations: RelationEffects | None) -> list[dict[str, Any]]:
        if relations is None:
            return []
        rows = zip(self.name_relations(), relations.effects.tolist(), relations.notable.tolist(), strict=True)
        keys = ("subject", "predicate", "object")
        return [{**dict(zip(keys, names, strict=True)), "effect": e, "notable": n} for names, e, n in rows]


def _word_costs(model: Matcher, image: Any, words: Sequence[str]) -> Float[np.ndarray, " word"]:
    without = [[*words[:at], *words[at + 1 :]] for at in range(len(words))]
    whole, *others = _scores(model, image, [words, *without])
    return whole - np.array(others, np.float32)


def _differences(model: Matcher, image: Any, words: Sequence[str], others: Sequence[str]) -> tuple[WordDifference, ...]:
    """Where two sentences differ, those with the largest effect first."""
    matcher = SequenceMatcher(None, words, others, autojunk=False)
    changes = [places for kind, *places in matcher.get_opcodes() if kind != "equal"]
    changed = [[*words[:a], *others[c:d], *words[b:]] for a, b, c, d in changes]
    whole, *scores = _scores(model, image, [words, *changed])
    found = [
        WordDifference(tuple(words[a:b]), tuple(others[c:d]), float(whole - score))
        for (a, b, c, d), score in zip(changes, scores, strict=True)
    ]
    return tuple(sorted(found, key=lambda each: -abs(each.effect)))


def _scores(model: Matcher, image: Any, sentences: Sequence[Sequence[str]]) -> Float[np.ndarray, " sentence"]:
    texts = texts_of(model, [" ".join(words) for words in sentences])
    return score_all(model, image, model.encode_texts(texts.to(next(model.parameters()).device)))[0].numpy()
