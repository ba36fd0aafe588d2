"""The manifest of an index, `index.json`, and the lock of its one writer.

The manifest names the vector set in use and the object store of the rows, if any. It has for each set its run, first
stage, fusion, fingerprint, and the measured recall of shortlists.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.files import InputError, parse_json, replacing

MANIFEST, LOCK, STORE = "index.json", "lock", "store"
OBJECT_STORES = ("s3://", "gs://", "az://")
SETTINGS = {"run", "model", "first", "fusion", "fingerprint"}  # of each vector set
FORMAT = 1
WAIT = 10.0  # seconds that a writer waits for another one


def is_index(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder contains an index."""
    return (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an index. Raises InputError if there is none, or if it is damaged or of another format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} is not an index: it has no {MANIFEST}. `regard index RUN SOURCE` creates one.")
    try:
        manifest: dict[str, Any] = parse_json(path.read_text("utf-8"))
        manifest["sets"][manifest["using"]]
        for name, entry in manifest["sets"].items():
            if absent := SETTINGS - entry.keys():
                raise KeyError(f"{name} without {', '.join(sorted(absent))}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): restore a backup of the index.") from None
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {manifest.get('format')}, expected {FORMAT}: use the version that wrote it."
        )
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of an index, whole or not at all."""
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def writing(folder: Path, wait: float = WAIT) -> Iterator[None]:
    """Be the only writer of an index during the block.

    Raises InputError if another process writes for longer than `wait` seconds. The lock ends with its process.
    """
    deadline = time.monotonic() + wait
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    owner = file.read().strip() or "unknown"
                    raise InputError(f"Process {owner} is writing to {folder}: wait until it ends.") from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_address(store: str) -> str:
    """Return the address of an object store. Raises InputError if it is none."""
    if not store.startswith(OBJECT_STORES) or not store.partition("://")[2].strip("/"):
        raise InputError(f"The store {store!r} is no address: expected one such as s3://bucket/pictures.")
    return store


def store_of(folder: Path) -> Path | str:
    """Return where the rows of an index are: a folder in it, or the address of an object store."""
    return read_manifest(folder).get("store") or folder / STORE


def copy_index(source: Path, target: Path) -> None:
    """Copy an index to a new folder. Raises InputError if the folder exists, or the rows are in an object store."""
    if target.exists():
        raise InputError(f"{target} exists: expected a new folder.")
    if not isinstance(place := store_of(source), Path):
        raise InputError(f"The rows of {source} are at {place}: copy them with the tools of the object store.")
    with replacing(target) as temporary:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(LOCK))
