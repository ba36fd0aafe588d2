"""Combine runs into an ensemble: fit the fusion of their scores on validation data, and write the run's folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.batch import Vectors
from regard.data import Split
from regard.encode import batch_rows, encode_images, encode_texts
from regard.evaluation.cascade import summary_scores
from regard.evaluation.ensemble import Ensemble, short_names, shortlist_recall
from regard.evaluation.evaluate import scores_of
from regard.evaluation.fusion import Fusion
from regard.files import InputError, replacing
from regard.matcher import Matcher
from regard.metrics import recalls
from regard.training.config import DataConfig
from regard.training.recipe import ENSEMBLE, Recipe
from regard.training.trained_run import RECIPE, EmbeddingRun, TrainedRun, joint_names, write_data_folder

RELATIONS = {"relations", "text_relations", "roles"}


@dataclass(frozen=True)
class EnsembleReport:
    """The members, how each does alone on the validation split, and what was chosen."""

    members: tuple[str, ...]
    weights: tuple[float, ...]
    rsums: tuple[float, ...]  # of each member alone
    shortlist: tuple[float, ...]  # the share of the best images by the ensemble that each member's summaries find
    lead: int  # the member whose summaries make shortlists
    rsum: float  # of the ensemble
    split: str

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def render(self) -> str:
        """Return a small table for the terminal."""
        names = short_names(self.members)
        width = max(map(len, (*names, "ensemble")))
        lines = [f"{self.split:{width}}{'weight':>9}{'rSum':>8}   shortlist"]
        for at, name in enumerate(names):
            chosen = "  makes the shortlist" if at == self.lead else ""
            found = f"{100 * self.shortlist[at]:8.1f} %"
            lines.append(f"{name:{width}}{self.weights[at]:9.3f}{self.rsums[at]:8.1f}{found}{chosen}")
        lines.append(f"{'ensemble':{width}}{'':9}{self.rsum:8.1f}")
        if idle := [name for name, weight in zip(names, self.weights, strict=True) if not weight]:
            lines.append(f"{', '.join(idle)}: weight 0, which adds nothing. Leave it out to save its time.")
        return "\n".join(lines)


def combine(
    members: Sequence[TrainedRun | EmbeddingRun],
    data: Path,
    out: Path,
    weights: Sequence[float] | None = None,
    progress: Callable[[str, int], Callable[[int], object]] | None = None,
) -> EnsembleReport:
    """Fit an ensemble of runs on the validation split of a data folder, and write its folder `out`.

    The weights are by default those of the largest validation rSum. Shortlists are made by the summary vectors of the
    member that find most of the ensemble's best images. `progress(name, pairs)` returns the function to call with the
    number of pairs of each block that a member has scored. Raises InputError if the members read the data differently,
    if they do not fit it, and if `out` exists.
    """
    if len(members) < 2:
        raise InputError("An ensemble requires at least two members.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists: expected a new folder.")
    if weights is not None:
        weights = _checked_weights(weights, len(members))
    settings = _common_settings(members)
    for member in members:
        if isinstance(member, EmbeddingRun):
            member.settings = settings
    joint_names(members)  # raises InputError for members of other classes or relations
    validation = settings.validation
    splits = [member.open_split(validation, data) for member in members]
    first = splits[0]
    for member, split in zip(members, splits, strict=True):
        if list(split.ids) != list(first.ids) or not np.array_equal(split.image_of_text, first.image_of_text):
            raise InputError(
                f"{member.folder} and {members[0].folder} read different images or texts from {data} {validation}: the "
                f"members of an ensemble must read the same data."
            )

    scores, summaries = [], []
    for member, split in zip(members, splits, strict=True):
        report = progress(str(member.folder), split.num_images * split.num_texts) if progress else None
        scores.append(scores_of(member.model, split, progress=report).numpy())
        summaries.append(_summary_scores(member.model, split))
    fusion = Fusion.fit(scores, first.image_of_text, weights)
    fused = fusion.combine(scores)
    found = [shortlist_recall(each, fused) for each in summaries]
    lead = int(np.argmax(found))
    config = Ensemble.Config(
        members=tuple(_place(member) for member in members),
        fingerprints=tuple(member.fingerprint for member in members),
        means=fusion.means,
        deviations=fusion.deviations,
        weights=fusion.weights,
        lead=lead,
    )
    with replacing(out) as temporary:
        temporary.mkdir()
        recipe = Recipe(model=ENSEMBLE, options=config, data=settings)
        (temporary / RECIPE).write_text(recipe.to_toml(), "utf-8")
        write_data_folder(temporary, data)
    rsums = tuple(recalls(each, first.image_of_text).rsum for each in scores)
    rsum = recalls(fused, first.image_of_text).rsum
    return EnsembleReport(config.members, fusion.weights, rsums, tuple(found), lead, rsum, validation)


@torch.inference_mode()
def _summary_scores(model: Matcher, split: Split) -> np.ndarray:
    """The inner products of the summary vectors [image, text]."""
    images = encode_images(model, split, np.arange(split.num_images), lambda batch: Vectors(batch.summary()))
    parts = [encode_texts(model, split, rows).summary() for rows in batch_rows(split.num_texts)]
    return summary_scores(images, Vectors(torch.cat(parts))).float().numpy()


def _common_settings(members: Sequence[TrainedRun | EmbeddingRun]) -> DataConfig:
    """The data settings of the members. Raises InputError if they differ in what the members read."""
    runs = [member for member in members if isinstance(member, TrainedRun)]
    if not runs:
        return DataConfig()
    reading = [run for run in runs if run.model.needs() & RELATIONS] or runs[:1]
    for name, some in (
        ("captions_per_image", runs),
        ("validation", runs),
        ("blind", runs),
        ("relation_threshold", reading),
        ("corrupted_relations", reading),
    ):
        values = [getattr(run.recipe.data, name) for run in some]
        for run, value in zip(some, values, strict=True):
            if value != values[0]:
                raise InputError(
                    f"{some[0].folder} was trained with data.{name} = {values[0]}, and {run.folder} with {value}: the "
                    f"members of an ensemble must read the same data."
                )
    return reading[0].recipe.data


def _checked_weights(weights: Sequence[float], count: int) -> list[float]:
    """The weights with the sum 1."""
    if len(weights) != count or not all(np.isfinite(weights)) or min(weights) < 0 or not sum(weights):
        given = ", ".join(f"{weight:g}" for weight in weights)
        raise InputError(f"--weights {given}: expected {count} numbers of at least 0, not all 0.")
    return [weight / sum(weights) for weight in weights]


def _place(member: TrainedRun | EmbeddingRun) -> str:
    return member.folder if isinstance(member, EmbeddingRun) else str(member.folder.resolve())
