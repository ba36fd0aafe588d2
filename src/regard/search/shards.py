"""A collection in several indexes: what each computes for a search, and how their results are merged to one.

A search over shards has two steps. Each shard returns its best pictures by summary vectors (`shortlist`), of which the
best of all shards are kept (`merge_shortlists`). These are scored exactly by the shards that contain them (`score`),
and the scores are merged (`merge_scores`). The answer is that of one index of all pictures, in the order of the shards.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.search.encoder import nearness
from regard.search.gallery import check_scores
from regard.search.index_store import row_of
from regard.search.opened import Opened
from regard.search.query import (
    Hit,
    Query,
    SearchOptions,
    at_place,
    choose_rows,
    encode_queries,
    fetch_rows,
    largest_fall,
    parts_of_query,
    score_query,
)


@dataclass(frozen=True)
class ShortlistPart:
    """The best pictures of one shard by summary vectors, for one query, in the order of its rows."""

    ids: Sequence[str]
    keys: Sequence[str]  # hashes of the contents
    summaries: Sequence[float]  # scores by summary vectors


@dataclass(frozen=True)
class ScoredPart:
    """The exact scores of pictures of one shard, for one query, in the order in which they were given."""

    scores: Sequence[float]
    parts: Mapping[str, Mapping[str, float]]  # the addends of the scores of the best pictures, by id


def shortlist(opened: Opened, queries: Sequence[Query], k: int, where: str = "") -> tuple[int, list[ShortlistPart]]:
    """Return the number of pictures that a condition admits, and the `k` best of them for each sentence.

    Raises InputError for an empty sentence, a wrong condition, and for NaN.
    """
    snapshot = opened.snapshot
    rows = snapshot.where(where) if where else np.arange(len(snapshot))
    encoded = encode_queries(opened.encoder, queries)
    vectors = [encoded[query.sentence].summaries[0] for query in queries]
    chosen = choose_rows(snapshot, vectors, rows, min(k, len(rows)), opened.nearest)
    found = []
    for own, vector in zip(chosen, vectors, strict=True):
        scores = nearness(snapshot.summaries[own], vector)
        check_scores(scores, snapshot.ids, own)
        ids, keys = ([names[row] for row in own.tolist()] for names in (snapshot.ids, snapshot.keys))
        found.append(ShortlistPart(ids, keys, scores.tolist()))
    return len(rows), found


def score(opened: Opened, queries: Sequence[Query], ids: Sequence[Sequence[str]], k: int) -> list[ScoredPart]:
    """Return the exact scores of the pictures `ids` of each query, with the addends of the `k` best.

    Raises InputError for an unknown id, and for NaN.
    """
    snapshot, encoder = opened.snapshot, opened.encoder
    lists = [np.array([row_of(snapshot, id_) for id_ in own], np.int64) for own in ids]
    encoded = encode_queries(encoder, queries)
    needed, stored = fetch_rows(snapshot, encoder, lists)
    found = []
    for query, rows, own in zip(queries, lists, ids, strict=True):
        images = stored.take(np.searchsorted(needed, rows))
        scores, subtracted = score_query(encoder, images, query, encoded, SearchOptions.minus_weight)
        check_scores(scores, snapshot.ids, rows)
        best = np.argsort(-scores, kind="stable")[:k]
        parts = parts_of_query(encoder, images, query, encoded, subtracted, best)
        by_id = {own[place]: at_place(parts, at) for at, place in enumerate(best.tolist())}
        found.append(ScoredPart(scores.tolist(), by_id))
    return found


def merge_shortlists(found: Mapping[int, ShortlistPart], count: int) -> dict[int, list[str]]:
    """Return the ids of the `count` best pictures of all shards, by the number of the shard that contains them.

    The ids of a shard stay in the order of its rows. Of equal scores, the first shards and rows are taken, as one index
    does. A picture that several shards contain under different ids is taken from the first of them.
    """
    places, seen = list[tuple[int, int]](), set[str]()
    for shard, part in sorted(found.items()):
        for place, key in enumerate(part.keys):
            if key not in seen:
                seen.add(key)
                places.append((shard, place))
    best = sorted(places, key=lambda at: -found[at[0]].summaries[at[1]])[:count]
    chosen: dict[int, list[str]] = {}
    for shard, place in sorted(best):
        chosen.setdefault(shard, []).append(found[shard].ids[place])
    return chosen


def merge_scores(
    chosen: Mapping[int, Sequence[str]], scored: Mapping[int, ScoredPart], k: int, offset: int = 0
) -> tuple[Hit, ...]:
    """Return the `k` best pictures after the first `offset`, from the scores of `chosen`, which `score` returned.

    Of equal scores, the first shards and rows come first, as in one index.
    """
    shards = [shard for shard in sorted(chosen) for _ in chosen[shard]]
    ids = [id_ for shard in sorted(chosen) for id_ in chosen[shard]]
    scores = np.array([value for shard in sorted(chosen) for value in scored[shard].scores])
    best = np.argsort(-scores, kind="stable")[: offset + k]
    gap = largest_fall(scores[best])
    return tuple(
        Hit(rank + 1, ids[place], float(scores[place]), dict(scored[shards[place]].parts[ids[place]]), rank == gap)
        for rank, place in enumerate(best.tolist())
        if rank >= offset
    )


# Ids ------------------------------------------------------------------------------------------------------------------


def hash_of_id(id_: str) -> int:
    """Return a hash of an id in 64 bits, by which shards are compared without sending their ids."""
    return int.from_bytes(hashlib.blake2b(id_.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def hashes_of(opened: Opened) -> bytes:
    """Return the hashes of all ids of a shard as little-endian integers, in the order of `ids_from`."""
    return np.fromiter(map(hash_of_id, opened.snapshot.row_of), "<u8").tobytes()


def ids_from(opened: Opened, first: int, count: int) -> list[str]:
    """Return up to `count` ids of a shard from place `first`. A picture with several ids has several places."""
    return list(opened.snapshot.row_of)[first : first + count]


class IdTable:
    """The hashes of the ids of one shard, sorted: 16 bytes per id."""

    def __init__(self, hashes: bytes) -> None:
        unsorted = np.frombuffer(hashes, "<u8")
        self._places: Any = np.argsort(unsorted, kind="stable")
        self._sorted: Any = unsorted[self._places]

    def __len__(self) -> int:
        return len(self._sorted)

    def place(self, hash_: int) -> int | None:
        """Return the place of the id with a hash; None if there is none."""
        at = int(np.searchsorted(self._sorted, np.uint64(hash_)))
        is_there = at < len(self._sorted) and int(self._sorted[at]) == hash_
        return int(self._places[at]) if is_there else None

    def common(self, other: "IdTable") -> list[int]:
        """Return the hashes that both tables have."""
        return np.intersect1d(self._sorted, other._sorted).tolist()
