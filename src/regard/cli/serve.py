"""The verb serve."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import Device, console
from regard.files import InputError


def serve(
    index: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str, Parameter(env_var="REGARD_TOKEN", show_default=False)] = "",
    expose: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    run: Path | None = None,
    device: Device = "auto",
) -> None:
    """Serve an index over HTTP: a page and an API.

    The page searches and explains; the API is under /v1. Only this machine can reach the server, unless `--host` is
    another address; reading then needs the token, too. SIGTERM or Ctrl-C stops the server, which first answers the
    requests that it has accepted.

    Parameters
    ----------
    index
        Folder of an index (the `--out` of `regard index`).
    host
        Address to listen on.
    port
        Port to listen on. 0: a free one.
    token
        A secret of at least 16 characters. It is needed to add and remove pictures; without it, both are off. Prefer
        the environment variable, because other users of the machine can read the command line.
    expose
        A column of the index that may leave the server and be filtered by. May be repeated. Default: none.
    run
        Folder of the trained run, if it is no longer where it was when the index was made.
    """
    try:
        from regard.web.listen import serve as listen
        from regard.web.settings import Settings
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise InputError(f"The server requires {package}: pip install 'regard[serve]'.") from None
    from regard.runtime import device_named
    from regard.search.index import Index

    settings = Settings(host=host, token=token, expose=expose)
    opened = Index(index, run=run, device=device_named(device))
    listen(opened, settings, port, lambda url: console.print(f"Serving {len(opened):,} pictures at {url}"))
