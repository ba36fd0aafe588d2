"""A folder of photographs -> a data folder: regions, features, relations and sentences. `regard extract`.

What is extracted is kept by the hash of a file's bytes, in shards (store.py); the splits are rows of them (gather.py).
So a run that was killed goes on, photographs that are added later alone are extracted, one that was renamed or moved to
another split is not extracted again, and one that has gone is left out.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import torch
from PIL import Image

from regard.data.captions import SPLIT_NAME, Captions
from regard.data.layout import PHOTOGRAPHS, extraction_of
from regard.data.lines import write_lines
from regard.extract.extractor import Extractor, Regions
from regard.extract.gather import ExtractionReport, gather
from regard.extract.options import Options
from regard.extract.relating import Relating
from regard.extract.store import FileRecord, Store, write_settings
from regard.files import InputError, Stopped, replacing
from regard.photographs import opened, photographs_in
from regard.runtime import stoppable

SKIPPED = "skipped.tsv"
SHARD = 128  # photographs: what a killed run has to do again, at most
BATCH = 8  # photographs given to the extractor at once


def extract(
    photographs: Path,
    out: Path,
    given: dict[str, Any] | None = None,
    *,
    like: Path | None = None,
    captions: Path | None = None,
    split: str | None = None,
    relations: str | None = None,
    workers: int = 2,
    device: str = "cpu",
    extractor: Callable[[Options], Extractor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionReport:
    """Extract the photographs under a folder into the data folder `out`, those alone that it does not have yet.

    `given` are fields of Options, `captions` a table (Captions.read), `split` as for gather, `relations` "boxes"
    (geometric), "none", or a file of `regard relations fit`; to name others than before makes them anew. What is not
    given is as before, else as the data folder `like` was extracted, else the default. `extractor` makes another than
    the options name. `progress(done, total)` is told of photographs; the report tells of files that cannot be read.
    Under torchrun the processes divide the work, and the first of them writes the splits. Raises InputError, and
    Stopped after Ctrl-C or SIGTERM, when what was extracted is kept.
    """
    started = time.monotonic()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    names = photographs_in(photographs)
    before = _settings_before(out, like)
    options = Options.settled(given or {}, before.get("options", {}), like if like and not out.exists() else out)
    chosen = _chosen(before, captions, split, relations)
    table = Captions.read(Path(chosen["captions"])) if chosen["captions"] else None
    if table:
        table.rows_of(names)  # a table of other photographs is told now, not after the work
    relating = Relating(chosen["relations"])
    settings = before | {"photographs": os.path.abspath(photographs), "options": asdict(options)}

    store = Store(out / PHOTOGRAPHS, rank)
    num_before = len(store.row_of)
    with store.alone(), stoppable() as asked:
        if world > 1:
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        unseen = _unseen(photographs, names[rank::world], store, options.side, max(1, workers), asked, progress)
        model: Extractor | None = None
        for batch in _batches(unseen):
            if model is None:
                model = extractor(options) if extractor else options.extractor(device)
                settings |= {"classes": list(model.classes), "models": _same_models(before, options, out)}
            found = model([photograph for *_, photograph in batch])
            for (name, hash_, size, _), regions in zip(batch, found, strict=True):
                if _fits(regions):
                    store.add(hash_, size, regions)
                else:
                    why = f"{name}: its features hold NaN, infinity or values beyond float16 (65,504)."
                    store.saw(name, replace(store.seen[name], hash="", error=why))
            if len(store.waiting) >= SHARD:
                _keep(store, settings, model)
        if model:
            _keep(store, settings, model)
        if asked():
            raise Stopped(f"Stopped; what was extracted is kept in {out}. The same command goes on.")
        if world > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        report = ExtractionReport()
        if rank == 0:
            store.load()
            relating.check(settings.get("classes", ()))
            if before.get("related", relating.made_by) != relating.made_by:
                for path in set(out.glob("*_relations.npz")) - set(out.glob("*_text_relations.npz")):
                    path.unlink()
            # From here on a plain run finishes what this one may leave unfinished.
            write_settings(store.folder, settings | chosen | {"related": relating.made_by})
            report = gather(out, store, names, settings.get("classes", ()), table, chosen["split"], relating.make)
            report.extracted = len(store.row_of) - num_before
            with replacing(out / SKIPPED) as temporary:
                write_lines(temporary, [f"{ascii(name)[1:-1]}\t{why}" for name, why in report.skipped.items()])
    report.seconds = time.monotonic() - started
    return report


def _settings_before(out: Path, like: Path | None) -> dict[str, Any]:
    """How `out` was extracted, else what that has in common with `like`. Raises InputError if either is no such."""
    if settings := extraction_of(out):
        return settings
    begun = [path.name for path in (out / PHOTOGRAPHS).glob("*")]
    ours = all(name.startswith(("lock-", "files-")) or name.endswith((".npz", ".tmp")) for name in begun)
    others = out.exists() and (not out.is_dir() or any(path.name != PHOTOGRAPHS for path in out.iterdir()))
    if others or not ours:
        raise InputError(
            f"{out} exists and contains something else: give a new folder, or one that was extracted before."
        )
    if like is None:
        return {}
    if settings := extraction_of(like):
        return {name: settings[name] for name in ("options", "relations", "models") if name in settings}
    raise InputError(f"--like {like}: that is not a folder that `regard extract` wrote.")


def _chosen(before: dict[str, Any], captions: Path | None, split: str | None, relations: str | None) -> dict[str, str]:
    """What may be chosen anew in every run: as given, else as before. "" is none."""
    given = {"captions": captions, "split": split, "relations": relations}
    chosen = {name: str((before.get(name) or "") if value is None else value) for name, value in given.items()}
    for name in ("captions", "split"):
        chosen[name] = "" if chosen[name] == "none" else chosen[name]
    if chosen["split"] and not SPLIT_NAME.fullmatch(chosen["split"]):
        raise InputError(f"--split {chosen['split']!r}: expected letters, digits, - and _, such as train, dev or test.")
    if chosen["captions"]:
        chosen["captions"] = os.path.abspath(chosen["captions"])
    relations = chosen["relations"] or "boxes"
    return chosen | {"relations": os.path.abspath(relations) if Path(relations).is_file() else relations}


def _same_models(before: dict[str, Any], options: Options, out: Path) -> dict[str, str]:
    """The models' fingerprints. Raises InputError if one is not what the folder was begun with."""
    now = options.fingerprint()
    if changed := [path for path, found in before.get("models", {}).items() if found != now.get(path)]:
        raise InputError(f"{changed[0]} is not what {out} was begun with: give a new folder, or the model as it was.")
    return now


def _fits(regions: Regions) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(regions.features.astype(np.float16)).all())


def _keep(store: Store, settings: dict[str, Any], model: Extractor) -> None:
    if store.waiting:
        write_settings(store.folder, settings)
        store.flush(model.num_regions)


def told(report: ExtractionReport, out: Path) -> str:
    """What was made, as lines."""
    each = report.seconds / max(report.extracted, 1)
    pace = f" in {report.seconds:.1f} s, {each * 1000:.0f} ms each" if report.extracted else ""
    lines = [f"{report.extracted:,} photographs extracted{pace}"]
    for where, (images, texts) in report.splits.items():
        lines.append(f"  {where:6} {images:,} photographs, {texts:,} sentences")
    if report.unmatched:
        lines.append(
            f"{len(report.unmatched):,} sentences are of no photograph that could be read, the first of "
            f"{report.unmatched[0]}"
        )
    few = list(report.skipped.values())
    if few:
        lines.append(f"{len(few):,} files left out ({out / SKIPPED} lists them):")
        lines += [f"  {why}" for why in few[:5]] + ["  ..."] * (len(few) > 5)
    lines.append(f"Next: regard data check {out}")
    return "\n".join(lines)


Unseen = tuple[str, str, tuple[int, int], Image.Image]  # name, hash, width and height, photograph


def _batches(found: Iterator[Unseen]) -> Iterator[list[Unseen]]:
    while batch := list(islice(found, BATCH)):
        yield batch


def _unseen(
    folder: Path,
    names: Sequence[str],
    store: Store,
    side: int,
    workers: int,
    asked: Callable[[], bool],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Unseen]:
    """The photographs that the store does not have, once each, decoded by `workers` threads some steps ahead."""
    taken: set[str] = set()
    waiting: deque[tuple[str, Future]] = deque()
    rest = iter(names)
    with ThreadPoolExecutor(workers) as pool:
        for done in range(len(names)):
            for name in islice(rest, 2 * BATCH + workers - len(waiting)):
                waiting.append((name, pool.submit(_read, folder, name, store, side)))
            name, reading = waiting.popleft()
            seen, photograph = reading.result()
            store.saw(name, seen)
            if progress:
                progress(done + 1, len(names))
            if photograph and seen.hash not in taken:
                taken.add(seen.hash)
                yield name, seen.hash, *photograph
            if asked():
                pool.shutdown(cancel_futures=True)
                return


def _read(
    folder: Path, name: str, store: Store, side: int
) -> tuple[FileRecord, tuple[tuple[int, int], Image.Image] | None]:
    """What a file is, and the photograph where it is one that the store does not have."""
    if name.endswith("/"):
        return FileRecord(0, 0, error=f"{name} is a folder that may not be read."), None
    if name != " ".join(name.splitlines()).strip() or not _is_utf8(name):
        return FileRecord(
            0, 0, error=f"{name!r}: expected a name in UTF-8, of one line, no spaces around it. Rename it."
        ), None
    try:
        stat = (folder / name).stat()
        if not S_ISREG(stat.st_mode):
            return FileRecord(0, 0, error=f"{name} is not a file."), None
        seen, before = FileRecord(stat.st_size, stat.st_mtime_ns), store.seen.get(name)
        if before and before.hash in store.row_of and (before.bytes, before.time) == (seen.bytes, seen.time):
            return before, None
        data = (folder / name).read_bytes()
    except OSError as error:
        return FileRecord(0, 0, error=f"{name} cannot be read: {error.strerror}."), None
    seen = replace(seen, hash=hashlib.blake2b(data, digest_size=16).hexdigest())
    if seen.hash in store.row_of:
        return seen, None
    try:
        photograph, size = opened(name, data, side)
    except InputError as error:
        return replace(seen, hash="", error=str(error)), None
    return seen, (size, photograph)


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
