"""The alignment of one image and one sentence, as data: regions, words, and how much each answers each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from regard.batch import Images, Texts
from regard.files import InputError
from regard.matcher import Matcher, RelationAlignment
from regard.words.vocabulary import END, START


@dataclass(frozen=True)
class MatchedRelation:
    """A relation of the sentence and the relation of the picture that answers it best."""

    text_relation: tuple[str, str, str]  # subject, predicate, object; "" for one that is not there
    image_relation: tuple[str, str, str]  # the same, regions by number and class name
    score: float


@dataclass(frozen=True)
class Alignment:
    """One pair's real regions and words. What a weight means is the model's to say: see its `align`."""

    words: tuple[str, ...]  # without `<start>` and `<end>`
    weights: Float[np.ndarray, "region word"]
    boxes: Float[np.ndarray, "region 4"] | None  # x1 y1 x2 y2, fractions of the image
    labels: tuple[str, ...]  # class name of each region; "" where there is none
    score: float
    relations: tuple[MatchedRelation, ...] = ()  # of a model that matches relations

    @classmethod
    def of(
        cls,
        model: Matcher,
        images: Images,
        texts: Texts,
        caption: str,
        classes: Sequence[str] = (),
        predicates: Sequence[str] = (),
    ) -> "Alignment":
        """What `model` (in eval mode) sees in one image and one text: `texts` is its tokenizer's reading of `caption`.

        `classes` names the image's labels by number (`Split.classes`; number 0 is no class), `predicates` its relations
        (`Split.predicates`). Raises InputError where there is not exactly one image and one text.
        """
        if (len(images), len(texts)) != (1, 1):
            raise InputError(f"Got {len(images)} images and {len(texts)} texts: an alignment is of one and one.")
        weight = next(model.parameters())
        with torch.no_grad():
            image = model.encode_images(images.to(weight.device).to(weight.dtype))
            text = model.encode_texts(texts.to(weight.device))
            score = float(model.score(image, text))
            found = model.align(image, text)[0, 0].float().cpu()
            related = model.align_relations(image, text)

        words = model.tokenizer.words(caption)
        columns = [column for column, word in enumerate(words) if word not in (START, END)]
        real = images.mask[0].cpu()
        numbers = [] if images.labels is None else images.labels[0][real].tolist()
        labels = tuple(_named(classes, number) for number in numbers) or ("",) * int(real.sum())
        return cls(
            words=tuple(words[column] for column in columns),
            weights=found[real][:, columns].numpy(),
            boxes=None if images.boxes is None else images.boxes[0][real].float().cpu().numpy(),
            labels=labels,
            score=score,
            relations=() if related is None else match_relations(related, words, labels, predicates),
        )

    def best_regions(self) -> Int[np.ndarray, " word"]:
        """The region that answers each word best; -1 where no region has a positive weight."""
        return np.where(self.weights.max(0) > 0, self.weights.argmax(0), -1)


def match_relations(
    found: RelationAlignment, words: Sequence[str], labels: Sequence[str], predicates: Sequence[str]
) -> tuple[MatchedRelation, ...]:
    """Of one image and one text: each relation that the sentence tells, and the picture's that is most like it.

    The sentence as a whole is left out; nothing is matched where the picture has no relations.
    """
    seen, told = found.image_mask[0], found.text_mask[0] & (found.text_ends[0, :, 1] >= 0)
    if not seen.any():
        return ()
    answers = []
    for place in told.nonzero()[:, 0].tolist():
        score, best = found.similarity[0, 0, :, place].masked_fill(~seen, float("-inf")).max(0)
        subject, predicate, other = found.image_ends[0, int(best)].tolist()
        ends = (f"{region} {labels[region]}".strip() for region in (subject, other))
        names = [words[word] if word >= 0 else "" for word in found.text_ends[0, place].tolist()]
        first, second = ends
        answers.append(
            MatchedRelation(
                (names[0], names[1], names[2]), (first, _named(predicates, predicate), second), float(score)
            )
        )
    return tuple(answers)


def _named(names: Sequence[str], number: int) -> str:
    return names[number] if 0 < number < len(names) else ""
