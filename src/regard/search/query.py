"""Answer queries: a shortlist by summary vectors, and exact scores of the shortlist."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from regard.files import InputError
from regard.search.encoder import Encoder, Queries, Stored, nearness
from regard.search.gallery import check_scores
from regard.search.index_store import Snapshot, row_of

DEFAULT_SHORTLIST = 200
LENGTHS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # shortlists whose recall is measured
SCORED_AT_A_TIME = 1024  # pictures whose encodings are in memory
ENOUGH = 99.0  # percent of the exact top 10: an automatic shortlist is the shortest one that finds as many


@runtime_checkable
class Nearest(Protocol):
    """Another way to choose shortlists than the product in memory, such as `MilvusShortlist`."""

    def nearest(
        self, snapshot: Snapshot, vectors: Float[np.ndarray, "query dim"], count: int
    ) -> list[Int[np.ndarray, " best"]]:
        """Return about `count` rows with the largest inner products for each query, sorted."""


@dataclass(frozen=True)
class Query:
    """A sentence, or a picture of the collection."""

    sentence: str = ""
    minus: str = ""  # a sentence whose score is subtracted
    image: str = ""  # or: a picture, by its id or the path of a file, whose summary vector is compared

    @property
    def text(self) -> str:
        """The query in words, for people."""
        if self.image:
            return f"like {self.image}"
        return f"{self.sentence} (not: {self.minus})" if self.minus else self.sentence


@dataclass(frozen=True)
class SearchOptions:
    """How queries are answered. Raises InputError for a number that is out of range."""

    k: int = 10  # pictures per query
    # Pictures to score exactly. 0: all. None: the shortest shortlist with a measured recall of ENOUGH percent, or
    # DEFAULT_SHORTLIST
    shortlist: int | None = None
    where: str = ""  # SQL condition over the columns of the payload
    offset: int = 0  # of the first picture, to return page by page; with exact scores, pages end with the shortlist
    minus_weight: float = 0.5  # the score of a query with `minus` is its score minus this times the score of `minus`
    files: bool = True  # a query's picture may be the path of a file; a server must not read what clients name

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise InputError(
                f"Cannot return the {self.k} best pictures after the first {self.offset}: expected k of at least 1."
            )
        if self.shortlist is not None and self.shortlist < 0:
            raise InputError(f"A shortlist of {self.shortlist}: expected a number of pictures, or 0 for all.")


@dataclass(frozen=True)
class Hit:
    """One picture of an answer."""

    rank: int  # from 1
    id: str
    score: float
    parts: dict[str, float]  # addends of the score, by name
    gap: bool = False  # the scores fall most after this picture


@dataclass(frozen=True)
class Answer:
    """The best pictures of one query."""

    query: Query
    hits: tuple[Hit, ...]
    candidates: int  # pictures that the filter admits
    shortlist: int  # pictures scored exactly; 0: ranked by summary vectors alone
    recall: float | None  # measured percentage of the exact top 10 that a shortlist of this length finds
    version: int
    fingerprint: str
    seconds: dict[str, float]  # encode, shortlist, fetch, score: of all queries that were answered together

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return asdict(self) | {"hits": [asdict(hit) for hit in self.hits]}

    @property
    def note(self) -> str:
        """How the pictures were ranked, in one line."""
        if not self.shortlist:
            return f"{self.candidates:,} pictures ranked by summary vectors"
        if self.shortlist >= self.candidates:
            return f"{self.candidates:,} pictures, all scored exactly"
        if self.recall is None:
            return f"{self.candidates:,} pictures, shortlist {self.shortlist} (see `regard index check`)"
        return f"{self.candidates:,} pictures, shortlist {self.shortlist}: {self.recall:.1f} % of the exact top 10"


def answer_queries(
    snapshot: Snapshot,
    encoder: Encoder,
    queries: Sequence[Query],
    options: SearchOptions,
    *,
    fingerprint: str,
    nearest: Nearest | None = None,
    pictures: Mapping[str, Float[np.ndarray, " dim"]] | None = None,
    recall: dict[str, float] | None = None,
) -> list[Answer]:
    """Return the best pictures of each query. Sentences are encoded together.

    A query by a picture ranks by the cosine of summary vectors.

    Parameters
    ----------
    nearest
        Chooses the shortlists if there is no condition. Default: one exact product.
    pictures
        Summary vectors of pictures that are not in the collection, by the name in `Query.image`.
    recall
        Measured recall@10 of shortlists, in percent, by their length.

    Raises InputError for an empty query, an unknown picture, a wrong condition, and for NaN.
    """
    for query in queries:
        if bool(query.image) == bool(query.sentence.strip()):
            raise InputError("A query is empty: expected a sentence or a picture, and not both.")
    rows = snapshot.where(options.where) if options.where else np.arange(len(snapshot))
    measured = {int(length): value for length, value in (recall or {}).items()}
    # A shortlist that grew with the page would be another list: pages would repeat pictures, and miss some.
    wanted = options.k if encoder.run else options.offset + options.k
    length = _length(options.shortlist, measured, len(rows), wanted)

    clock = _Clock()
    encoded = encode_queries(encoder, queries)
    clock.lap("encode")
    asked = [encoded[query.sentence].summaries[0] for query in queries if not query.image]
    shortlists = choose_rows(snapshot, asked, rows, length, nearest)
    clock.lap("shortlist")
    needed, stored = fetch_rows(snapshot, encoder, shortlists)
    clock.lap("fetch")

    answers, remaining, end = [], iter(shortlists), options.offset + options.k
    for query in queries:
        if query.image:
            candidates, scores = _by_picture(snapshot, query.image, (pictures or {}).get(query.image), rows)
        else:
            candidates = next(remaining)
            images = stored.take(np.searchsorted(needed, candidates))
            scores, subtracted = score_query(encoder, images, query, encoded, options.minus_weight)
        check_scores(scores, snapshot.ids, candidates)
        best = np.argsort(-scores, kind="stable")[:end]
        shown, gap = best[options.offset :], largest_fall(scores[best])
        parts = {} if query.image else parts_of_query(encoder, images, query, encoded, subtracted, shown)
        hits = [
            Hit(rank + 1, snapshot.ids[candidates[place]], float(scores[place]), at_place(parts, at), rank == gap)
            for at, (rank, place) in enumerate(enumerate(shown.tolist(), options.offset))
        ]
        exact = 0 if query.image or not encoder.run else len(candidates)
        answers.append(
            Answer(
                query,
                tuple(hits),
                len(candidates) if query.image else len(rows),
                exact,
                None if options.where else measured.get(length),
                snapshot.version,
                fingerprint,
                clock.seconds,
            )
        )
    clock.lap("score")
    return answers


# The steps of an answer, which a search over shards shares ------------------------------------------------------------


def encode_queries(encoder: Encoder, queries: Sequence[Query]) -> dict[str, Queries]:
    """Return the encoding of each sentence of the queries, encoded together."""
    sentences = list({text: 0 for query in queries for text in (query.sentence, query.minus) if text})
    return dict(zip(sentences, encoder.encode_texts(sentences).split(), strict=True)) if sentences else {}


def fetch_rows(
    snapshot: Snapshot, encoder: Encoder, lists: Sequence[Int[np.ndarray, " _row"]]
) -> tuple[Int[np.ndarray, " needed"], Stored]:
    """Return the rows of all lists, sorted, and these pictures as `score` reads them."""
    needed = np.unique(np.concatenate([*lists, np.zeros(0, np.int64)]))
    return needed, encoder.stored(snapshot.summaries[needed], snapshot.fetch(needed.tolist()))


def score_query(
    encoder: Encoder, images: Stored, query: Query, encoded: Mapping[str, Queries], minus_weight: float
) -> tuple[Float[np.ndarray, " image"], Float[np.ndarray, " image"] | None]:
    """Return the scores of pictures for a query, and the addend of its `minus`; None if it has none."""
    scores = encoder.score(images, encoded[query.sentence])
    if not query.minus:
        return scores, None
    subtracted = -minus_weight * encoder.score(images, encoded[query.minus])
    return scores + subtracted, subtracted


def parts_of_query(
    encoder: Encoder,
    images: Stored,
    query: Query,
    encoded: Mapping[str, Queries],
    subtracted: Float[np.ndarray, " image"] | None,
    shown: Int[np.ndarray, " shown"],
) -> dict[str, Float[np.ndarray, " shown"]]:
    """Return the addends of the scores of the pictures at the places `shown`, by name."""
    parts = encoder.parts(images.take(shown), encoded[query.sentence])
    return parts if subtracted is None else parts | {"not": subtracted[shown]}


def at_place(parts: Mapping[str, np.ndarray], place: int) -> dict[str, float]:
    """Return the addends of the score of one picture."""
    return {name: float(values[place]) for name, values in parts.items()}


def choose_rows(
    snapshot: Snapshot,
    vectors: Sequence[Float[np.ndarray, " dim"]],
    rows: Int[np.ndarray, " row"],
    count: int,
    nearest: Nearest | None,
) -> list[Int[np.ndarray, " best"]]:
    """Return the shortlist of each query, sorted. `rows` are the candidates: all rows, unless there is a condition."""
    if nearest and vectors and count < len(rows) == len(snapshot):
        return nearest.nearest(snapshot, np.stack(vectors), count)
    return [best_rows(snapshot, vector, rows, count) for vector in vectors]


def best_rows(
    snapshot: Snapshot, vector: Float[np.ndarray, " dim"], rows: Int[np.ndarray, " row"], count: int
) -> Int[np.ndarray, " best"]:
    """Return the `count` of `rows` with the largest inner products of summary vectors with `vector`, sorted.

    Of equal products, the first rows are taken. The products of equal vectors may differ in their last bits.
    """
    if count >= len(rows):
        return rows
    scores = nearness(snapshot.summaries, vector)
    check_scores(scores, snapshot.ids)
    scores = scores if len(rows) == len(scores) else scores[rows]
    least = -np.partition(-scores, count - 1)[count - 1]
    equal = np.flatnonzero(scores == least)[: count - int((scores > least).sum())]
    return rows[np.sort(np.append(np.flatnonzero(scores > least), equal))]


def _by_picture(
    snapshot: Snapshot, id_: str, vector: Float[np.ndarray, " dim"] | None, rows: Int[np.ndarray, " row"]
) -> tuple[Int[np.ndarray, " other"], Float[np.ndarray, " other"]]:
    """The rows of other pictures, and the cosines of their summary vectors with that of one picture."""
    if vector is None:
        own = row_of(snapshot, id_)
        rows, vector = rows[rows != own], snapshot.summaries[own]
    vectors = snapshot.summaries[rows]
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    return rows, nearness(vectors, vector) / np.maximum(lengths, 1e-12)


def largest_fall(scores: Float[np.ndarray, " hit"]) -> int | None:
    """Return the place after which sorted scores fall most; None if they do not fall."""
    falls = scores[:-1] - scores[1:]
    return int(falls.argmax()) if len(falls) and falls.max() > 0 else None


def _length(shortlist: int | None, measured: dict[int, float], candidates: int, wanted: int) -> int:
    """The number of pictures to score exactly: at least as many as are wanted, at most the candidates."""
    if shortlist == 0:
        return candidates
    if shortlist is None:
        enough = [length for length, value in sorted(measured.items()) if value >= ENOUGH]
        shortlist = enough[0] if enough else DEFAULT_SHORTLIST
    return min(max(shortlist, wanted), candidates)


class _Clock:
    """Seconds of the stages of a search."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Entry the time since the last lap."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def measure_recall(
    snapshot: Snapshot,
    encoder: Encoder,
    sentences: Sequence[str],
    k: int = 10,
    nearest: Nearest | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, float]:
    """Return the percentage of the exact top `k` that shortlists find, by their length, as a mean over sentences."""
    count = len(snapshot)
    queries = encoder.encode_texts(sentences)
    exact = np.empty((len(sentences), count), np.float32)
    for rows in np.array_split(np.arange(count), max(1, count // SCORED_AT_A_TIME)):
        images = encoder.stored(snapshot.summaries[rows], snapshot.fetch(rows.tolist()))
        exact[:, rows] = encoder.score_all(images, queries)
        if progress:
            progress(int(rows[-1]) + 1, count)
    best = np.argsort(-exact, 1, kind="stable")[:, :k]
    lengths = [length for length in LENGTHS if k <= length < count] + [count]
    found = {
        length: choose_rows(snapshot, list(queries.summaries), np.arange(count), length, nearest) for length in lengths
    }
    return {
        length: round(100 * float(np.mean([np.isin(*pair).mean() for pair in zip(best, rows, strict=True)])), 2)
        for length, rows in found.items()
    }
