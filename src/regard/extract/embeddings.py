"""One vector per photograph of an embedding model, stored in a data folder: `regard extract --embeddings NAME`.

{split}_embeddings_NAME.safetensors   the vectors of a split, in the order of its images (`Split.with_embeddings`)
embeddings_NAME.safetensors           the vectors of all photographs by the hash of their files, so that none is encoded
                                      twice if splits change or the work was interrupted
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from regard.batch import Batch, Vectors
from regard.data import Split
from regard.data.ids import match_ids, show_ids
from regard.data.layout import Files, check_splits, data_folder
from regard.data.split import embeddings_file
from regard.files import InputError, Stopped
from regard.models.zero_shot import ZeroShot
from regard.photographs import decode_photograph, list_photographs

BATCH = 32  # photographs per pass
SIDE = 1024  # larger photographs are scaled down while they are decoded
SAVED = 4096  # photographs after which the vectors are saved


@dataclass(frozen=True)
class HashedVectors(Batch):
    """Vectors of photographs by the hash of their files."""

    hashes: UInt8[Tensor, "photograph 16"]
    vectors: Float[Tensor, "photograph dim"]


def embed_photographs(
    photographs: Path,
    folder: Path,
    model: ZeroShot,
    *,
    progress: Callable[[int, int], None] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Store the vectors of an embedding model for the photographs of a data folder, of any layout.

    Photographs are matched to the ids of the images (`match_ids`). A split of which `photographs` has none is left out;
    the number of images of each other split is returned. `progress(done, total)` is called after each photograph.
    Raises InputError if a split has only some of its photographs, and if no split has any. Raises Stopped once
    `is_stopped` returns True, after saving what was computed.
    """
    names, folder = list_photographs(photographs), data_folder(folder)
    files_of: dict[str, list[Path]] = {}
    for split in check_splits(folder):
        ids = list(Split.open(folder, split).ids)
        matches = match_ids(ids, names)
        missing = [id_ for id_ in ids if id_ not in matches]
        if matches and missing:
            raise InputError(
                f"{photographs} has no photographs of {len(missing):,} of {len(ids):,} images of {folder} {split}, "
                f"such as {show_ids(missing)}: expected all, or none."
            )
        if matches:
            files_of[split] = [photographs / matches[id_] for id_ in ids]
    if not files_of:
        raise InputError(f"{photographs} contains {show_ids(names)}, and no photograph of an image of {folder}.")
    cache = _Cache(folder / embeddings_file(model.name), model.fingerprint)
    total, done = sum(map(len, files_of.values())), 0
    for split, files in files_of.items():
        hashes = []
        for hash_ in cache.add(files, model, is_stopped):
            hashes.append(hash_)
            done += 1
            if progress:
                progress(done, total)
        path = Files(folder, split).path(embeddings_file(model.name))
        Vectors(torch.stack([cache.vectors[hash_] for hash_ in hashes])).save(path, model.fingerprint)
    return {split: len(files) for split, files in files_of.items()}


class _Cache:
    """The vectors of photographs by hash, in a file."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.vectors: dict[bytes, Tensor] = {}
        try:
            stored = HashedVectors.load(path, fingerprint)
        except InputError:  # absent, damaged, or of another model: it is made anew
            return
        self.vectors = dict(zip(map(bytes, stored.hashes.numpy()), stored.vectors, strict=True))

    def save(self) -> None:
        """Write the file."""
        hashes = np.frombuffer(b"".join(self.vectors), np.uint8).reshape(-1, 16).copy()
        HashedVectors(torch.from_numpy(hashes), torch.stack(list(self.vectors.values()))).save(
            self.path, self.fingerprint
        )

    def add(self, files: Sequence[Path], model: ZeroShot, is_stopped: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the hash of each file, whose vector is stored by then. Raises Stopped, and saves before."""
        unsaved = 0
        for first in range(0, len(files), BATCH):
            if is_stopped():
                if unsaved:
                    self.save()
                raise Stopped(f"Stopped. The vectors until now are kept in {self.path}; run the same command again.")
            contents = [path.read_bytes() for path in files[first : first + BATCH]]
            hashes = [hashlib.blake2b(content, digest_size=16).digest() for content in contents]
            new = {
                hash_: decode_photograph(str(path), content, SIDE)[0]
                for path, content, hash_ in zip(files[first : first + BATCH], contents, hashes, strict=True)
                if hash_ not in self.vectors
            }
            if new:
                self.vectors |= zip(new, torch.from_numpy(model.encode_photographs(list(new.values()))), strict=True)
                unsaved += len(new)
            if unsaved >= SAVED:
                self.save()
                unsaved = 0
            yield from hashes
        if unsaved:
            self.save()
