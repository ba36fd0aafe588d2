"""The store of extracted photographs: shards in `DIR/photographs/`.

A shard is written whole or not at all, and is never changed.

00000-0.npy      float16 [photograph, region, feature]: the features of a shard that process 0 wrote
00000-0.npz      hash, sizes, counts, boxes, labels and scores of the same photographs
files-0.jsonl    the record of each file that process 0 read, one per line: size, time, and hash or error
settings.json    the settings of the extraction
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np

from regard.checksums import save_arrays
from regard.data.layout import SETTINGS
from regard.data.rows import NpyWriter, Rows
from regard.extract.extractor import Regions
from regard.files import InputError, parse_json, replacing
from regard.lease import leased

ARRAYS = ("hash", "sizes", "counts", "boxes", "labels", "scores")  # of the .npz of a shard
MAX_SHARDS = 100_000  # they are in the order of their names, which begin with five digits


@dataclass(frozen=True)
class FileRecord:
    """The state of a file when it was read, and its hash or the reason why it could not be read.

    `pixels` is a hash of the decoded image, which does not change with the file's metadata.
    """

    bytes: int
    time: int  # of the last change, in nanoseconds
    hash: str = ""
    error: str = ""
    pixels: str = ""  # "" if the file was not decoded, because the content was stored already


class Store:
    """The photographs that were extracted so far, by the hash of their files. Each process adds its own shards.

    `row_of` is the row of each hash in the shards one after another, in the order of their file names. `arrays` are the
    arrays of the .npz files in the same order. `records` is the latest record of each file.
    """

    def __init__(
        self, folder: Path, rank: int = 0, *, first: int | None = None, known: Mapping[str, FileRecord] | None = None
    ) -> None:
        """Read the store. With `first`, only what `rank` wrote, as a part of a job, whose parts may be many.

        `first` is then the number of the first shard of the part, and `known` has the records of its files before.
        """
        self.folder, self.rank, self.first, self.known = folder, rank, first, dict(known or {})
        self.check_owned: Callable[[], None] = lambda: None
        self.pending: list[tuple[str, tuple[int, int], Regions]] = []  # hash, width and height, regions
        self.load()

    def load(self) -> None:
        """Read the shards and records of all processes, or of a part."""
        own = "*" if self.first is None else str(self.rank)
        self.shards = sorted(self.folder.glob(f"*-{own}.npy"))
        # The shards of this part; those of an earlier job have lower numbers.
        self.num_own = sum(_number(path) >= (self.first or 0) for path in self.shards)
        parts = [_read_shard(path) for path in self.shards]
        self.arrays = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
        self.row_of = {record.hash: -1 for record in self.known.values()}
        for row, hash_ in enumerate(self.arrays.get("hash", np.zeros(0, str)).tolist()):
            self.row_of.setdefault(hash_, row)  # two processes may have read the same photograph
        lines = [line for path in self.folder.glob(f"files-{own}.jsonl") for line in _read_records(path)]
        self.records = self.known | {name: record for _, name, record in sorted(lines, key=lambda line: line[0])}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of the same rank from writing during the block. Raises InputError if one is writing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        message = f"Another process is extracting into {self.folder.parent}: wait until it ends."
        with leased(self.folder / f"lock-{self.rank}", message) as self.check_owned:
            yield

    def record(self, name: str, record: FileRecord) -> None:
        """Write the record of a file. The file is read again only if its size or time changes."""
        if self.records.get(name) == record:
            return
        self.records[name] = record
        with open(self.folder / f"files-{self.rank}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": time_ns(), "file": name, **vars(record)}) + "\n")

    def add(self, hash_: str, size: tuple[int, int], regions: Regions) -> None:
        """Add a photograph to the next shard. `size` is width and height in pixels."""
        self.pending.append((hash_, size, regions))

    def flush(self, num_regions: int) -> None:
        """Write the pending photographs as a shard, padded with zeros to `num_regions`."""
        if not self.pending:
            return
        self.check_owned()
        hashes, sizes, regions = zip(*self.pending, strict=True)
        number = self.next_number()
        if number >= MAX_SHARDS:
            raise InputError(
                f"{self.folder} has {MAX_SHARDS:,} shards, the most that a data folder may have: extract the rest into "
                "another one."
            )
        path = self.folder / f"{number:05d}-{self.rank}.npy"

        def padded(name: str, dtype: str) -> np.ndarray:
            values = [getattr(own, name) for own in regions]
            out = np.zeros((len(values), num_regions, *values[0].shape[1:]), dtype)
            with np.errstate(over="ignore"):
                for row, own in zip(out, values, strict=True):
                    row[: len(own)] = own
            return out

        features = padded("features", "<f2")
        arrays: dict[str, Any] = {
            "hash": np.array(hashes),
            "sizes": np.array(sizes, np.int32),
            "counts": np.array([len(own.boxes) for own in regions], np.int16),
            "boxes": padded("boxes", "<f4"),
            "labels": padded("labels", "<i2"),
            "scores": padded("scores", "<f2"),
        }
        save_arrays(path.with_suffix(".npz"), arrays)
        with replacing(path) as temporary, NpyWriter(temporary, features.shape, "<f2") as writer:
            writer.write_rows(features)
        self.pending, self.num_own = [], self.num_own + 1

    def next_number(self) -> int:
        """Return the number of the next shard."""
        if self.first is None:
            return max(map(_number, self.folder.glob("*.np[yz]")), default=-1) + 1
        # By what this process has seen: if a part is done twice at a time, both processes write the same shards.
        return self.first + self.num_own


def _number(shard: Path) -> int:
    return int(shard.name[:5])


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the .npz beside a shard's features. Raises InputError if either is damaged or they do not match."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
        if {len(array) for array in arrays.values()} == {len(Rows(path))}:
            return arrays
        why = "they differ in length"
    except Exception as error:  # zipfile, zlib and numpy raise anything for a damaged file
        why = str(error).rstrip(".")
    raise InputError(
        f"{path} and its .npz are not a complete shard ({why}): remove both files and run the command again, which "
        f"extracts their photographs."
    )


def _read_records(path: Path) -> Iterator[tuple[int, str, FileRecord]]:
    """Yield the time of writing, the name of the file and the record of each line."""
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            values = parse_json(line)
            yield values.pop("at"), values.pop("file"), FileRecord(**values)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # the incomplete last line of a process that was killed


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of the extraction to `settings.json` in the store's folder."""
    with replacing(folder / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
