"""The HTTP API under /v1 and the page at /, as one ASGI application."""

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from anyio import to_thread
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from regard import __version__
from regard.files import InputError
from regard.search import index as collections
from regard.web import schemas
from regard.web.access import COOKIE, has_token, may_read, session_of
from regard.web.cursors import decode_cursor, encode_cursor, stale
from regard.web.filters import condition
from regard.web.guard import Guard, failure
from regard.web.measures import Measures
from regard.web.pictures import SUFFIX_OF_TYPE, check_content_type
from regard.web.problem import Problem, documented, problem_response, validation_line
from regard.web.queries import check_query, check_words
from regard.web.service import Service
from regard.web.settings import MAX_K, MAX_OFFSET, MAX_QUERIES, MAX_SIDE, MAX_WORDS, Settings
from regard.web.shard_routes import add_shard
from regard.web.worker import ExplainJob, SearchJob

log = logging.getLogger(__name__)

PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
ItemId = Annotated[str, Path(min_length=1, max_length=1000, description="The id of a picture.")]
Sentence = Annotated[str, Query(max_length=20_000)]
Side = Annotated[int, Query(ge=16, le=MAX_SIDE)]
PICTURE: dict[str, Any] = {  # of the endpoint of an image file
    "response_class": Response,
    "responses": {
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "Not Modified"},
        **documented(401, 404, 421, 422, 503),
    },
}


def build_app(index: collections.Index, settings: Settings) -> ASGIApp:
    """Return the application. Its lifespan ends the worker, which first answers what it accepted."""
    service = Service(index, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(service.close)

    app = new_app(lifespan)
    add_reading(app, service)
    add_metrics(app, settings, service.measures)
    add_shard(app, service)
    add_writing(app, service)
    add_session(app, settings)
    add_page(app)
    return Guard(app, settings, service.measures)


def new_app(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """Return an application without endpoints, which answers errors with problem documents."""
    app = FastAPI(
        title="Regard",
        version=__version__,
        summary="Search pictures by what is in them and how it is related.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_exception_handler(HTTPException, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(InputError, _on_input)
    app.add_exception_handler(OSError, _on_store)
    app.add_exception_handler(Exception, _on_failure)
    return app


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and declared != "application/json":
        return problem_response(Problem(415, f"Content-Type: expected application/json, got {declared or 'none'!r}."))
    return problem_response(Problem(422, validation_line(error.errors())))


async def _on_input(request: Request, error: Exception) -> Response:
    return problem_response(Problem(422, str(error)))


async def _on_store(request: Request, error: Exception) -> Response:
    return problem_response(
        Problem(503, f"The collection cannot be read ({type(error).__name__}).", {"Retry-After": "5"})
    )


async def _on_failure(request: Request, error: Exception) -> Response:
    return problem_response(failure(error))


def reading_route(settings: Settings) -> dict[str, Any]:
    """Return the arguments that all endpoints that read share."""
    return {"dependencies": [may_read(settings)], "tags": ["reading"]}


def add_reading(app: FastAPI, service: Service) -> None:
    """Add the endpoints that read."""
    settings, worker = service.settings, service.worker
    reading = reading_route(settings)

    @app.post("/v1/search", **reading, responses=documented(400, 401, 408, 409, 413, 415, 421, 422, 429, 503))
    async def search(request: schemas.SearchRequest) -> schemas.SearchResponse:
        """Find the pictures that match each query best."""
        began = time.perf_counter()
        queries = tuple(check_query(query, f"queries.{place}") for place, query in enumerate(request.queries))
        where = condition(request.filters, await service.in_thread(service.exposed))
        version, fingerprint, offset = decode_cursor(request) if request.cursor else (0, "", 0)
        answers, waited = await service.answer(SearchJob(queries, request.k, offset, request.shortlist, where))
        first = answers[0]
        if request.cursor and (version, fingerprint) != (first.version, first.fingerprint):
            raise stale(version, first.version)
        end = offset + request.k
        has_more = end <= MAX_OFFSET and any(end < (answer.shortlist or answer.candidates) for answer in answers)
        return schemas.SearchResponse(
            answers=[answer.to_dict() for answer in answers],
            next=encode_cursor(request, first.version, first.fingerprint, end) if has_more else None,
            version=first.version,
            fingerprint=first.fingerprint,
            seconds={"queue": waited, **first.seconds, "total": time.perf_counter() - began},
        )

    @app.get("/v1/explain", **reading, responses=documented(401, 404, 421, 422, 429, 503))
    async def explain(
        id: Annotated[str, Query(max_length=1000)], sentence: Sentence, against: Sentence = ""
    ) -> schemas.ExplainResponse:
        """Explain the score of one picture and one sentence; with `against`, compared with another sentence."""
        began = time.perf_counter()
        if not sentence.strip():
            raise Problem(422, "sentence is empty: expected the sentence to explain.")
        check_words(sentence, "sentence")
        check_words(against, "against")
        await service.in_thread(service.find_item, id)
        explanation, seconds = await service.answer(ExplainJob(id, sentence.strip(), against.strip()))
        return schemas.ExplainResponse(explanation=explanation, **service.versioned(began, **seconds))

    @app.get("/v1/items/{id:path}/picture", **reading, **PICTURE)
    async def picture(request: Request, id: ItemId, side: Side = MAX_SIDE) -> Response:
        """Return the picture as a JPEG without metadata, scaled down to a longer side of `side` pixels."""

        def read() -> tuple[bytes, str]:
            service.find_item(id)
            path = service.index.picture(id)
            if path is None or not path.is_file():
                raise Problem(404, f"The collection has no image file of {id!r}.")
            return service.pictures.jpeg(path, side)

        data, tag = await service.in_thread(read, limiter=service.decoders)
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        return Response(data, 200, headers, "image/jpeg")

    @app.get("/v1/items/{id:path}", **reading, responses=documented(401, 404, 421, 422, 503))
    async def item(id: ItemId) -> schemas.ItemResponse:
        """Return one picture: its regions, their relations, and the exposed columns."""
        began = time.perf_counter()
        found = await service.in_thread(service.find_item, id)
        columns = found.payload | {"captions": list(found.captions), "paths": list(found.paths)}
        return schemas.ItemResponse(
            id=found.id,
            width=found.width,
            height=found.height,
            boxes=found.boxes,
            labels=found.labels,
            relations=found.relations,
            columns={name: value for name, value in columns.items() if name in settings.expose},
            **service.versioned(began),
        )

    @app.get("/v1/collection", **reading, responses=documented(401, 421, 503))
    async def collection() -> schemas.CollectionResponse:
        """Return what can be searched: the number of pictures, the exposed columns, and the limits."""
        began = time.perf_counter()
        columns = await service.in_thread(service.exposed)
        return schemas.CollectionResponse(
            items=len(service.index),
            columns=columns,
            writable=bool(settings.token),
            image_queries=True,
            limits={"k": MAX_K, "queries": MAX_QUERIES, "words": MAX_WORDS, "upload_bytes": settings.upload_bytes},
            **service.versioned(began),
        )

    @app.get("/v1/health", tags=["reading"], responses=documented(421, 503))
    async def health() -> schemas.HealthResponse:
        """Return ok if the collection can be read and the worker runs; 503 otherwise. Needs no token."""
        if not worker.is_alive:
            raise Problem(503, "The worker has ended.")
        await to_thread.run_sync(service.refresher.refresh, True)
        try:
            await to_thread.run_sync(service.index.ping)
        except InputError as error:
            log.error("no shortlists", extra={"error": str(error)})
            raise Problem(503, "The Milvus server of the shortlists cannot be used.") from None
        return schemas.HealthResponse(status="ok")


def add_metrics(app: FastAPI, settings: Settings, measures: Measures) -> None:
    """Add the endpoint that Prometheus reads."""

    @app.get(
        "/v1/metrics",
        **reading_route(settings),
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(401, 421)},
    )
    def metrics() -> Response:
        """Return the measures of the server in Prometheus' text format."""
        return Response(measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def add_writing(app: FastAPI, service: Service) -> None:
    """Add the endpoints that need the token."""
    writing: dict[str, Any] = {"dependencies": [has_token(service.settings)], "tags": ["writing"]}
    binary = {"schema": {"type": "string", "format": "binary"}}

    @app.post(
        "/v1/items",
        **writing,
        status_code=201,
        responses={
            200: {"model": schemas.ChangeResponse},
            **documented(401, 403, 408, 409, 413, 415, 421, 422, 429, 503),
        },
        openapi_extra={
            "requestBody": {"required": True, "content": dict.fromkeys(SUFFIX_OF_TYPE, binary)},
        },
    )
    async def add(request: Request, response: Response) -> schemas.ChangeResponse:
        """Add the picture that is the body of the request. 201: added; 200: it was in the collection already."""
        began = time.perf_counter()
        suffix = check_content_type(request.headers.get("content-type", ""))
        data = await request.body()  # the guard limits its size and time
        id, is_new = await to_thread.run_sync(service.writer.add, data, suffix)
        response.status_code = 201 if is_new else 200
        return schemas.ChangeResponse(id=id, changed=is_new, **service.versioned(began))

    @app.delete("/v1/items/{id:path}", **writing, responses=documented(401, 403, 404, 409, 421, 422, 429, 503))
    async def remove(id: ItemId) -> schemas.ChangeResponse:
        """Remove a picture from the collection. Its image file is deleted if it was uploaded."""
        began = time.perf_counter()
        await service.in_thread(service.find_item, id)
        await to_thread.run_sync(service.writer.remove, id)
        return schemas.ChangeResponse(id=id, changed=True, **service.versioned(began))


def add_session(app: FastAPI, settings: Settings) -> None:
    """Add the endpoint that gives a browser its cookie."""

    @app.post("/v1/session", dependencies=[has_token(settings)], tags=["writing"], responses=documented(401, 403, 421))
    def session(request: Request, response: Response) -> schemas.SessionResponse:
        """Exchange the token for a cookie with which a browser may read, but not write."""
        is_https = request.url.scheme == "https"
        value = session_of(settings.token)
        response.set_cookie(COOKIE, value, httponly=True, samesite="strict", secure=is_https, max_age=30 * 86400)
        return schemas.SessionResponse(status="ok")


def add_page(app: FastAPI) -> None:
    """Add the page at / and its files."""
    contents = {name: (files("regard.web") / "page" / name).read_bytes() for name in PAGE_FILES}
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:24]}"' for name, data in contents.items()}

    def respond(request: Request, name: str) -> Response:
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}  # a browser asks whether its copy is current
        if request.headers.get("if-none-match") == tags[name]:
            return Response(None, 304, headers)
        return Response(contents[name], 200, headers, PAGE_FILES[name])

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        return respond(request, "index.html")

    @app.get("/page/{name}", include_in_schema=False)
    def page_file(request: Request, name: str) -> Response:
        if name not in contents:
            raise Problem(404, f"There is no file {name!r} of the page.")
        return respond(request, name)
