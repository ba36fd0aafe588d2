"""The kinds of jobs. Each is the work of one machine: the same function does a part, and the same one gathers them.

A part may run on another machine, which has the same paths. What it loads (a model, the encodings of the images) is
kept for the next part of the same process.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from regard.checksums import check_arrays, save_arrays
from regard.data import Split
from regard.data.layout import PHOTOGRAPHS, stamp_of
from regard.encode import BATCH, check_inputs, encode_images, encode_texts
from regard.evaluation.evaluate import EncodingType, shortest_first, stored_images, text_parts
from regard.extract.extraction import SHARD, Extraction
from regard.extract.extractor import Extractor
from regard.extract.options import Options
from regard.extract.relation_source import RelationSource
from regard.extract.split_writer import ExtractionReport
from regard.extract.store import FileRecord, Store
from regard.files import InputError
from regard.jobs.job_folder import JobFolder
from regard.jobs.running import Machines, Progress, run_parts
from regard.runtime import Precision, stoppable
from regard.score import score_all
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.search.manifest import is_index
from regard.search.plan import ChangeReport, Plan
from regard.search.source import Source, is_data_folder
from regard.search.stages import encoder_of, settings_of
from regard.training.trained_run import TrainedRun

IsStopped = Callable[[], bool]


@contextmanager
def _running(out: Path) -> Iterator[tuple[JobFolder, IsStopped]]:
    """Be the only process that runs the job in `out`, and forget what its parts have loaded in this process."""
    folder = JobFolder(out)
    with folder.locked(), stoppable() as is_stopped:
        try:
            yield folder, is_stopped
        finally:
            for cached in (_extractor, RunSplit.open, RunSplit.images, _encoder_and_source, _arrays):
                cached.cache_clear()


# Extraction -----------------------------------------------------------------------------------------------------------


def extract_job(
    extraction: Extraction, machines: Machines, *, size: int, workers: int, progress: Progress | None = None
) -> ExtractionReport:
    """Extract photographs, `size` in a part (rounded up to whole shards): `regard.extract.extraction.extract`."""
    started, names, store = time.monotonic(), extraction.names, Store(extraction.out / PHOTOGRAPHS)
    with _running(extraction.out) as (folder, is_stopped), store.locked():
        store.load()
        num_before, num_shards = len(store.row_of), -(-size // SHARD)
        size = num_shards * SHARD
        parts = [names[first : first + size] for first in range(0, len(names), size)]
        known = {name: record for name, record in store.records.items() if record.hash in store.row_of}
        asked = {"photographs": extraction.settings["photographs"], "options": extraction.settings["options"]}
        notes = folder.start(
            "extract", asked, [f"{size} in a part", *names], len(parts), renewable=True, first=store.next_number()
        )
        arguments = [(part, {name: known[name] for name in part if name in known}) for part in parts]
        lean = replace(extraction, names=(), table=None, relation_source=RelationSource("none"), embedding_models=())
        work = ExtractPart(lean, notes["first"], num_shards, workers)
        run_parts(folder, work, arguments, machines, is_stopped, progress)
        report = extraction.gather(num_before, is_stopped=is_stopped)
        folder.finish({"splits": report.splits, "skipped": len(report.skipped)})
    report.seconds = time.monotonic() - started
    return report


@dataclass(frozen=True)
class ExtractPart:
    """Extract some photographs into shards of the part's own, whose numbers are those of one machine."""

    extraction: Extraction
    first: int  # number of the first shard
    num_shards: int
    workers: int

    def __call__(
        self, argument: tuple[Sequence[str], dict[str, FileRecord]], out: Path, number: int, is_stopped: IsStopped
    ) -> None:
        names, known = argument
        first = self.first + number * self.num_shards
        store = Store(self.extraction.out / PHOTOGRAPHS, number + 1, first=first, known=known)
        extractor = partial(_extractor, device=self.extraction.device)
        self.extraction.extract_part(names, store, workers=self.workers, extractor=extractor, is_stopped=is_stopped)
        out.write_text(json.dumps({"photographs": len(names)}))


@lru_cache(1)
def _extractor(options: Options, device: str) -> Extractor:
    return options.extractor(device)


# Encoding and evaluation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunSplit:
    """A run, and the split that it reads."""

    run: str
    data: str
    split: str
    device: str = "cpu"

    @lru_cache(1)  # noqa: B019  # for the next part
    def open(self) -> tuple[Any, Any, str]:
        """Return the model, the split, and the fingerprint of the run."""
        trained = TrainedRun(self.run, self.device)
        return trained.model, trained.open_split(self.split, self.data), trained.fingerprint

    @lru_cache(1)  # noqa: B019  # for the next part
    def images(self, encodings: EncodingType) -> Any:
        """Return the encodings of all images, for scoring."""
        model, split, _ = self.open()
        with torch.inference_mode():
            return stored_images(model, split, np.arange(split.num_images), encodings)


def _opened(of: RunSplit, machines: Machines) -> tuple[Any, Any, str]:
    """What `open` returns, on this machine. Raises InputError if the split lacks what the model needs."""
    opened = replace(of, device=machines.own_device).open()
    check_inputs(*opened[:2])
    return opened


def encode_job(
    of: RunSplit, out: Path, machines: Machines, *, size: int, progress: Progress | None = None
) -> list[Path]:
    """Write the encodings of the images and of the texts of a split, as `Batch.save` does. Returns the files."""
    files, size = list[Path](), -(-size // BATCH) * BATCH  # whole batches, so that each is encoded as on one machine
    with _running(out) as (folder, is_stopped):
        model, split, fingerprint = _opened(of, machines)
        sides = {"images": (split.num_images, model.image_encoding), "texts": (split.num_texts, model.text_encoding)}
        cuts = [(side, at, min(at + size, n)) for side, (n, _) in sides.items() for at in range(0, n, size)]
        asked = {"fingerprint": fingerprint, "data": of.data, "split": of.split, "size": size}
        folder.start("encode", asked, [stamp_of(Path(of.data), of.split)], len(cuts))
        run_parts(folder, EncodePart(replace(of, device=machines.device)), cuts, machines, is_stopped, progress)
        for side, (count, kind) in sides.items():
            if count:
                own = [folder.part(number) for number, cut in enumerate(cuts) if cut[0] == side]
                files.append(out / f"{of.split}_{side}.safetensors")
                kind.cat([kind.load(path, fingerprint) for path in own]).save(files[-1], fingerprint)
        folder.finish({"files": [path.name for path in files]})
    return files


@dataclass(frozen=True)
class EncodePart:
    """Encode some images or texts of a split."""

    of: RunSplit

    @torch.inference_mode()
    def __call__(self, argument: tuple[str, int, int], out: Path, number: int, is_stopped: IsStopped) -> None:
        (side, first, end), (model, split, fingerprint) = argument, self.of.open()
        encode = encode_images if side == "images" else encode_texts
        encode(model, split, np.arange(first, end)).to("cpu").save(out, fingerprint)


def score_job(
    of: RunSplit,
    out: Path,
    machines: Machines,
    matrix: Callable[[tuple[int, int]], AbstractContextManager[np.ndarray]],
    measure: Callable[[np.ndarray, Split], dict[str, Any]],
    *,
    precision: Precision = "float32",
    encodings: EncodingType = "float32",
    progress: Progress | None = None,
) -> None:
    """Compute the scores of all pairs of a split, equal to those of `scores_of`. A part is some of the texts.

    `matrix` makes the array that they are written to. The result of the job is what `measure` returns of them.
    """
    with _running(out) as (folder, is_stopped):
        model, split, fingerprint = _opened(of, machines)
        parts = text_parts(shortest_first(model, split))
        asked = {"fingerprint": fingerprint, "data": of.data, "split": of.split}
        asked |= {"precision": precision, "encodings": encodings}
        folder.start("evaluate", asked, [stamp_of(Path(of.data), of.split)], len(parts))
        work = ScorePart(replace(of, device=machines.device), precision, encodings)
        run_parts(folder, work, parts, machines, is_stopped, progress)
        with matrix((split.num_images, split.num_texts)) as scores:
            for number, rows in enumerate(parts):
                scores[:, rows] = _arrays(folder.part(number))["scores"]
            measured = measure(scores, split)
        folder.finish(measured)


@dataclass(frozen=True)
class ScorePart:
    """Score some texts of a split with all its images."""

    of: RunSplit
    precision: Precision
    encodings: EncodingType

    @torch.inference_mode()
    def __call__(self, argument: np.ndarray, out: Path, number: int, is_stopped: IsStopped) -> None:
        model, split, _ = self.of.open()
        images, texts = self.of.images(self.encodings), encode_texts(model, split, argument)
        save_arrays(out, {"scores": score_all(model, images, texts, precision=self.precision).numpy()})


# Indexing -------------------------------------------------------------------------------------------------------------


def index_job(
    out: Path,
    encoder: Encoder,
    source: Path,
    machines: Machines,
    *,
    size: int,
    store: str = "",
    split: str | None = None,
    prefix: str = "",
    texts: bool = False,
    progress: Progress | None = None,
) -> ChangeReport:
    """Create an index of a data folder, or continue: as `Index.create` and `Index.add`, but encoded in parts."""
    if not is_data_folder(source):
        raise InputError(
            f"{source} is not a data folder: `regard job extract {source} --out DATA --like ...` makes one of "
            "photographs, with the options of the data that the run was trained on."
        )
    size = -(-size // BATCH) * BATCH
    if not (is_index(out) and JobFolder(out).folder.is_dir()):
        Index.create(out, encoder, machines.own_device, store)
    with _running(out) as (folder, is_stopped):
        index = Index(out, first=encoder.first, device=machines.own_device)
        if index.fingerprint != encoder.fingerprint:
            raise InputError(f"{out} is an index of another run or first stage: expected a new folder.")

        def encode(plan: Plan) -> StoredVectors:
            cuts = [
                (str(own.folder), own.name, rows[first : first + size])
                for own, rows in plan.new.items()
                for first in range(0, len(rows), size)
            ]
            asked = {"run": encoder.fingerprint, "source": os.path.abspath(source), "split": split, "prefix": prefix}
            folder.start("index", asked, [f"{size} in a part", *plan.links], len(cuts), renewable=True)
            run_parts(folder, IndexPart(settings_of(encoder), machines.device), cuts, machines, is_stopped, progress)
            return StoredVectors(folder, cuts)

        report = index.add(source, split=split, prefix=prefix, texts=texts, encode=encode)
        folder.finish({"added": report.added, "version": report.version})
    return report


@dataclass(frozen=True)
class IndexPart:
    """Encode some pictures of a source, batch by batch."""

    settings: dict[str, Any]  # of the encoder
    device: str

    def __call__(self, argument: tuple[str, str, list[int]], out: Path, number: int, is_stopped: IsStopped) -> None:
        folder, split, rows = argument
        encoder, source = _encoder_and_source(json.dumps(self.settings), self.device, folder, split)
        batches = [np.array(rows[first : first + BATCH]) for first in range(0, len(rows), BATCH)]
        summaries, packed = zip(*(encoder.encode_images(source, batch) for batch in batches), strict=True)
        items = [item for batch in packed for item in batch]
        ends = np.cumsum([len(item) for item in items])
        data = np.frombuffer(b"".join(items), np.uint8)
        save_arrays(out, {"summaries": np.concatenate(summaries), "ends": ends, "data": data})


@lru_cache(1)
def _encoder_and_source(settings: str, device: str, folder: str, split: str) -> tuple[Encoder, Source]:
    encoder = encoder_of(json.loads(settings), device)
    return encoder, Source(Path(folder), split, encoder.run)


class StoredVectors:
    """The vectors that the parts of a job computed, in place of an encoder."""

    def __init__(self, folder: JobFolder, cuts: Sequence[tuple[str, str, list[int]]]) -> None:
        self.folder = folder
        self.place_of = {  # the part and the place in it of each batch, by its first row
            (source, split, rows[place]): (number, place)
            for number, (source, split, rows) in enumerate(cuts)
            for place in range(0, len(rows), BATCH)
        }

    def encode_images(self, source: Source, rows: np.ndarray) -> tuple[Float[np.ndarray, "image dim"], list[bytes]]:
        """See Encoder.encode_images."""
        number, place = self.place_of[str(source.folder), source.name, int(rows[0])]
        arrays, end = _arrays(self.folder.part(number)), place + len(rows)
        bounds, data = [0, *arrays["ends"].tolist()], arrays["data"].tobytes()
        return arrays["summaries"][place:end], [data[bounds[row] : bounds[row + 1]] for row in range(place, end)]


@lru_cache(1)
def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a part. Raises InputError if the file is damaged."""
    check_arrays(path)
    with np.load(path) as file:
        return dict(file)
