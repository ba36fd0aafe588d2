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

    @property
    def recall(self) -> dict[str, float] | None:
        """The measured recall of shortlists by their length; None if the collection has changed by a tenth since."""
        measured_on = self.entry.get("measured_on", 0)
        is_current = 0.9 * measured_on <= len(self.snapshot) <= 1.1 * measured_on
        return self.entry.get("recall") if is_current else None

    def difference(self, other: "Opened") -> str:
        """Return in how many pictures another vector set differs, or how many sentences it lacks; empty if in none."""
        if pictures := len(set(self.snapshot.keys) ^ set(other.snapshot.keys)):
            return f"{pictures:,} pictures"
        own, others = (set(each.sentences.keys if each.sentences is not None else ()) for each in (self, other))
        return f"{len(own - others):,} sentences" if own - others else ""

    @cached_property
    def snapshot_id(self) -> str:
        """A hash of the vector set, its version, and the keys and ids of its pictures, in their order."""
        parts = (self.name, str(self.snapshot.version), *self.snapshot.keys, *self.snapshot.ids)
        return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
