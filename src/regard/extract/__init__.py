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
from typing import Any

import torch
from PIL import Image

from regard.data.captions import Captions
from regard.data.geometric import relate
from regard.data.layout import PHOTOGRAPHS, Files
from regard.data.lines import write_lines
from regard.data.predicted import predicted
from regard.data.relations import IMAGE_FILE
from regard.data.split import Split
from regard.extract.gather import Report, gather
from regard.extract.options import Options
from regard.extract.store import Seen, Store, read_settings, write_settings
from regard.files import InputError, Stopped, replacing
from regard.process import stoppable
from regard.regions.extractor import Extractor
from regard.regions.photographs import opened, photographs_in
from regard.regions.predicates import Predictor

__all__ = ["Options", "Report", "extract", "told"]

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
) -> Report:
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
    options = Options.settled(given or {}, before.get("options", {}), out)
    settings = before | {"photographs": os.path.abspath(photographs), "options": asdict(options)}
    for name, value in {"captions": captions, "split": split, "relations": relations}.items():
        absolute = os.path.abspath(value) if value and Path(value).is_file() and name != "split" else value
        settings[name] = str(absolute) if absolute is not None else before.get(name)
    again = settings["relations"] != before.get("relations")
    relating = _relating(settings["relations"] or "boxes")
    table = Captions.read(Path(settings["captions"])) if settings["captions"] else None
    if table:
        table.rows_of(names)  # a table of other photographs is told now, not after the work

    store = Store(out / PHOTOGRAPHS, rank)
    report, model = Report(), None
    with store.alone(), stoppable() as asked:
        if world > 1:
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        for batch in _batches(_unseen(photographs, names[rank::world], store, options.side, workers, asked, progress)):
            if model is None:
                model = extractor(options) if extractor else options.extractor(device)
                settings |= {"classes": list(model.classes), "models": _same_models(before, options, out)}
                write_settings(store.folder, settings)
            hashes, sizes, pictures = zip(*batch, strict=True)
            for hash_, size, regions in zip(hashes, sizes, model(pictures), strict=True):
                store.add(hash_, size, regions)
            report.extracted += len(batch)
            if len(store.waiting) >= SHARD:
                store.flush(model.num_regions)
        if model:
            store.flush(model.num_regions)
        if asked():
            raise Stopped(f"Stopped; what was extracted is kept in {out}. The same command goes on.")
        if world > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        if rank == 0:
            store.load()
            write_settings(store.folder, settings)
            gathered = gather(out, store, names, settings.get("classes", ()), table, settings["split"], relating, again)
            report = replace(gathered, extracted=report.extracted)
            with replacing(out / SKIPPED) as temporary:
                write_lines(temporary, [f"{ascii(name)[1:-1]}\t{why}" for name, why in report.skipped.items()])
    return replace(report, seconds=time.monotonic() - started)


def _settings_before(out: Path, like: Path | None) -> dict[str, Any]:
    """How `out` was extracted, else what that has in common with `like`. Raises InputError where either is no such."""
    if settings := read_settings(out / PHOTOGRAPHS):
        return settings
    if out.exists() and (not out.is_dir() or any(path.name != PHOTOGRAPHS for path in out.iterdir())):
        raise InputError(f"{out} exists and holds something else: give a new folder, or one that was extracted before.")
    if like is None:
        return {}
    if settings := read_settings(like / PHOTOGRAPHS):
        return {name: settings[name] for name in ("options", "relations", "models") if name in settings}
    raise InputError(f"--like {like}: that is no folder that `regard extract` wrote.")


def _relating(name: str) -> Callable[[Path, str], object] | None:
    """What makes the relations of a split. Raises InputError for an unknown name, and a file that is no predictor."""
    if name in ("boxes", "none"):
        return relate if name == "boxes" else None
    if not Path(name).is_file():
        raise InputError(f"There are no relations {name!r}: want boxes, none, or a file of `regard relations fit`.")
    predictor = Predictor.load(name)

    def relating(folder: Path, split: str) -> None:
        found = predicted(predictor, Split.open(folder, split))
        found.save(Files(folder, split).path("relations.npz"), IMAGE_FILE)

    return relating


def _same_models(before: dict[str, Any], options: Options, out: Path) -> dict[str, str]:
    """The models' fingerprints. Raises InputError where one is not what the folder was begun with."""
    now = options.fingerprint()
    if changed := [path for path, found in before.get("models", {}).items() if found != now.get(path)]:
        raise InputError(f"{changed[0]} is another file than {out} was begun with: give a new folder, or the old file.")
    return now


def told(report: Report, out: Path) -> str:
    """What was made, as lines."""
    each = report.seconds / max(report.extracted, 1)
    pace = f" in {report.seconds:.1f} s, {each * 1000:.0f} ms each" if report.extracted else ""
    lines = [f"{report.extracted:,} photographs extracted{pace}"]
    for where, (images, texts) in report.splits.items():
        lines.append(f"  {where:6} {images:,} photographs, {texts:,} sentences")
    if report.unmatched:
        lines.append(f"{report.unmatched:,} rows of the captions name no photograph that could be read")
    few = list(report.skipped.values())
    if few:
        lines.append(f"{len(few):,} files left out ({out / SKIPPED} lists them):")
        lines += [f"  {why}" for why in few[:5]] + ["  ..."] * (len(few) > 5)
    lines.append(f"Next: regard data check {out}")
    return "\n".join(lines)


Unseen = tuple[str, tuple[int, int], Image.Image]  # hash, width and height, photograph


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
    with ThreadPoolExecutor(max(1, workers)) as pool:
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
                yield seen.hash, *photograph
            if asked():
                pool.shutdown(cancel_futures=True)
                return


def _read(folder: Path, name: str, store: Store, side: int) -> tuple[Seen, tuple[tuple[int, int], Image.Image] | None]:
    """What a file is, and the photograph where it is one that the store does not have."""
    if name != " ".join(name.splitlines()).strip() or not _is_utf8(name):
        return Seen(0, 0, error=f"{name!r}: its name is not plain UTF-8 of one line. Rename it."), None
    try:
        stat = (folder / name).stat()
        seen, before = Seen(stat.st_size, stat.st_mtime_ns), store.seen.get(name)
        if before and before.hash in store.row_of and (before.bytes, before.time) == (seen.bytes, seen.time):
            return before, None
        data = (folder / name).read_bytes()
    except OSError as error:
        return Seen(0, 0, error=f"{name} cannot be read: {error.strerror}."), None
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
