"""The verb serve."""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import Device, console
from regard.files import InputError, missing_extra


def serve(
    index: Path | None = None,
    *,
    shards: Annotated[tuple[str, ...], Parameter(negative="", show_default=False, consume_multiple=True)] = (),
    shard_timeout: float | None = None,
    partial: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str, Parameter(env_var="REGARD_TOKEN", show_default=False)] = "",
    expose: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    run: Path | None = None,
    device: Device = "auto",
) -> None:
    """Serve an index, or several as one, over HTTP: a page and an API.

    The page searches and explains; the API is under /v1. Only this machine can reach the server, unless `--host` is
    another address; reading then needs the token, too. SIGTERM or Ctrl-C stops the server, which first answers the
    requests that it has accepted.

    With `--shards`, this server holds no index: it asks the servers of the shards, and merges their answers to those of
    one index with all pictures.

    Parameters
    ----------
    index
        Folder of an index (the `--out` of `regard index`).
    shards
        Addresses of the servers of the shards, such as http://10.0.0.7:8000, in place of an index. They have the same
        model and the same token, and no picture is in two of them.
    shard_timeout
        Seconds that a shard may take for each of the two steps of a search. Then the answer is given without it, and
        names it. Default: 10.
    partial
        With `--shards`, start although some of them do not answer. They are used as soon as they do.
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
        from regard.web.cluster import Cluster
        from regard.web.front import build_front
        from regard.web.listen import serve as listen
        from regard.web.server import build_app
        from regard.web.settings import Settings
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise missing_extra(f"The server requires {package}", "serve") from None
    if shard_timeout is not None and not shard_timeout > 0:
        raise InputError(f"--shard-timeout {shard_timeout:g}: expected seconds above 0.")
    if (index is None) == (not shards):
        raise InputError("Expected the folder of an index, or --shards with the addresses of servers of indexes.")
    if shards:
        for name, is_given in {"--expose": expose, "--run": run, "--device": device != "auto"}.items():
            if is_given:
                raise InputError(f"A front server of shards has no {name}: give it to the servers of the shards.")
        settings = Settings(host=host, token=token, shard_seconds=shard_timeout or Settings.shard_seconds)
        cluster = Cluster(shards, settings)
        asyncio.run(cluster.check(partial))
        count, used = sum(shard.known.items for shard in cluster.used), len(cluster.used)
        told = f"Serving {count:,} pictures of {used if used == len(shards) else f'{used} of {len(shards)}'} shards at"
        return listen(
            lambda: build_front(cluster, settings), settings, port, lambda url: console.print(f"{told} {url}")
        )
    if shard_timeout is not None or partial:
        raise InputError("--shard-timeout and --partial are for a front server: expected --shards.")
    from regard.runtime import device_named
    from regard.search.index import Index

    assert index is not None
    settings = Settings(host=host, token=token, expose=expose)
    opened = Index(index, run=run, device=device_named(device))
    told = f"Serving {len(opened):,} pictures at"
    return listen(lambda: build_app(opened, settings), settings, port, lambda url: console.print(f"{told} {url}"))
