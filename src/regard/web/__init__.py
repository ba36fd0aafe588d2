"""Serve a collection: an HTTP API under /v1, and a page that shows what a sentence finds and why.

`serve` runs a server. `build_app` makes the ASGI application of an index, and `build_front` that of several indexes,
whose servers are a `Cluster` and answer the requests of `shard_routes`. `schemas` are the bodies of requests and
answers, `worker` scores on one thread what waits together, `guard` applies limits and headers to each request, `access`
checks tokens, `queries` checks sentences, `pictures` re-encodes images, `filters` writes SQL conditions, and `problem`
reports errors.
"""
