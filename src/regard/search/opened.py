"""What a search reads of an index: one version of one vector set."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from regard.search.encoder import Encoder
from regard.search.index_store import Snapshot
from regard.search.query import Nearest
from regard.search.source import Source


@dataclass(frozen=True)
class Opened:
    """One version of one vector set, with what encodes and scores. It does not change while the index does."""

    name: str
    entry: dict[str, Any]  # of the manifest
    snapshot: Snapshot
    encoder: Encoder
    sentences: Snapshot | None  # None if the index has none
    nearest: Nearest | None  # chooses shortlists in place of the product in memory
    sources: dict[tuple[str, str], Source] = field(default_factory=dict)  # opened to explain, by folder and split

    @property
    def fingerprint(self) -> str:
        """The fingerprint of what encoded the pictures."""
        return str(self.entry["fingerprint"])

    @cached_property
    def snapshot_id(self) -> str:
        """A hash of the vector set, its version, and the keys and ids of its pictures, in their order."""
        parts = (self.name, str(self.snapshot.version), *self.snapshot.keys, *self.snapshot.ids)
        return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
