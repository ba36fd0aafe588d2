"""What has been extracted, in shards: `DIR/photographs/`. A shard is whole or not there, and is never changed.

00000-0.npy      float16 [photograph, region, feature]: a shard of process 0
00000-0.npz      of the same photographs: hash, sizes, counts, boxes, labels, scores
files-0.jsonl    what process 0 saw of each file, a line a file: its size and time, and its hash or what was wrong
settings.json    how it was extracted
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any
from zipfile import BadZipFile

import numpy as np

from regard.data.layout import SETTINGS
from regard.data.rows import NpyWriter, Rows
from regard.extract.extractor import Regions
from regard.files import InputError, replacing


@dataclass(frozen=True)
class FileRecord:
    """What is known of a file: as it was when it was read, and its hash, or why it could not be read."""

    bytes: int
    time: int  # of its last change, in nanoseconds
    hash: str = ""
    error: str = ""


class Store:
    """The photographs that were extracted so far, by the hash of their files; this process adds shards of its own."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder, self.rank = folder, rank
        self.waiting: list[tuple[str, tuple[int, int], Regions]] = []
        self.load()

    def load(self) -> None:
        """Read what every process has written."""
        self.shards = sorted(self.folder.glob("*.npy"))
        parts = [_arrays(path) for path in self.shards]
        self.arrays = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
        self.row_of = {hash_: row for row, hash_ in enumerate(self.arrays.get("hash", np.zeros(0, str)).tolist())}
        # Of several processes' lines of one file the latest counts.
        lines = [line for path in self.folder.glob("files-*.jsonl") for line in _lines(path)]
        self.seen = {name: seen for _, name, seen in sorted(lines, key=lambda line: line[0])}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While the block runs no other process of this rank writes here. Raises InputError if one does already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"lock-{self.rank}", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"Another process is extracting into {self.folder.parent}: wait until it ends."
                ) from None
            yield

    def saw(self, name: str, seen: FileRecord) -> None:
        """Keep what was seen of a file; it is read again only when its size or time change."""
        if self.seen.get(name) == seen:
            return
        self.seen[name] = seen
        with open(self.folder / f"files-{self.rank}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": time_ns(), "file": name, **vars(seen)}) + "\n")

    def add(self, hash_: str, size: tuple[int, int], regions: Regions) -> None:
        self.waiting.append((hash_, size, regions))

    def flush(self, num_regions: int) -> None:
        """Write what waits as a shard, padded with zeros to `num_regions`."""
        if not self.waiting:
            return
        hashes, sizes, found = zip(*self.waiting, strict=True)
        taken = [int(path.name[:5]) for path in self.folder.glob("*.np[yz]")]
        path = self.folder / f"{max(taken, default=-1) + 1:05d}-{self.rank}.npy"

        def padded(name: str, dtype: str) -> np.ndarray:
            values = [getattr(regions, name) for regions in found]
            out = np.zeros((len(values), num_regions, *values[0].shape[1:]), dtype)
            with np.errstate(over="ignore"):
                for row, own in zip(out, values, strict=True):
                    row[: len(own)] = own
            return out

        features = padded("features", "<f2")
        arrays: dict[str, Any] = {
            "hash": np.array(hashes),
            "sizes": np.array(sizes, np.int32),
            "counts": np.array([len(regions.boxes) for regions in found], np.int16),
            "boxes": padded("boxes", "<f4"),
            "labels": padded("labels", "<i2"),
            "scores": padded("scores", "<f2"),
        }
        with replacing(path.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        with replacing(path) as temporary, NpyWriter(temporary, features.shape, "<f2") as writer:
            writer.write(features)
        self.waiting = []


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """What lies beside a shard's features. Raises InputError if either file is broken, or they are not of one."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            found = dict(file)
        if len(found["hash"]) == len(Rows(path)):
            return found
        why = "they differ in length"
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        why = str(error).rstrip(".")
    raise InputError(
        f"{path} and its .npz are not a complete shard ({why}): remove both, and those are extracted again."
    )


def _lines(path: Path) -> Iterator[tuple[int, str, FileRecord]]:
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
            yield found.pop("at"), found.pop("file"), FileRecord(**found)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # the last line of a process that was killed


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    with replacing(folder / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
