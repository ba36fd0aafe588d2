"""The endpoints by which a front server uses an index as one shard of a collection.

They keep no state: each request names the model and the snapshot that it is about, and is refused if the index has
others now. `n` is the number that the front server gives the shard; a proxy may route by it, and any is answered here.
"""

import time
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response

from regard.search.opened import Opened
from regard.search.shards import hashes_of, ids_from, score, shortlist
from regard.web import schemas
from regard.web.access import may_read
from regard.web.filters import condition
from regard.web.problem import Problem, documented
from regard.web.queries import check_sentence_queries
from regard.web.service import Service
from regard.web.settings import MAX_IDS
from regard.web.worker import ShardJob

Number = Annotated[int, Path(ge=0, le=10**6, description="The number of the shard, from 0.")]
Snapshot = Annotated[str, Query(max_length=200, description="The snapshot that the request is about.")]


def check_snapshot(opened: Opened, n: int, snapshot: str, fingerprint: str | None = None) -> None:
    """Raise Problem if a request is about another model or another snapshot than the one that is open (409)."""
    if fingerprint is not None and fingerprint != opened.fingerprint:
        raise Problem(
            409,
            f"Shard {n} has the model with the fingerprint {opened.fingerprint}, and the request is about "
            f"{fingerprint!r}: GET /v1/shards/{n} returns the present one.",
        )
    if snapshot != opened.snapshot_id:
        raise Problem(
            409,
            f"Shard {n} has the snapshot {opened.snapshot_id}, and the request is about {snapshot!r}: "
            f"GET /v1/shards/{n} returns the present one.",
        )


def add_shard(app: FastAPI, service: Service) -> None:
    """Add the endpoints of a shard."""
    reading: dict[str, Any] = {"dependencies": [may_read(service.settings)], "tags": ["shard"]}

    def versioned(opened: Opened, began: float, **seconds: float) -> dict[str, Any]:
        seconds["total"] = time.perf_counter() - began
        version, fingerprint = opened.snapshot.version, opened.fingerprint
        return {"version": version, "fingerprint": fingerprint, "seconds": seconds}

    @app.post(
        "/v1/shards/{n}/search", **reading, responses=documented(400, 401, 408, 409, 413, 415, 421, 422, 429, 503)
    )
    async def search_shard(n: Number, request: schemas.ShardRequest) -> schemas.ShardResponse:
        """Return the best pictures of this shard by summary vectors, or the exact scores of the pictures `ids`."""
        began = time.perf_counter()
        queries = check_sentence_queries(request.queries, "a shard")
        if request.ids is not None and len(request.ids) != len(queries):
            raise Problem(422, f"ids: expected a list for each of {len(queries)} queries, got {len(request.ids)}.")
        where = condition(request.filters, await service.in_thread(service.exposed))

        def step(opened: Opened) -> tuple[Opened, int, Any, Any]:
            check_snapshot(opened, n, request.snapshot, request.fingerprint)
            if request.ids is not None:
                return opened, 0, [], score(opened, queries, request.ids, request.k)
            return opened, *shortlist(opened, queries, request.k, where), []

        (opened, candidates, shortlists, scores), seconds = await service.answer(ShardJob(step))
        return schemas.ShardResponse(
            snapshot=request.snapshot,
            candidates=candidates,
            shortlists=[schemas.ShardShortlist(**vars(part)) for part in shortlists],
            scores=[schemas.ShardScores(**vars(part)) for part in scores],
            **versioned(opened, began, **seconds),
        )

    @app.get("/v1/shards/{n}", **reading, responses=documented(401, 421, 422, 503))
    async def describe_shard(n: Number) -> schemas.ShardDescription:
        """Return the model and the snapshot of this shard, which its other requests name."""
        began = time.perf_counter()

        def read() -> tuple[Opened, str, dict[str, str]]:
            opened = service.index.opened
            return opened, opened.snapshot_id, service.exposed()

        opened, snapshot, columns = await service.in_thread(read)
        return schemas.ShardDescription(
            snapshot=snapshot,
            items=len(opened.snapshot),
            columns=columns,
            is_exact=opened.encoder.run is not None,
            **versioned(opened, began),
        )

    @app.get(
        "/v1/shards/{n}/hashes",
        **reading,
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
            **documented(401, 409, 421, 422, 503),
        },
    )
    async def shard_hashes(n: Number, snapshot: Snapshot) -> Response:
        """Return a hash of each id of this shard, as little-endian integers of 64 bits."""

        def read() -> bytes:
            opened = service.index.opened
            check_snapshot(opened, n, snapshot)
            return hashes_of(opened)

        return Response(await service.in_thread(read), media_type="application/octet-stream")

    @app.get("/v1/shards/{n}/ids", **reading, responses=documented(401, 409, 421, 422, 503))
    async def shard_ids(
        n: Number,
        snapshot: Snapshot,
        first: Annotated[int, Query(ge=0, le=2**53)] = 0,
        count: Annotated[int, Query(ge=1, le=MAX_IDS)] = MAX_IDS,
    ) -> schemas.IdsResponse:
        """Return ids of this shard from place `first`, in the order of their hashes."""
        began = time.perf_counter()

        def read() -> tuple[Opened, list[str]]:
            opened = service.index.opened
            check_snapshot(opened, n, snapshot)
            return opened, ids_from(opened, first, count)

        opened, ids = await service.in_thread(read)
        return schemas.IdsResponse(ids=ids, **versioned(opened, began))
