"""Probes that are given as a table of pairs: does a model prefer the right sentence, and the right image?

Sources: SugarCrepe (Hsieh et al. 2023) has an image, a sentence and a harder one; Winoground (Thrush et al. 2022) has
two images and two sentences of the same words, and its three scores are used.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from regard.data import Split
from regard.data.ids import match_ids, show_ids
from regard.data.pair_tables import ALL, PairTable, Probe
from regard.encode import BATCH, check_inputs, read_images
from regard.files import InputError
from regard.matcher import Matcher
from regard.metrics import refuse_nan
from regard.relations.from_sentences import texts_of
from regard.score import score_all

PARSED = {"text_relations", "roles"}  # inputs that are made from the sentences of the table


@dataclass(frozen=True)
class Answers:
    """The percentage of correct answers in one category: with ties counted as wrong, and as half right."""

    count: int
    correct: dict[str, float]  # by question
    half_credit: dict[str, float]


@dataclass(frozen=True)
class PairReport:
    """The answers by category, `all` last; and what was left out."""

    categories: dict[str, Answers]
    num_skipped: int  # rows that cannot be read
    unmatched: list[str]  # images that the split does not have

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def render(self) -> str:
        """Return a table for the terminal."""
        questions = list(next(iter(self.categories.values())).correct)
        width = max(map(len, (*self.categories, "category")))
        lines = [f"{'category':{width}}{'pairs':>8}" + "".join(f"{name:>8}  (half credit)" for name in questions)]
        for name, answers in self.categories.items():
            values = (f"{answers.correct[q]:8.1f}{f'({answers.half_credit[q]:.1f})':>15}" for q in questions)
            lines.append(f"{name:{width}}{answers.count:8,}" + "".join(values))
        lines.append("Percent correct; a tie is wrong, or counts as half right in parentheses.")
        if self.num_skipped:
            lines.append(f"{self.num_skipped:,} rows of the table cannot be read, and are skipped.")
        if self.unmatched:
            lines.append(f"{len(self.unmatched):,} images are not in the split, such as {show_ids(self.unmatched)}.")
        return "\n".join(lines)


def measure_pairs(model: Matcher, split: Split, table: PairTable) -> PairReport:
    """Return how often a model answers the pairs of a table correctly. Images are matched to those of the split by id.

    Raises InputError if the split has none of the images, if it lacks what the model needs, and for NaN.
    """
    # Relations between words are made from the sentences of the table, whatever the split has.
    check_inputs(model, split, present=PARSED)
    names = dict.fromkeys(name for probe in table.probes for name in probe.images)
    matches, row_of = match_ids(names, split.ids), {name: row for row, name in enumerate(split.ids)}
    probes = [probe for probe in table.probes if all(name in matches for name in probe.images)]
    if not probes:
        raise InputError(
            f"{table.path} names {show_ids(names)}, and {split.folder} {split.name} has none of these images, but "
            f"{show_ids(split.ids)}."
        )
    rows = [[row_of[matches[name]] for name in probe.images] for probe in probes]
    size = BATCH // 2
    scores = np.concatenate(
        [_scores(model, split, probes[at : at + size], rows[at : at + size]) for at in range(0, len(probes), size)]
    )
    refuse_nan(scores.reshape(len(scores), -1))
    categories = sorted({probe.category for probe in probes} - {ALL})
    of = np.array([probe.category for probe in probes])
    chosen = {name: of == name for name in categories} | {ALL: np.ones(len(probes), bool)}
    answers = {name: _answers(scores[which]) for name, which in chosen.items()}
    return PairReport(answers, len(table.skipped), [name for name in names if name not in matches])


@torch.inference_mode()
def _scores(
    model: Matcher, split: Split, probes: Sequence[Probe], rows: Sequence[Sequence[int]]
) -> Float[np.ndarray, "probe image caption"]:
    """The score of each image of a probe with both of its sentences."""
    images, place = np.unique(np.array(rows), return_inverse=True)
    sentences = [caption for probe in probes for caption in probe.captions]
    device = next(model.parameters()).device
    encoded = model.encode_images(read_images(model, split, images))
    scores = score_all(model, encoded, model.encode_texts(texts_of(model, sentences).to(device))).cpu().numpy()
    pairs = np.arange(len(sentences)).reshape(-1, 1, 2)
    return scores[place.reshape(len(probes), -1, 1), pairs]


def _answers(scores: Float[np.ndarray, "probe image caption"]) -> Answers:
    """The share of right answers. A question with several comparisons is answered if all are right."""
    if scores.shape[1] == 1:
        questions = {"correct": [scores[:, 0, 0] - scores[:, 0, 1]]}
    else:
        text = [scores[:, 0, 0] - scores[:, 0, 1], scores[:, 1, 1] - scores[:, 1, 0]]
        image = [scores[:, 0, 0] - scores[:, 1, 0], scores[:, 1, 1] - scores[:, 0, 1]]
        questions = {"text": text, "image": image, "group": [*text, *image]}
    correct = {name: _percent([margin > 0 for margin in margins]) for name, margins in questions.items()}
    half = {
        name: _percent([np.where(margin == 0, 0.5, margin > 0) for margin in margins])
        for name, margins in questions.items()
    }
    return Answers(len(scores), correct, half)


def _percent(parts: Sequence[np.ndarray]) -> float:
    return float(100 * np.prod(np.array(parts, float), axis=0).mean())
