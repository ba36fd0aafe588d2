"""A front server: the HTTP API and the page of a collection whose pictures are in several indexes, each with a server.

It holds no index. A search asks all shards for their best pictures by summary vectors, keeps the best of all, has these
scored exactly by the shards that contain them, and merges the scores (`regard.search.shards`). What concerns one
picture is sent to the shard that contains it. A shard that does not answer is named in `partial` of each answer.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from prometheus_client import Gauge
from starlette.types import ASGIApp

from regard.search import index as collections
from regard.search.query import DEFAULT_SHORTLIST
from regard.search.shards import ScoredPart, ShortlistPart, merge_scores, merge_shortlists
from regard.web import schemas
from regard.web.access import has_token
from regard.web.cluster import RETRY, Cluster, Shard, ShardChanged, ShardFault
from regard.web.cursors import decode_cursor, encode_cursor
from regard.web.guard import Guard
from regard.web.measures import Measures
from regard.web.problem import Problem, documented
from regard.web.queries import check_sentence_queries
from regard.web.server import (
    PICTURE,
    ItemId,
    Sentence,
    Side,
    add_metrics,
    add_page,
    add_session,
    new_app,
    reading_route,
)
from regard.web.settings import MAX_K, MAX_OFFSET, MAX_QUERIES, MAX_SHORTLIST, MAX_SIDE, MAX_WORDS, Settings

TRIES = 3  # of a search during which a shard changes
KEPT = ("content-type", "etag", "cache-control", "retry-after")  # headers of a shard's answer that are passed on


def build_front(cluster: Cluster, settings: Settings) -> ASGIApp:
    """Return the application, which looks at the shards as long as it runs."""
    measures = Measures()
    measures.items.set_function(lambda: _items(cluster))
    measures.version.set_function(lambda: _version(cluster.used))
    missing = Gauge("regard_missing_shards", "Shards that do not answer.", registry=measures.registry)
    missing.set_function(lambda: len(cluster.shards) - len(cluster.used))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with cluster.connected():
            watching = asyncio.create_task(cluster.watch())
            yield
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    app = new_app(lifespan)
    add_merged_reading(app, cluster, settings)
    add_metrics(app, settings, measures)
    add_refusals(app, settings)
    add_session(app, settings)
    add_page(app)
    return Guard(app, settings, measures)


async def search_shards(
    cluster: Cluster, request: schemas.SearchRequest, queries: list[collections.Query], began: float
) -> schemas.MergedResponse:
    """Return the answers of all shards as one. Raises Problem if none answers (503), and ShardChanged."""
    _, digest, offset = decode_cursor(request) if request.cursor else (0, "", 0)
    wanted = offset + request.k
    # As in `answer_queries`, pages end with the shortlist, if a run scores it.
    grown = request.k if all(shard.known.is_exact for shard in cluster.used) else wanted
    length = max(DEFAULT_SHORTLIST if request.shortlist is None else request.shortlist, grown)
    length = MAX_SHORTLIST if request.shortlist == 0 else min(length, MAX_SHORTLIST)
    body = request.model_dump(include={"queries", "filters"})
    seconds, lap = dict[str, float](), time.perf_counter()
    faults = cluster.faults
    found, failed = await cluster.search(cluster.used, lambda shard: body | {"k": length})
    faults |= failed
    seconds["shortlist"] = time.perf_counter() - lap
    while True:
        if not found:
            reasons = "; ".join(f"shard {number}: {fault}" for number, fault in sorted(faults.items()))
            raise Problem(503, f"No shard answers ({reasons}).", RETRY)
        candidates = sum(answer.candidates for answer in found.values())
        if request.shortlist == 0 and candidates > MAX_SHORTLIST:
            raise Problem(
                422,
                f"shortlist: 0 scores all of {candidates:,} pictures. Over shards, expected at most {MAX_SHORTLIST:,}: "
                "give a filter, or the length of a shortlist.",
            )
        chosen = [
            merge_shortlists(
                {shard: ShortlistPart(**vars(answer.shortlists[place])) for shard, answer in found.items()}, length
            )
            for place in range(len(queries))
        ]
        asked = [shard for shard in cluster.shards if any(shard.number in own for own in chosen)]

        def scoring(
            shard: Shard,
            found: dict[int, schemas.ShardResponse] = found,
            chosen: list[dict[int, list[str]]] = chosen,
        ) -> dict[str, Any]:
            return {
                "snapshot": found[shard.number].snapshot,  # which may have been replaced since
                "queries": body["queries"],
                "ids": [own.get(shard.number, []) for own in chosen],
                "k": min(wanted, MAX_SHORTLIST),
            }

        lap = time.perf_counter()
        scored, lost = await cluster.search(asked, scoring)
        seconds["score"] = seconds.get("score", 0.0) + time.perf_counter() - lap
        if not lost:
            break
        faults |= lost
        found = {shard: answer for shard, answer in found.items() if shard not in lost}  # choose from the others

    shards = [shard for shard in cluster.shards if shard.number in found]
    snapshots, total = _digest(shards, found), sum(answer.version for answer in found.values())
    if request.cursor and digest != snapshots:
        raise Problem(409, "cursor: shards have changed, or other ones answer now. Search again without a cursor.")
    fingerprint = next(iter(found.values())).fingerprint
    answers = []
    for place, query in enumerate(queries):
        parts = {shard: ScoredPart(**vars(answer.scores[place])) for shard, answer in scored.items()}
        hits = merge_scores(chosen[place], parts, request.k, offset)
        exact = sum(map(len, chosen[place].values())) if all(shard.known.is_exact for shard in shards) else 0
        answers.append(collections.Answer(query, hits, candidates, exact, None, total, fingerprint, seconds))
    has_more = wanted <= MAX_OFFSET and any(wanted < (answer.shortlist or answer.candidates) for answer in answers)
    return schemas.MergedResponse(
        answers=[answer.to_dict() for answer in answers],
        next=encode_cursor(request, total, snapshots, wanted) if has_more else None,
        version=total,
        fingerprint=fingerprint,
        seconds={**seconds, "total": time.perf_counter() - began},
        partial=_partial(faults),
    )


def add_merged_reading(app: FastAPI, cluster: Cluster, settings: Settings) -> None:
    """Add the endpoints that read."""
    reading = reading_route(settings)

    @app.post("/v1/search", **reading, responses=documented(400, 401, 408, 409, 413, 415, 421, 422, 429, 503))
    async def search(request: schemas.SearchRequest) -> schemas.MergedResponse:
        """Find the pictures that match each query best, in all shards. `partial` names the shards that are missing."""
        began = time.perf_counter()
        queries = check_sentence_queries(request.queries, "a search over shards")
        for _ in range(TRIES):
            try:
                return await search_shards(cluster, request, queries, began)
            except ShardChanged:
                continue  # with the snapshots that the shards have now
        raise Problem(503, "The collection keeps changing: try again.", RETRY)

    async def forward(request: Request, id_: str) -> Response:
        """Answer with what the shard answers that contains a picture."""
        shard = cluster.owner(id_)
        target = request.scope["raw_path"].decode("ascii")
        if request.url.query:
            target += f"?{request.url.query}"
        known = request.headers.get("if-none-match")
        try:
            answer = await cluster.send(shard, "GET", target, headers={"If-None-Match": known} if known else None)
        except ShardFault as fault:
            raise Problem(503, f"Shard {shard.number} has {id_!r}, and is missing: {fault}.", RETRY) from None
        if answer.status_code in (401, 403, 421):  # what the client may read, this server has decided
            raise Problem(503, f"Shard {shard.number} has {id_!r}, and answers {answer.status_code}.", RETRY)
        headers = {name: value for name, value in answer.headers.items() if name in KEPT}
        return Response(answer.content, answer.status_code, headers)

    @app.get(
        "/v1/explain",
        **reading,
        response_model=schemas.ExplainResponse,
        responses=documented(401, 404, 421, 422, 429, 503),
    )
    async def explain(
        request: Request, id: Annotated[str, Query(max_length=1000)], sentence: Sentence, against: Sentence = ""
    ) -> Response:
        """Explain the score of one picture and one sentence; with `against`, compared with another sentence."""
        return await forward(request, id)

    @app.get("/v1/items/{id:path}/picture", **reading, **PICTURE)
    async def picture(request: Request, id: ItemId, side: Side = MAX_SIDE) -> Response:
        """Return the picture as a JPEG without metadata, scaled down to a longer side of `side` pixels."""
        return await forward(request, id)

    @app.get(
        "/v1/items/{id:path}",
        **reading,
        response_model=schemas.ItemResponse,
        responses=documented(401, 404, 421, 422, 503),
    )
    async def item(request: Request, id: ItemId) -> Response:
        """Return one picture: its regions, their relations, and the exposed columns."""
        return await forward(request, id)

    @app.get("/v1/collection", **reading, responses=documented(401, 421, 503))
    async def collection() -> schemas.CollectionResponse:
        """Return what can be searched: the pictures of the shards that answer, the columns of all, and the limits."""
        began, used = time.perf_counter(), cluster.used
        if not used:
            raise Problem(503, "No shard answers.", RETRY)
        columns = [shard.known.columns for shard in used]
        shared = {name: kind for name, kind in columns[0].items() if all(own.get(name) == kind for own in columns)}
        return schemas.CollectionResponse(
            items=_items(cluster),
            columns=shared,
            writable=False,
            image_queries=False,
            limits={"k": MAX_K, "queries": MAX_QUERIES, "words": MAX_WORDS, "upload_bytes": 0},
            version=_version(used),
            fingerprint=used[0].known.fingerprint,
            seconds={"total": time.perf_counter() - began},
        )

    @app.get("/v1/health", tags=["reading"], responses=documented(421, 503))
    async def health() -> schemas.MergedHealth:
        """Return ok if all shards answer, and partial if some do; 503 if none does. Needs no token."""
        if not cluster.used:
            raise Problem(503, "No shard answers.", RETRY)
        partial = _partial(cluster.faults)
        return schemas.MergedHealth(status="partial" if partial else "ok", partial=partial)


def add_refusals(app: FastAPI, settings: Settings) -> None:
    """Add the endpoints of one index that a front server does not have: they say so."""
    writing: dict[str, Any] = {"dependencies": [has_token(settings)], "include_in_schema": False}

    @app.post("/v1/items", **writing)
    def add() -> Response:
        raise Problem(501, "A front server adds no pictures: send the request to the server of a shard.")

    @app.delete("/v1/items/{id:path}", **writing)
    def remove(id: ItemId) -> Response:
        raise Problem(501, "A front server removes no pictures: send the request to the server of the shard.")


def _partial(faults: dict[int, str]) -> list[schemas.MissingShard]:
    return [schemas.MissingShard(shard=number, reason=fault) for number, fault in sorted(faults.items())]


def _items(cluster: Cluster) -> int:
    return sum(shard.known.items for shard in cluster.used)


def _version(shards: list[Shard]) -> int:
    """The sum of the versions: it grows with each change of a shard."""
    return sum(shard.known.version for shard in shards)


def _digest(shards: list[Shard], found: dict[int, schemas.ShardResponse]) -> str:
    """A hash of which shards answered, and with which snapshots."""
    told = " ".join(f"{shard.number}:{found[shard.number].snapshot}" for shard in shards)
    return hashlib.sha256(told.encode()).hexdigest()[:24]
