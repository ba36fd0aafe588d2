"""Around every request: the Host header, the size of the body and the time for it, headers, measures and the log."""

import asyncio
import json
import logging
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regard.web.measures import Measures
from regard.web.problem import Problem, problem_response
from regard.web.settings import LOOPBACK_NAMES, Settings

log = logging.getLogger(__name__)

UPLOADS, SHARDS = "/v1/items", "/v1/shards/"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, settings: Settings, measures: Measures) -> None:
        self.app, self.settings, self.measures = app, settings, measures
        self.hosts = {*LOOPBACK_NAMES, settings.host} if settings.is_loopback else set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            try:
                self._check_head(scope)
                await self.app(scope, self._limited(scope, receive), send_guarded)
            except Problem as problem:
                await problem_response(problem)(scope, receive, send_guarded)
        except Exception as error:
            log.error("failed", extra={"error": traceback.format_exc()})
            if not status:
                await problem_response(failure(error))(scope, receive, send_guarded)
        finally:
            seconds, route = time.perf_counter() - began, getattr(scope.get("route"), "path", "other")
            self.measures.requests.labels(scope["method"], route, str(status)).inc()
            self.measures.seconds.labels(route).observe(seconds)
            # The path without its query: sentences are private.
            fields = {"method": scope["method"], "path": scope["path"], "status": status}
            log.info("request", extra={**fields, "ms": round(seconds * 1000, 1)})

    def _check_head(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        # A page of another site can make its name resolve to 127.0.0.1, but it cannot change the Host header.
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts and name.lower() not in self.hosts:
            raise Problem(
                421, f"The host {host!r} is not served here: expected one of {', '.join(sorted(self.hosts))}."
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Problem(400, "Content-Length is not a number.")
        self._check_size(scope, int(length))

    def _check_size(self, scope: Scope, size: int) -> None:
        path, settings = scope["path"], self.settings
        limit = settings.shard_bytes if path.startswith(SHARDS) else settings.json_bytes
        limit = settings.upload_bytes if path == UPLOADS else limit
        if size > limit:
            raise Problem(413, f"The body has more than {limit:,} bytes, which is the limit here.")

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` with limits: the size of the body, and the time until all of it has arrived."""
        size, is_complete, until = 0, False, asyncio.get_running_loop().time() + self.settings.seconds

        async def receive_limited() -> Message:
            nonlocal size, is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Problem(408, f"The body did not arrive within {self.settings.seconds:g} s.") from None
            size += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            self._check_size(scope, size)
            return message

        return receive_limited


def failure(error: Exception) -> Problem:
    """Return the problem of an error of the server itself."""
    return Problem(500, f"The server failed ({type(error).__name__}); its log has the details.")


class JsonLines(logging.Formatter):
    """Formats each record as one line of JSON."""

    plain = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record: time, level, logger, message, and what was passed as `extra`."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        line["event"] = record.getMessage()
        line.update({name: value for name, value in vars(record).items() if name not in self.plain})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
