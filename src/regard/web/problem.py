"""Errors as problem documents (RFC 9457), with one line that says what was given and what was expected."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
# Of an absolute path. The names of folders may contain spaces, but do not end with one: "/a/b c/d" is one path, and
# "/a/b and /c/d" are two.
FOLDERS = re.compile(r"(?<![^\s'\"(])/(?:[^/'\":,]*[^\s/'\":,]/)*(?=[^\s/])")
SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


class Problem(HTTPException):
    """An error that is answered with a status and one line. Of paths on this machine, only the names are shown."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        detail = FOLDERS.sub("", " ".join(detail.split()))
        super().__init__(status, detail, dict(headers or {}))


def problem_response(problem: HTTPException) -> JSONResponse:
    """Return the problem document of an error."""
    title = HTTPStatus(problem.status_code).phrase
    content = {"type": "about:blank", "title": title, "status": problem.status_code, "detail": problem.detail}
    return JSONResponse(content, problem.status_code, dict(problem.headers or {}), MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the part of the OpenAPI document that describes these errors."""
    content = {MEDIA_TYPE: {"schema": SCHEMA}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted(statuses)}


def validation_line(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return one line about the first of pydantic's errors: where it is, what was expected, what was given."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"The body is not JSON: {first.get('ctx', {}).get('error', 'it cannot be parsed')}."
    place = ".".join(str(part) for part in first["loc"][1:]) or "The body"
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "missing":
        return f"{place} is required."
    if first["type"] == "extra_forbidden":
        return f"{place} is not known."
    if first["type"] == "value_error":
        return f"{place}: {message}"
    given = repr(first.get("input"))
    given = given if len(given) <= 60 else f"{given[:57]}..."
    return f"{place}: expected {message[:1].lower()}{message[1:]}, got {given}."
