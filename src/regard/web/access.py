"""Who may read and who may write: a bearer token, and a cookie with which a browser may read."""

import hashlib
import hmac
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from regard.web.problem import Problem
from regard.web.settings import Settings

COOKIE = "regard"
CHALLENGE = {"WWW-Authenticate": "Bearer"}
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def session_of(token: str) -> str:
    """Return the cookie of a browser that has shown the token. The token cannot be computed from it."""
    return hmac.new(token.encode(), b"regard reading session", hashlib.sha256).hexdigest()


def check_token(settings: Settings, credentials: HTTPAuthorizationCredentials | None) -> None:
    """Raise Problem unless the request has the token. The comparison takes the same time wherever they differ."""
    if not settings.token:
        raise Problem(403, "Writing is off: start the server with REGARD_TOKEN or --token.")
    if credentials is None:
        raise Problem(401, "A token is required: send the header Authorization: Bearer TOKEN.", CHALLENGE)
    if not hmac.compare_digest(credentials.credentials.encode(), settings.token.encode()):
        raise Problem(401, "The token is wrong.", CHALLENGE)


def check_reading(settings: Settings, request: Request, credentials: HTTPAuthorizationCredentials | None) -> None:
    """Raise Problem unless the request may read: from this machine, with the token, or with the cookie."""
    if settings.is_loopback:
        return
    cookie = request.cookies.get(COOKIE, "")
    if not hmac.compare_digest(cookie.encode(), session_of(settings.token).encode()):
        check_token(settings, credentials)


def may_read(settings: Settings) -> Any:
    """Return the dependency of endpoints that read (see `check_reading`)."""

    def check(request: Request, credentials: Credentials) -> None:
        check_reading(settings, request, credentials)

    return Depends(check)


def has_token(settings: Settings) -> Any:
    """Return the dependency of endpoints that need the token (see `check_token`)."""

    def check(credentials: Credentials) -> None:
        check_token(settings, credentials)

    return Depends(check)
