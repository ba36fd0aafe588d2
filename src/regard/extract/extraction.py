"""Make a data folder from a folder of photographs: regions, features, relations and sentences. `regard extract`.

What was extracted is stored by the hash of a file's bytes, in shards (store.py). The splits are rows of the shards
(split_writer.py). Therefore an interrupted run can be continued, and a later run extracts only the photographs that
were added. A photograph that was renamed or moved to another split is not extracted again, and one that was deleted is
left out.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from regard.data.caption_tables import SPLIT_NAME
from regard.data.captions import Captions
from regard.data.layout import PHOTOGRAPHS, extraction_of
from regard.data.lines import write_lines
from regard.data.split import embeddings_file
from regard.extract.embeddings import embed_photographs
from regard.extract.extractor import Extractor, Regions
from regard.extract.options import Options
from regard.extract.relation_source import RelationSource
from regard.extract.split_writer import ExtractionReport, write_splits
from regard.extract.store import FileRecord, Store, write_settings
from regard.files import InputError, Stopped, absolute_if_there, is_utf8, replacing
from regard.launchers import job
from regard.models.zero_shot import ZeroShot
from regard.photographs import decode_photograph, list_photographs
from regard.ranks import joined, together
from regard.runtime import stoppable

SKIPPED = "skipped.tsv"
SHARD = 128  # photographs per shard: at most these and one batch are lost if the process is killed
BATCH = 8  # photographs per call of the extractor
MAX_LISTED = 5  # skipped files that the printed report lists
WAIT = timedelta(days=30)  # of a process that has finished its part for the others

Progress = Callable[[int, int], None]


def extract(
    photographs: Path,
    out: Path,
    options: dict[str, Any] | None = None,
    *,
    like: Path | None = None,
    captions: Path | None = None,
    split: str | None = None,
    relations: str | None = None,
    embeddings: Sequence[str] = (),
    workers: int = 2,
    device: str = "cpu",
    extractor: Callable[[Options], Extractor] | None = None,
    progress: Progress | None = None,
) -> ExtractionReport:
    """Extract the photographs under a folder into the data folder `out`. Photographs that it contains are skipped.

    A setting that is not passed keeps the value of the earlier run on `out`. In a new folder it is that of the data
    folder `like`, if there is one, or the default. Under torchrun the processes share the work, each on the GPU of its
    local rank, and the first process writes the splits. The report lists the files that could not be read. Raises
    InputError for unusable input, and Stopped after Ctrl-C or SIGTERM; what was extracted until then is kept.

    Parameters
    ----------
    photographs
        Folder of photographs. Subfolders are searched too.
    out
        Data folder to create or to continue.
    options
        Fields of `Options` by name.
    like
        Another extracted data folder, whose options and relations are used.
    captions
        Table of sentences (`Captions.read`). "none" clears the earlier choice.
    split
        As for `write_splits`. "none" clears the earlier choice.
    relations
        "boxes" (geometric relations, the default), "none", or a file that `regard relations fit` wrote. Another choice
        than before makes the relations anew.
    embeddings
        Names of embedding models (`ZeroShot`) whose vectors are stored beside the regions, besides those of earlier
        runs. "none" clears the earlier choice.
    workers
        Number of threads that read and decode photographs.
    device
        Device of the models: "cpu" or "cuda".
    extractor
        Builds the extractor from the options, in place of the one that the options name.
    progress
        Called as `progress(done, total)` after each photograph.
    """
    started, own, report = time.monotonic(), job(), ExtractionReport()
    with ExitStack() as stack:
        with joined("cpu", WAIT):
            extraction = together(
                lambda: Extraction.of(
                    photographs,
                    out,
                    options,
                    like=like,
                    captions=captions,
                    split=split,
                    relations=relations,
                    embeddings=embeddings if own.rank == 0 else None,
                    device=f"cuda:{own.local_rank}" if device == "cuda" and own.world > 1 else device,
                )
            )
            store = together(lambda: Store(out / PHOTOGRAPHS, own.rank))
            num_before = len(store.row_of)
            together(lambda: stack.enter_context(store.locked()))
            is_stopped = stack.enter_context(stoppable())
            names = extraction.names[own.rank :: own.world]
            together(
                lambda: extraction.extract_part(
                    names, store, workers=workers, extractor=extractor, is_stopped=is_stopped, progress=progress
                )
            )
        if own.rank == 0:
            report = extraction.gather(num_before, is_stopped=is_stopped, progress=progress)
    report.seconds = time.monotonic() - started
    return report


@dataclass(frozen=True)
class Extraction:
    """An extraction whose settings are resolved: `extract_part` in each process, then `gather` in one."""

    photographs: Path
    out: Path
    names: Sequence[str]  # of all photographs
    options: Options
    settings: dict[str, Any]  # of the data folder
    choices: dict[str, str]
    device: str
    table: Captions | None
    relation_source: RelationSource
    embedding_models: Sequence[ZeroShot]

    @classmethod
    def of(
        cls,
        photographs: Path,
        out: Path,
        options: dict[str, Any] | None = None,
        *,
        like: Path | None = None,
        captions: Path | None = None,
        split: str | None = None,
        relations: str | None = None,
        embeddings: Sequence[str] | None = (),
        device: str = "cpu",
    ) -> "Extraction":
        """Resolve the arguments of `extract`, and raise InputError if they cannot be used. Nothing is written.

        With `embeddings` None, no embedding model is loaded.
        """
        names = list_photographs(photographs)
        earlier = _earlier_settings(out, like)
        stored = earlier.get("options", {})
        resolved = Options.resolve(options or {}, stored, like if like and not out.exists() else out)
        resolved = resolved.with_precision(device)
        choices = _choices(earlier, captions, split, relations)
        table = Captions.read(Path(choices["captions"])) if choices["captions"] else None
        if table:
            table.rows_of(names)  # raises InputError for a table of other photographs, before the work, not after it
        # Also the choices, with which an interrupted run is continued.
        settings = earlier | choices | {"photographs": os.path.abspath(photographs), "options": asdict(resolved)}
        models = [] if embeddings is None else embedding_models(earlier, embeddings, device)
        if embeddings is not None:
            settings["embeddings"] = [model.name for model in models]
        source = RelationSource(choices["relations"])
        return cls(photographs, out, names, resolved, settings, choices, device, table, source, models)

    def extract_part(
        self,
        names: Sequence[str],
        store: Store,
        *,
        workers: int,
        extractor: Callable[[Options], Extractor] | None = None,
        is_stopped: Callable[[], bool],
        progress: Progress | None = None,
    ) -> None:
        """Extract photographs into the store, which is locked or of a part of a job. Raises what `extract` does."""
        settings = self.settings
        new = _new_photographs(self.photographs, names, store, self.options.side, max(1, workers), is_stopped, progress)
        model: Extractor | None = None
        for batch in _batches(new):
            if model is None:  # models are loaded only if there is a new photograph
                model = extractor(self.options) if extractor else self.options.extractor(self.device)
                models = _check_models(settings, self.options, self.out)
                settings = settings | {"classes": list(model.classes), "models": models}
            _add(store, batch, model([photograph.image for photograph in batch]))
            if len(store.pending) >= SHARD:
                _write_shard(store, settings, model)
        # A part of a job is cut into the same shards whatever interrupts it, so that their order is that of the names.
        if model and (store.first is None or not is_stopped()):
            _write_shard(store, settings, model)
        if is_stopped():
            raise Stopped(f"Stopped. What was extracted is kept in {self.out}; run the same command to continue.")

    def gather(
        self, num_before: int, *, is_stopped: Callable[[], bool], progress: Progress | None = None
    ) -> ExtractionReport:
        """Write the splits from what all processes extracted, of which `num_before` photographs are older."""
        store, found = Store(self.out / PHOTOGRAPHS), extraction_of(self.out)
        settings = self.settings | {name: found[name] for name in ("classes", "models") if name in found}
        report = _write_data_folder(
            self.out, store, self.names, settings, self.choices, self.table, self.relation_source
        )
        report.extracted = len(store.row_of) - num_before
        for each in self.embedding_models:
            report.embedded[each.name] = embed_photographs(
                self.photographs, self.out, each, progress=progress, is_stopped=is_stopped
            )
        return report


# Settings -------------------------------------------------------------------------------------------------------------


def _earlier_settings(out: Path, like: Path | None) -> dict[str, Any]:
    """The settings of the earlier run on `out`, or those of `like` that a new folder takes over.

    Raises InputError if `out` contains something else, or if `like` was not extracted.
    """
    if settings := extraction_of(out):
        return settings
    # A run that was killed early leaves no settings, only these files.
    stored = [path.name for path in (out / PHOTOGRAPHS).glob("*")]
    is_ours = all(name.startswith(("lock-", "files-")) or name.endswith((".npz", ".tmp")) for name in stored)
    has_others = out.exists() and (
        not out.is_dir() or any(path.name not in (PHOTOGRAPHS, "job") for path in out.iterdir())
    )
    if has_others or not is_ours:
        raise InputError(
            f"{out} exists and contains something else: expected a new folder, or one that `regard extract` wrote."
        )
    if like is None:
        return {}
    if settings := extraction_of(like):
        return {name: settings[name] for name in ("options", "relations", "models", "embeddings") if name in settings}
    raise InputError(f"--like {like}: expected a folder that `regard extract` wrote.")


def _choices(
    earlier: dict[str, Any], captions: Path | None, split: str | None, relations: str | None
) -> dict[str, str]:
    """The settings that every run may change: the value passed, or else the earlier one. "" means none."""
    passed = {"captions": captions, "split": split, "relations": relations}
    choices = {name: str((earlier.get(name) or "") if value is None else value) for name, value in passed.items()}
    for name in ("captions", "split"):
        choices[name] = "" if choices[name] == "none" else choices[name]
    if choices["split"] and not SPLIT_NAME.fullmatch(choices["split"]):
        raise InputError(f"--split {choices['split']!r}: expected letters, digits, - and _, such as train or test.")
    if choices["captions"]:
        choices["captions"] = os.path.abspath(choices["captions"])
    relations = choices["relations"] or "boxes"
    return choices | {"relations": os.path.abspath(relations) if Path(relations).is_file() else relations}


def embedding_models(earlier: dict[str, Any], embeddings: Sequence[str], device: str) -> list[ZeroShot]:
    """The embedding models of earlier runs and of this one. Raises InputError if one cannot be loaded."""
    kept = [] if "none" in embeddings else earlier.get("embeddings", [])
    named = [absolute_if_there(name) for name in embeddings if name != "none"]
    names = list(dict.fromkeys([*kept, *named]))
    files = [embeddings_file(name) for name in names]
    for at, name in enumerate(names):
        if (first := files.index(files[at])) < at:
            raise InputError(f"--embeddings {name} would be stored as {names[first]} is: use a folder for each.")
    return [ZeroShot(name, device) for name in names]


def _check_models(earlier: dict[str, Any], options: Options, out: Path) -> dict[str, str]:
    """The fingerprints of the models. Raises InputError if a model is not the one that the folder was started with."""
    now = options.model_fingerprints()
    if changed := [path for path, fingerprint in earlier.get("models", {}).items() if fingerprint != now.get(path)]:
        raise InputError(f"{changed[0]} has changed since {out} was started: restore it, or use a new folder.")
    return now


# Reading --------------------------------------------------------------------------------------------------------------


class NewPhotograph(NamedTuple):
    """A decoded photograph that the store does not contain."""

    name: str
    hash: str
    size: tuple[int, int]  # width and height of the file; the image may be scaled down
    image: Image.Image


def _new_photographs(
    folder: Path,
    names: Sequence[str],
    store: Store,
    side: int,
    workers: int,
    is_stopped: Callable[[], bool],
    progress: Progress | None,
) -> Iterator[NewPhotograph]:
    """Yield the photographs that the store does not contain, each content once. Threads decode some photographs ahead.

    Ends early if `is_stopped` returns True.
    """
    hashes: set[str] = set()
    waiting: deque[tuple[str, Future]] = deque()
    remaining = iter(names)
    with ThreadPoolExecutor(workers) as pool:
        for done in range(len(names)):
            for name in islice(remaining, 2 * BATCH + workers - len(waiting)):
                waiting.append((name, pool.submit(_read_file, folder, name, store, side)))
            name, reading = waiting.popleft()
            record, photograph = reading.result()
            store.record(name, record)
            if progress:
                progress(done + 1, len(names))
            if photograph and photograph.hash not in hashes:
                hashes.add(photograph.hash)
                yield photograph
            if is_stopped():
                pool.shutdown(cancel_futures=True)
                return


def _read_file(folder: Path, name: str, store: Store, side: int) -> tuple[FileRecord, NewPhotograph | None]:
    """The record of a file, and its photograph if the store does not contain it."""
    if name.endswith("/"):
        return FileRecord(0, 0, error=f"{name} is a folder without read permission."), None
    if name != " ".join(name.splitlines()).strip() or not is_utf8(name):
        expected = "expected a name in UTF-8, of one line, without spaces around it. Rename the file."
        return FileRecord(0, 0, error=f"{name!r}: {expected}"), None
    try:
        stat = (folder / name).stat()
        if not S_ISREG(stat.st_mode):
            return FileRecord(0, 0, error=f"{name} is not a file."), None
        record, earlier = FileRecord(stat.st_size, stat.st_mtime_ns), store.records.get(name)
        if earlier and earlier.hash in store.row_of and (earlier.bytes, earlier.time) == (record.bytes, record.time):
            return earlier, None
        data = (folder / name).read_bytes()
    except OSError as error:
        return FileRecord(0, 0, error=f"{name} cannot be read: {error.strerror}."), None
    hash_ = hashlib.blake2b(data, digest_size=16).hexdigest()
    if hash_ in store.row_of:
        return replace(record, hash=hash_), None
    try:
        image, size = decode_photograph(name, data, side)
    except InputError as error:
        return replace(record, error=str(error)), None
    pixels = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).hexdigest()
    return replace(record, hash=hash_, pixels=pixels), NewPhotograph(name, hash_, size, image)


# Writing --------------------------------------------------------------------------------------------------------------


def _batches(photographs: Iterator[NewPhotograph]) -> Iterator[list[NewPhotograph]]:
    while batch := list(islice(photographs, BATCH)):
        yield batch


def _add(store: Store, batch: Sequence[NewPhotograph], regions: Sequence[Regions]) -> None:
    """Add the regions of a batch to the store. A photograph whose features do not fit into float16 is skipped."""
    for (name, hash_, size, _), own in zip(batch, regions, strict=True):
        with np.errstate(over="ignore"):
            is_finite = bool(np.isfinite(own.features.astype(np.float16)).all())
        if is_finite:
            store.add(hash_, size, own)
        else:
            error = f"{name}: its features contain NaN, infinity or values beyond float16 (65,504)."
            store.record(name, replace(store.records[name], hash="", error=error))


def _write_shard(store: Store, settings: dict[str, Any], model: Extractor) -> None:
    if store.pending:
        write_settings(store.folder, settings)
        store.flush(model.num_regions)


def _write_data_folder(
    out: Path,
    store: Store,
    names: Sequence[str],
    settings: dict[str, Any],
    choices: dict[str, str],
    table: Captions | None,
    relation_source: RelationSource,
) -> ExtractionReport:
    """Write the settings, the splits and the list of skipped files."""
    classes = settings.get("classes", ())
    relation_source.check_classes(classes)
    if settings.get("related", relation_source.fingerprint) != relation_source.fingerprint:
        for path in set(out.glob("*_relations.npz")) - set(out.glob("*_text_relations.npz")):
            path.unlink()
    # Written before the splits: if this run is interrupted, a run without options completes it.
    write_settings(store.folder, settings | {"related": relation_source.fingerprint})
    report = write_splits(out, store, names, classes, table, choices["split"], relation_source.write)
    with replacing(out / SKIPPED) as temporary:
        write_lines(temporary, [f"{ascii(name)[1:-1]}\t{why}" for name, why in report.skipped.items()])
    return report


def render_embedded(embedded: dict[str, dict[str, int]]) -> list[str]:
    """Return a line about the vectors of each embedding model."""
    counts = {name: ", ".join(f"{n:,} of {split}" for split, n in splits.items()) for name, splits in embedded.items()}
    return [f"Vectors of {name}: {text}" for name, text in counts.items()]


def render_report(report: ExtractionReport, out: Path) -> str:
    """Return the lines that `regard extract` prints."""
    each = report.seconds / max(report.extracted, 1)
    pace = f" in {report.seconds:.1f} s, {each * 1000:.0f} ms each" if report.extracted else ""
    lines = [f"{report.extracted:,} photographs extracted{pace}"]
    for split, (num_photographs, num_sentences) in report.splits.items():
        lines.append(f"  {split:6} {num_photographs:,} photographs, {num_sentences:,} sentences")
    lines += render_embedded(report.embedded)
    if report.unmatched:
        lines.append(
            f"{len(report.unmatched):,} sentences skipped, because their photograph is missing or cannot be read, such "
            f"as {report.unmatched[0]}"
        )
    if report.unparsed:
        lines.append(f"The sentences of {', '.join(report.unparsed)} do not look like English, and are not parsed.")
    if report.skipped_rows:
        place, why = report.skipped_rows[0]
        num_rows = len(report.skipped_rows)
        lines.append(f"{num_rows:,} {'row' if num_rows == 1 else 'rows'} of the table skipped, such as {place}: {why}")
    if reasons := list(report.skipped.values()):
        lines.append(f"{len(reasons):,} files skipped ({out / SKIPPED} lists them):")
        lines += [f"  {why}" for why in reasons[:MAX_LISTED]] + ["  ..."] * (len(reasons) > MAX_LISTED)
    lines.append(f"Next: regard data check {out}")
    return "\n".join(lines)
