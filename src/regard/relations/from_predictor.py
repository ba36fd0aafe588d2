"""Relations that a learnt predictor finds between labelled boxes: `regard relations predict FILE DIR`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from regard.data.layout import Files, check_splits, data_folder
from regard.data.names import renumbering
from regard.data.relation_files import IMAGE_FILE, Triples
from regard.data.split import Split
from regard.files import InputError
from regard.relations.annotation_readers import read_labels
from regard.relations.annotations import pairs_of
from regard.relations.predictor import Predictor

MOST = 25  # relations per image by default, as in published graphs
BLOCK = 2**22  # probabilities in memory at a time


def predict(predictor: Predictor, folder: Path, keep: int | None = None) -> Iterator[str]:
    """Write `{split}_relations.npz` for each split that has boxes and labels and no relations; yields a line per split.

    `keep` is that of `predicted`. The splits share one list of predicates. Raises InputError if there is nothing to
    predict for, or if the relations of a split have predicates that the predictor does not have.
    """
    splits = check_splits(folder)
    names, lacking = predictor.predicates, 0
    paths = {split: Files(data_folder(folder), split).path("relations.npz") for split in splits}
    for split in (split for split, path in paths.items() if path.exists()):
        names = Split.open(folder, split).predicates
        missing = np.flatnonzero(renumbering(predictor.predicates, names)[1:] == 0)
        if len(missing) and not all(path.exists() for path in paths.values()):
            raise InputError(
                f"{paths[split]} has no predicate {predictor.predicates[missing[0] + 1]!r}, and splits share their "
                f"predicates: remove it to predict the relations of all splits."
            )
    for split, path in paths.items():
        if path.exists():
            yield f"{split}: keeps {path}"
            continue
        opened = Split.open(folder, split)
        if without := [name for name in ("boxes", "labels") if name not in opened.fields]:
            lacking += 1
            yield f"{split}: has no {' and no '.join(without)}, so none are predicted"
            continue
        found = predicted(predictor, opened, keep)
        places = renumbering(predictor.predicates, names)
        replace(found, label=places[found.label], names=names).save(path, IMAGE_FILE)
        sure = float((found.confidence >= opened.relation_threshold).mean()) if len(found.label) else 0.0
        yield (
            f"{split}: {len(found.label) / opened.num_images:.2f} relations per image, predicted from "
            f"labels and boxes; "
            f"{sure:.0%} of them have a confidence of at least {opened.relation_threshold}, and only those are read"
        )
    if lacking == len(splits):
        raise InputError(
            f"{folder} has no split with boxes and labels, from which relations are predicted: see docs/data.md."
        )


def predicted(predictor: Predictor, split: Split, keep: int | None = None) -> Triples:
    """Return the `keep` most probable pairs of each image, by P(predicate, some relation) of their best predicate.

    By default, an image gets the expected number of its relations (the sum of P(some relation), rounded), 25 at most.
    Confidence is P(predicate | some relation). No features are read. Raises InputError if the predictor knows none of
    the classes.
    """
    assert split.boxes is not None
    classes = renumbering(split.classes, predictor.classes, unknown=len(predictor.classes))
    if not (np.unique(classes) % len(predictor.classes)).any():
        raise InputError(
            f"{split.folder} {split.name} has no class that the predictor knows: expected names such as "
            f"{', '.join(predictor.classes[1:4])}."
        )
    width, parts = split.num_regions, []
    step = max(1, BLOCK // (width**2 * len(predictor.predicates)))
    for start in range(0, split.num_images, step):
        rows = np.arange(start, min(start + step, split.num_images))
        labels = torch.from_numpy(classes[read_labels(split, rows)])
        boxes = torch.from_numpy(split.boxes.read(rows).astype(np.float32))
        named = predictor.probabilities(boxes, labels)[..., 1:].flatten(1, 2)  # [image, pair, predicate]
        best, which = named.max(-1)
        related = named.sum(-1).clamp(min=1e-30)  # certain of none, it may be 0
        room = related.sum(1).round().clamp(max=MOST) if keep is None else torch.full((len(rows),), float(keep))
        scores = best.masked_fill(~pairs_of(labels).flatten(1), -1)
        ranked, order = torch.sort(scores, dim=1, descending=True, stable=True)
        taken = (ranked >= 0) & (torch.arange(width**2) < room[:, None])
        image, pair = taken.nonzero()[:, 0], order[taken]
        sure = best[image, pair] / related[image, pair]
        parts.append((image + start, pair // width, pair % width, which[image, pair] + 1, sure))
    item, source, target, label, confidence = (torch.cat(columns).numpy() for columns in zip(*parts, strict=True))
    return Triples.of(
        item, source, target, label, predictor.predicates, split.num_images, confidence.astype(np.float16)
    )
