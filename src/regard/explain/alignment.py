"""Compute the alignment of one image and one sentence: how well each region answers each word."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.batch import Images
from regard.files import InputError
from regard.matcher import Matcher, RelationAlignment
from regard.words.vocabulary import END, START

HEAT = "208, 87, 60"  # the colour of a weight in a notebook, as red, green and blue


@dataclass(frozen=True)
class MatchedRelation:
    """A relation of the sentence and the most similar relation of the image, each as subject, predicate, object."""

    text_relation: tuple[str, str, str]  # words; "" if there is none
    image_relation: tuple[str, str, str]  # the regions as number and class name
    score: float
    regions: tuple[int, int]  # subject and object of the image's relation


@dataclass(frozen=True)
class Alignment:
    """The alignment of one pair, without padding. The meaning of a weight depends on the model: see its `align`."""

    words: tuple[str, ...]  # without `<start>` and `<end>`
    weights: Float[np.ndarray, "region word"]
    boxes: Float[np.ndarray, "region 4"] | None  # x1 y1 x2 y2, fractions of the image
    labels: tuple[str, ...]  # class name of each region; "" if it has none
    score: float
    relations: tuple[MatchedRelation, ...] = ()  # only of a model that matches relations
    # The weight of each region in what each word takes from the image; only of a model whose words take context
    context: Float[np.ndarray, "region word"] | None = None

    @classmethod
    def of(
        cls,
        model: Matcher,
        images: Images,
        texts: Any,
        caption: str,
        classes: Sequence[str] = (),
        predicates: Sequence[str] = (),
    ) -> "Alignment":
        """Compute the alignment of one image and one text by `model`, which must be in eval mode.

        `texts` is `caption` as the model's tokenizer encodes it. `classes` names the image's labels by number
        (`Split.classes`; number 0 is no class), and `predicates` names its relations (`Split.predicates`). Raises
        InputError unless there is exactly one image and one text.
        """
        if (len(images), len(texts)) != (1, 1):
            raise InputError(f"Expected one image and one text, got {len(images)} images and {len(texts)} texts.")
        weight = next(model.parameters())
        with torch.no_grad():
            image = model.encode_images(images.to(weight.device).to(weight.dtype))
            text = model.encode_texts(texts.to(weight.device))
            score = float(model.score(image, text))
            weights = model.align(image, text)
            relations = model.align_relations(image, text)
            context = model.word_context(image, text)

        words = model.tokenizer.words(caption)
        columns = [column for column, word in enumerate(words) if word not in (START, END)]
        is_real = images.mask[0].cpu()
        numbers = [] if images.labels is None else images.labels[0][is_real].tolist()

        def of_pair(weights: Tensor) -> np.ndarray:
            return weights[0, 0].float().cpu()[is_real][:, columns].numpy()

        labels = tuple(_name_of(classes, number) for number in numbers) or ("",) * int(is_real.sum())
        return cls(
            words=tuple(words[column] for column in columns),
            weights=of_pair(weights),
            boxes=None if images.boxes is None else images.boxes[0][is_real].float().cpu().numpy(),
            labels=labels,
            score=score,
            relations=() if relations is None else match_relations(relations, words, labels, predicates),
            context=None if context is None else of_pair(context),
        )

    def best_regions(self) -> Int[np.ndarray, " word"]:
        """Return the region with the largest weight for each word; -1 if no region has a positive weight."""
        return largest(self.weights)

    def _repr_html_(self) -> str:
        """The weights as an HTML table, which a notebook shows: one row per region, one column per word.

        A larger weight has a stronger ground, and the largest of each word is bold. The text has the theme's colour.
        """
        highest, best = max(float(self.weights.max(initial=0)), 1e-9), self.best_regions()
        title = f"{escape(' '.join(self.words))}: score {self.score:.3f}"
        head = "".join(f'<th scope="col">{escape(word)}</th>' for word in self.words)
        rows = ""
        for region, (label, weights) in enumerate(zip(self.labels, self.weights.tolist(), strict=True)):
            rows += f'<tr><th scope="row">{region} {escape(label)}</th>'
            for word, weight in enumerate(weights):
                number = f"<b>{weight:.2f}</b>" if best[word] == region else f"{weight:.2f}"
                rows += f'<td style="background: rgba({HEAT}, {0.7 * max(weight, 0) / highest:.2f})">{number}</td>'
            rows += "</tr>"
        matched = "".join(
            f"<li>{escape(f'{arrow_name(one.text_relation)}: {arrow_name(one.image_relation)}, {one.score:.2f}')}</li>"
            for one in self.relations
        )
        return (
            '<div role="region" tabindex="0" aria-label="Weights of regions and words" style="overflow-x: auto">'
            f'<table style="text-align: right"><caption style="text-align: left">{title}</caption>'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
            + (f'<ul aria-label="Relations of the sentence and of the image">{matched}</ul>' if matched else "")
        )


def largest(weights: Float[np.ndarray, "region word"]) -> Int[np.ndarray, " word"]:
    """Return the region with the largest weight for each word; -1 if no region has a positive weight."""
    return np.where(weights.max(0) > 0, weights.argmax(0), -1)


def match_relations(
    alignment: RelationAlignment, words: Sequence[str], labels: Sequence[str], predicates: Sequence[str]
) -> tuple[MatchedRelation, ...]:
    """Return, for each relation of one sentence, the most similar relation of one image.

    The node of the whole sentence is skipped. Return nothing if the image has no relations.
    """
    in_image = alignment.image_mask[0]
    in_text = alignment.text_mask[0] & (alignment.text_ends[0, :, 1] >= 0)
    if not in_image.any():
        return ()
    matched = []
    for number in in_text.nonzero()[:, 0].tolist():
        score, best = alignment.similarity[0, 0, :, number].masked_fill(~in_image, float("-inf")).max(0)
        ends = [words[word] if word >= 0 else "" for word in alignment.text_ends[0, number].tolist()]
        subject, predicate, object_ = alignment.image_ends[0, int(best)].tolist()
        image_relation = name_relation((subject, predicate, object_), labels, predicates)
        matched.append(MatchedRelation((ends[0], ends[1], ends[2]), image_relation, float(score), (subject, object_)))
    return tuple(matched)


def name_relation(
    relation: tuple[int, int, int], labels: Sequence[str], predicates: Sequence[str]
) -> tuple[str, str, str]:
    """Return the names of a subject region, a predicate and an object region; regions as number and class name."""
    subject, predicate, object_ = relation
    first, second = (f"{region} {labels[region]}".strip() for region in (subject, object_))
    return first, _name_of(predicates, predicate), second


def arrow_name(relation: tuple[str, str, str]) -> str:
    """Return the names of a relation in one line; a dot stands for an absent word."""
    subject, predicate, object_ = relation
    return f"{subject or '·'} –{predicate or ' '}→ {object_ or '·'}"


def _name_of(names: Sequence[str], number: int) -> str:
    return names[number] if 0 < number < len(names) else ""
