"""What a source changes in an index: which pictures are new, have other links, or are no longer there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from regard.encode import BATCH
from regard.files import InputError
from regard.search.encoder import Encoder
from regard.search.entries import Entry, Link
from regard.search.index_store import IndexStore, Snapshot
from regard.search.source import Payload, Source, content_keys, contents_of


@runtime_checkable
class ImageEncoder(Protocol):
    """What computes the vectors of pictures: an Encoder, or what has computed them before."""

    def encode_images(self, source: Source, rows: np.ndarray) -> tuple[Float[np.ndarray, "image dim"], list[bytes]]:
        """Return the summary vectors and the packed encodings of pictures of a source, of at most BATCH."""


@dataclass
class ChangeReport:
    """What a change of an index did, in pictures."""

    added: int = 0
    relinked: int = 0  # known pictures with new ids or paths
    unchanged: int = 0
    removed: int = 0
    unreadable: list[str] = field(default_factory=list)  # photographs that were skipped
    version: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A change of an index, which is carried out in one transaction."""

    snapshot: Snapshot
    new: dict[Source, list[int]]  # rows of the pictures to add
    links: dict[str, tuple[Link, ...]]  # of the new pictures, by key
    keys: dict[Source, list[str]]  # of all pictures of a source
    relinked: dict[int, tuple[Link, ...]]  # the new links of rows of the index
    removed: list[str]  # keys
    unchanged: int

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        sources: Sequence[Source],
        prefix: str = "",
        mirror: bool = False,
        unreadable: Sequence[str] = (),
    ) -> "Plan":
        """Compare sources with an index.

        Ids get the `prefix`. With `mirror`, links of these sources that are no longer in them are removed, except those
        that are `unreadable` at present: ids, or folders that end in "/". Raises InputError if an id belongs to another
        picture of another source, or to two pictures of these.
        """
        keys = {source: content_keys(source.split) for source in sources}
        found: dict[str, list[Link]] = {}  # the links in the sources, by key
        new: dict[Source, list[int]] = {source: [] for source in sources}
        known = {key: row for row, key in enumerate(snapshot.keys)}
        for source in sources:
            for row, (key, name) in enumerate(zip(keys[source], map(str, source.split.ids), strict=True)):
                path = source.photograph(row)
                link = Link(prefix + name, name, str(path or ""), str(source.folder), source.name)
                if key not in known and key not in found:
                    new[source].append(row)
                found.setdefault(key, []).append(link)
        ids: dict[str, str] = {}
        for key, own in found.items():
            for link in own:
                if ids.setdefault(link.id, key) != key:
                    raise InputError(
                        f"The id {link.id} is two different pictures of {link.source}: add its splits one by one, with "
                        "--split and --prefix."
                    )
        ours = {(str(source.folder), source.name) for source in sources}
        skipped = tuple(prefix + name for name in unreadable)

        def stays(link: Link, key: str) -> bool:
            """Whether a link of the index stays, because the sources say nothing else about it."""
            if (link.source, link.split) not in ours and link.source not in {folder for folder, _ in ours}:
                if ids.get(link.id, key) != key:
                    raise InputError(
                        f"The id {link.id} is another picture of {link.source}: give a prefix for the ids, such as "
                        f"--prefix {sources[0].folder.name}/."
                    )
                return link.id not in ids
            if link.id in ids:
                return False  # it is among the links that were found, perhaps with another content
            is_skipped = link.id in skipped or link.id.startswith(tuple(name for name in skipped if name[-1:] == "/"))
            return not mirror or is_skipped or (link.source, link.split) not in ours

        relinked, removed, unchanged = {}, [], 0
        for row, (key, before) in enumerate(zip(snapshot.keys, snapshot.links(), strict=True)):
            after = tuple(dict.fromkeys([link for link in before if stays(link, key)] + found.get(key, [])))
            if set(after) == set(before):
                unchanged += key in found
            elif after:
                relinked[row] = after
            else:
                removed.append(key)
        links = {key: tuple(own) for key, own in found.items() if key not in known}
        return cls(snapshot, new, links, keys, relinked, removed, unchanged)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (any(self.new.values()) or self.relinked or self.removed)

    def carry_out(
        self, store: IndexStore, encoder: ImageEncoder, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Change a store, in one transaction."""
        present = self.snapshot.payload_types()
        payloads = {source: Payload(source, present) for source in self.new}
        types = {name: kind for payload in payloads.values() for name, kind in payload.types.items()}
        store.put(self.records(encoder, payloads, progress), types, self.removed)

    def records(
        self, encoder: ImageEncoder, payloads: dict[Source, Payload], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Entry]:
        """Yield the new pictures, encoded in batches, and the relinked ones with the vectors that they have."""
        total, done = sum(map(len, self.new.values())), 0
        for source, rows in self.new.items():
            for first in range(0, len(rows), BATCH):
                batch = np.array(rows[first : first + BATCH])
                keys = [self.keys[source][row] for row in batch]
                vectors, contents = encoder.encode_images(source, batch), contents_of(source.split, batch)
                for row, key, summary, encoding, content in zip(batch, keys, *vectors, contents, strict=True):
                    payload = payloads[source].of(int(row), content)
                    yield Entry(key, self.links[key], summary, encoding, content, payload)
                done += len(batch)
                if progress:
                    progress(done, total)
        rows = list(self.relinked)
        for first in range(0, len(rows), BATCH):
            batch_rows = rows[first : first + BATCH]
            old = zip(batch_rows, self.snapshot.records(batch_rows), self.snapshot.fetch(batch_rows), strict=True)
            for row, record, encoding in old:
                yield replace(record, links=self.relinked[row], encoding=encoding)


def encode_again(
    encoder: Encoder, snapshot: Snapshot, rows: Sequence[int], progress: Callable[[int, int], None] | None = None
) -> Iterator[list[Entry]]:
    """Yield batches of pictures of an index, encoded by another encoder from the sources that they were added from.

    Raises InputError if a source is gone.
    """
    links = snapshot.links()
    by_source: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        link = next((link for link in links[row] if Path(link.source).is_dir()), links[row][0])
        by_source.setdefault((link.source, link.split), []).append(row)
    done = 0
    for (folder, split), own in by_source.items():
        if not Path(folder).is_dir():
            raise InputError(f"{len(own):,} pictures were added from {folder}, which is no longer there.")
        source = Source(Path(folder), split, encoder.run)
        encoder.check(source)
        place = source.row_of
        names = {
            row: next(link.name for link in links[row] if (link.source, link.split) == (folder, split)) for row in own
        }
        if gone := [name for name in names.values() if name not in place]:
            raise InputError(f"{folder} no longer contains {gone[0]}: `regard index sync` updates the index.")
        for first in range(0, len(own), BATCH):
            batch = own[first : first + BATCH]
            vectors = encoder.encode_images(source, np.array([place[names[row]] for row in batch]))
            old = snapshot.records(batch)
            yield [
                replace(record, summary=summary, encoding=encoding)
                for record, summary, encoding in zip(old, *vectors, strict=True)
            ]
            done += len(batch)
            if progress:
                progress(done, len(rows))
