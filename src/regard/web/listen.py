"""Listen on an address until the process is told to stop, and answer what was accepted before it ends."""

import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress

import uvicorn
from starlette.types import ASGIApp

from regard.files import InputError
from regard.runtime import stoppable
from regard.web.guard import JsonLines
from regard.web.settings import Settings

GRACE = 30  # seconds for the requests that were accepted when the process is told to stop


def serve(build: Callable[[], ASGIApp], settings: Settings, port: int, announce: Callable[[str], None]) -> None:
    """Serve the application that `build` returns until SIGTERM or Ctrl-C.

    Port 0: a free one. `announce` gets the address. This configures the logging of the process: one line of JSON per
    record, on standard error. Raises InputError if the address cannot be used, and what `build` raises.
    """
    with _listening(settings.host, port) as listener:
        app = build()
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # the guard logs requests, without their sentences
            server_header=False,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=GRACE,
            limit_concurrency=8 * settings.queue,  # connections, so that idle ones do not use up the memory
            ws="none",
        )
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        # uvicorn raises the signals that it has received again at its end, when nothing is left to be stopped.
        with stoppable(), suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
            stack.pop_all()
    except (OSError, OverflowError) as error:
        raise InputError(f"Cannot listen on {host}, port {port}: {error}.") from None
    return listener
