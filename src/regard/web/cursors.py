"""Cursors: where the next page of results begins, bound to the queries and to the version of the collection."""

import base64
import hashlib
import json
from typing import Any

from regard.files import parse_json
from regard.web.problem import Problem
from regard.web.schemas import SearchRequest
from regard.web.settings import MAX_OFFSET


def encode_cursor(request: SearchRequest, version: int, fingerprint: str, offset: int) -> str:
    """Return the cursor of the page that begins after `offset` pictures."""
    content = json.dumps([version, fingerprint, offset, _digest(request)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode()


def decode_cursor(request: SearchRequest) -> tuple[int, str, int]:
    """Return version, fingerprint and offset of the request's cursor.

    Raises Problem if it is no cursor (422) or belongs to other queries (409).
    """
    assert request.cursor is not None
    try:
        content: Any = parse_json(base64.b64decode(request.cursor, altchars=b"-_", validate=True))
        version, fingerprint, offset, digest = content
        is_valid = type(version) is int and isinstance(fingerprint, str) and type(offset) is int
    except (ValueError, TypeError):
        is_valid = False
    if not is_valid or not 0 < offset <= MAX_OFFSET:
        raise Problem(422, "cursor: expected the value of next of an earlier answer, or null.")
    if digest != _digest(request):
        raise Problem(409, "cursor: it belongs to other queries, filters, k or shortlist. Search without a cursor.")
    return version, fingerprint, offset


def stale(version: int, current: int) -> Problem:
    """Return the error about a cursor of another version of the collection."""
    return Problem(
        409, f"cursor: it belongs to version {version} of the collection, which is now {current}. Search again."
    )


def _digest(request: SearchRequest) -> str:
    content = request.model_dump_json(exclude={"cursor"})
    return hashlib.sha256(content.encode()).hexdigest()[:24]
