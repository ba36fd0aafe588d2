"""Relations between labelled boxes from a learnt predictor: `regard relations predict FILE DIR`."""

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

MAX_RELATIONS = 25  # per image by default, as in published graphs
BLOCK = 2**22  # probabilities in memory at a time


def predict_folder(predictor: Predictor, folder: Path, keep: int | None = None) -> Iterator[str]:
    """Write `{split}_relations.npz` for each split that has boxes and labels but no relations. Yields a line per split.

    `keep` is passed to `predict_relations`. All splits use one list of predicates: that of the splits that have
    relations, if there are any. Raises InputError if no split has boxes and labels, or if that list lacks a predicate
    of the predictor.
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
            yield f"{split}: has no {' and no '.join(without)}, so no relations are predicted"
            continue
        triples = predict_relations(predictor, opened, keep)
        numbers = renumbering(predictor.predicates, names)
        replace(triples, label=numbers[triples.label], names=names).save(path, IMAGE_FILE)
        is_read = triples.confidence >= opened.relation_threshold
        share = float(is_read.mean()) if len(is_read) else 0.0
        yield (
            f"{split}: {len(is_read) / opened.num_images:.2f} relations per image, predicted from labels and boxes; "
            f"{share:.0%} have a confidence of at least {opened.relation_threshold}, and only those are read"
        )
    if lacking == len(splits):
        raise InputError(f"{folder} has no split with boxes and labels to predict relations from: see docs/data.md.")


def predict_relations(predictor: Predictor, split: Split, keep: int | None = None) -> Triples:
    """Return the `keep` most probable pairs of each image, ranked by P(predicate, related) of their best predicate.

    By default, the expected number of relations of the image is kept (the sum of P(related) over its pairs, rounded),
    but at most 25. The confidence of a relation is P(predicate | related). Features are not read. Raises InputError if
    the predictor knows none of the classes.
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
        probabilities = predictor.probabilities(boxes, labels)[..., 1:].flatten(1, 2)  # [image, pair, predicate]
        best, predicate = probabilities.max(-1)
        related = probabilities.sum(-1).clamp(min=1e-30)  # 0 if the predictor is certain that there is no relation
        expected = related.sum(1).round().clamp(max=MAX_RELATIONS)
        num_kept = expected if keep is None else torch.full_like(expected, float(keep))
        scores = best.masked_fill(~pairs_of(labels).flatten(1), -1)
        ranked, order = torch.sort(scores, dim=1, descending=True, stable=True)
        kept = (ranked >= 0) & (torch.arange(width**2) < num_kept[:, None])
        image, pair = kept.nonzero()[:, 0], order[kept]
        certainty = best[image, pair] / related[image, pair]
        parts.append((image + start, pair // width, pair % width, predicate[image, pair] + 1, certainty))
    item, source, target, label, confidence = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Triples.of(
        item, source, target, label, predictor.predicates, split.num_images, confidence.astype(np.float16)
    )
