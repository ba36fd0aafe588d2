"""An opened collection with its worker, its writer and its caches: what the endpoints share."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread

from regard.files import InputError, nearest
from regard.search.index import Index, Item
from regard.web.measures import Measures
from regard.web.pictures import PictureCache
from regard.web.problem import Problem
from regard.web.settings import Settings
from regard.web.worker import Job, Refresher, Worker
from regard.web.writer import Writer

ITEM_COLUMNS = ("captions", "paths")  # of each item, besides the columns to filter by


class Service:
    """An opened collection with its worker: what the endpoints share.

    Raises InputError if the settings expose a column that does not exist.
    """

    def __init__(self, index: Index, settings: Settings) -> None:
        known = {*index.columns(), *ITEM_COLUMNS}
        for name in settings.expose:
            if name not in known:
                raise InputError(f"There is no column {name!r} to expose. {nearest(name, known)}")
        self.index, self.settings, self.measures = index, settings, Measures()
        self.refresher = Refresher(index, settings.refresh_seconds)
        self.worker = Worker(index, settings, self.refresher, self.measures)
        self.writer = Writer(index, settings)
        self.pictures, self.decoders = PictureCache(settings.cache_bytes), CapacityLimiter(2)
        self.measures.items.set_function(lambda: len(index))
        self.measures.version.set_function(lambda: index.version)

    def exposed(self) -> dict[str, str]:
        """Return the columns that leave the server, with their types."""
        return {name: kind for name, kind in self.index.columns().items() if name in self.settings.expose}

    async def in_thread(
        self, function: Callable[..., Any], *arguments: Any, limiter: CapacityLimiter | None = None
    ) -> Any:
        """Run `function` in a thread, after a look for a new version. `limiter` bounds how many do so at once."""

        def refresh_and_run() -> Any:
            self.refresher.refresh()
            return function(*arguments)

        return await to_thread.run_sync(refresh_and_run, limiter=limiter)

    async def answer(self, job: Job) -> Any:
        """Wait for the worker's answer. Raises Problem if it takes too long (503)."""
        result = self.worker.submit(job)
        try:
            async with asyncio.timeout(self.settings.seconds):
                return await asyncio.wrap_future(result)
        except TimeoutError:
            detail = f"No answer within {self.settings.seconds:g} s: the server is overloaded."
            raise Problem(503, detail, {"Retry-After": "5"}) from None

    def find_item(self, id: str) -> Item:
        """Return an item. Raises Problem if there is none with that id (404)."""
        try:
            return self.index.item(id)
        except InputError as error:
            raise Problem(404, str(error)) from None

    def versioned(self, began: float, **seconds: float) -> dict[str, Any]:
        """Return what every answer has: the version, the fingerprint and the times."""
        seconds["total"] = time.perf_counter() - began
        return {"version": self.index.version, "fingerprint": self.index.fingerprint, "seconds": seconds}

    def close(self) -> None:
        """Answer what was accepted, and end the worker."""
        self.worker.close()
