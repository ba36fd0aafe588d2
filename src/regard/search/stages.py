"""The stages of an index as its manifest describes them: which run scores exactly, and what makes the shortlist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.lines import Lines
from regard.encode import batch_rows
from regard.evaluation.evaluate import scores_of
from regard.evaluation.fusion import Fusion
from regard.files import InputError
from regard.hub import is_address
from regard.search.embedding import Embedding
from regard.search.encoder import Encoder, RunShortlist, Shortlist
from regard.search.index_store import LanceNearest, Snapshot
from regard.search.milvus import MilvusShortlist
from regard.search.query import Nearest
from regard.search.source import Source
from regard.training.trained_run import RECIPE, TrainedRun


def settings_of(encoder: Encoder) -> dict[str, Any]:
    """Return the settings of a vector set, as JSON values."""
    first: dict[str, Any] | None = None
    if isinstance(encoder.first, RunShortlist):
        first = {"runs": [str(run.folder.resolve()) for run in encoder.first.runs]}
    elif encoder.first:
        first = {"embedding" if isinstance(encoder.first, Embedding) else "own": encoder.first.name}
    return {
        "run": str(encoder.run.folder.resolve()) if encoder.run else None,
        "model": encoder.run.recipe.model if encoder.run else None,
        "first": first,
        "fusion": encoder.fusion.to_dict() if encoder.fusion else None,
        "fingerprint": encoder.fingerprint,
    }


def encoder_of(
    settings: dict[str, Any], device: str, run: Path | None = None, own_first: Shortlist | None = None
) -> Encoder:
    """Return the encoder of a vector set. `run` replaces the recorded folder of its run.

    `own_first` is the first stage of a vector set that has neither runs nor an embedding model there. Raises InputError
    if a run is gone, or if the fingerprint is not the recorded one.
    """
    folder = run or settings["run"]
    trained = _trained(folder, device) if folder else None
    described, first = settings["first"] or {}, own_first
    if "runs" in described:
        first = RunShortlist([_trained(each, device) for each in described["runs"]])
    elif "embedding" in described:
        first = Embedding(described["embedding"], device)
    elif "own" in described and first is None:
        raise InputError(
            f"This index was made with {described['own']}: open it in Python with Index(folder, first=...)."
        )
    encoder = Encoder(trained, first, Fusion.of_dict(settings["fusion"]) if settings["fusion"] else None)
    if encoder.fingerprint != settings["fingerprint"]:
        raise InputError(
            f"{folder} has the fingerprint {encoder.fingerprint}, and this vector set was made with "
            f"{settings['fingerprint']}: the model has changed. Give the run that made it with --run, or add a vector "
            f"set of the new one with `regard index build`."
        )
    return encoder


def encoder_named(
    name: str, first: Sequence[str] = (), device: str = "cpu", validate_on: Path | None = None
) -> Encoder:
    """Return the encoder of a run's folder or of an embedding model, with the named first stage.

    With a first stage, the fusion is fitted on the validation split of `validate_on` (by default the run's data).
    Raises InputError if a name is neither, or if runs and embeddings are mixed in the first stage.
    """
    if not _is_run(name):
        if first:
            raise InputError(f"{name} is not a run, so that --first cannot be combined with it.")
        return Encoder(None, Embedding(name, device))
    run = TrainedRun(name, device)
    if not first:
        return Encoder(run)
    if all(map(_is_run, first)):
        stage: Shortlist = RunShortlist([TrainedRun(each, device) for each in first])
    elif len(first) == 1:
        stage = Embedding(first[0], device)
    else:
        raise InputError(f"--first {' '.join(first)}: expected runs, or one embedding model.")
    source = Source(Path(validate_on or run.data), "dev", run)
    return Encoder(run, stage, fit_fusion(stage, run, source))


def nearest_of(settings: dict[str, Any], snapshot: Snapshot) -> Nearest | None:
    """Return what chooses shortlists in place of the product in memory; None if nothing does, or it is not current."""
    if settings.get("ann"):
        return LanceNearest()
    mirror = settings.get("milvus")
    if not mirror or mirror["version"] != snapshot.version:
        return None
    return MilvusShortlist(mirror["address"], mirror["collection"])


def fit_fusion(first: Shortlist, run: TrainedRun, source: Source) -> Fusion:
    """Fit the fusion of a first stage and a run on the sentences of a source."""
    split = source.split
    first.check(source)
    scores = scores_of(run.model, split).numpy()
    images = np.concatenate([first.encode_images(source, rows) for rows in batch_rows(split.num_images)])
    texts = np.concatenate(
        [first.encode_texts([split.captions[row] for row in rows]) for rows in batch_rows(split.num_texts)]
    )
    return Fusion.fit([images @ texts.T, scores], split.image_of_text)


def check_sentences_of(index: Any, count: int, path: Path | None) -> list[str]:
    """Return sentences to measure an index with.

    They are the lines of a file; or else sentences of the pictures, spread evenly; or else of the validation split of
    the run's data.
    """
    if path is not None:
        return list(filter(None, map(str.strip, Lines(path))))[:count]
    sentences = index.sentences(count)
    if sentences:
        return sentences
    split = index.run.open_split("dev")
    rows = np.linspace(0, split.num_texts - 1, min(count, split.num_texts)).astype(int)
    return [str(split.captions[row]) for row in rows.tolist()]


def _is_run(name: str) -> bool:
    return is_address(name) or (Path(name) / RECIPE).is_file()


def _trained(folder: str | Path, device: str) -> TrainedRun:
    if not is_address(folder) and not Path(folder).is_dir():
        raise InputError(f"The run {folder} of this index is no longer there: give its new place with --run.")
    return TrainedRun(folder, device)
