"""The thread that scores: what waits is searched together, and no request waits in an unbounded queue."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from regard.files import InputError
from regard.search.index import Answer, Index, Query
from regard.search.opened import Opened
from regard.web.measures import Measures
from regard.web.problem import Problem
from regard.web.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchJob:
    """The queries of one request."""

    queries: tuple[Query, ...]
    k: int
    offset: int
    shortlist: int | None
    where: str

    @property
    def group(self) -> str:
        """Jobs of one group are searched in one call."""
        return repr((self.k, self.offset, self.shortlist, self.where))


@dataclass(frozen=True)
class ExplainJob:
    """One picture and one sentence to explain, and another sentence to compare it with, if any."""

    id: str
    sentence: str
    against: str = ""


@dataclass(frozen=True)
class ShardJob:
    """One step of a search over shards, on the version that is open. The answer is what `step` returns, and seconds."""

    step: Callable[[Opened], Any]


Job = SearchJob | ExplainJob | ShardJob


@dataclass(frozen=True)
class Waiting:
    """A job, its result, and the time of its arrival."""

    job: Job
    result: "Future[Any]" = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)


class Refresher:
    """Looks for a new version of the collection, but not more often than the settings say."""

    def __init__(self, index: Index, seconds: float) -> None:
        self.index, self.seconds = index, seconds
        self._last, self._lock = time.monotonic(), threading.Lock()

    def refresh(self, waits: bool = False) -> None:
        """Pick up a new version, if enough time has passed since the last look.

        If another thread is doing so, go on with the version that is open, unless `waits`. Raises Problem if the
        collection cannot be read (503).
        """
        if not self._lock.acquire(blocking=waits):
            return
        try:
            if time.monotonic() - self._last < self.seconds:
                return
            if self.index.refresh():
                log.info("refreshed", extra={"version": self.index.version, "items": len(self.index)})
            self._last = time.monotonic()
        except Exception as error:  # whatever the store raises; the next request looks again
            log.error("cannot refresh", extra={"error": repr(error)})
            raise Problem(503, "The collection cannot be read.", {"Retry-After": "5"}) from error
        finally:
            self._lock.release()


class Worker:
    """One thread that answers searches and explanations, in the order of arrival but in groups."""

    def __init__(self, index: Index, settings: Settings, refresher: Refresher, measures: Measures) -> None:
        self.index, self.settings, self.refresher, self.measures = index, settings, refresher, measures
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(settings.queue)
        self._job_seconds = 0.05  # a running mean, for Retry-After
        self._is_closed, self._lock = False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="regard-worker", daemon=True)
        self._thread.start()
        measures.queue.set_function(self._waiting.qsize)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> "Future[Any]":
        """Queue a job and return its result. Raises Problem if the queue is full (429) or closed (503)."""
        waiting = Waiting(job)
        with self._lock:
            if self._is_closed:
                raise Problem(503, "The server is stopping.", {"Retry-After": "5"})
            try:
                self._waiting.put_nowait(waiting)
            except queue.Full:
                self.measures.refused.inc()
                seconds = max(1, math.ceil(self._job_seconds * self.settings.queue))
                detail = f"{self.settings.queue} requests are waiting already: try again in {seconds} s."
                raise Problem(429, detail, {"Retry-After": str(seconds)}) from None
        return waiting.result

    def close(self) -> None:
        """Answer what was accepted, accept nothing more, and end the thread."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            taken = [self._waiting.get()]
            while len(taken) < self.settings.batch and not self._waiting.empty():
                taken.append(self._waiting.get_nowait())
            ends = None in taken  # it is the last one
            batch = [each for each in taken if each and each.result.set_running_or_notify_cancel()]
            if batch:
                began = time.perf_counter()
                self._answer(batch)
                each = (time.perf_counter() - began) / len(batch)
                self._job_seconds += (each - self._job_seconds) / 8

    def _answer(self, batch: list[Waiting]) -> None:
        try:
            self.refresher.refresh()
        except Problem as problem:
            for waiting in batch:
                waiting.result.set_exception(problem)
            return
        searches = [waiting for waiting in batch if isinstance(waiting.job, SearchJob)]
        for _, group in groupby(sorted(searches, key=_group), key=_group):
            self._search(list(group))
        for waiting in batch:
            if isinstance(waiting.job, ExplainJob):
                self._explain(waiting, waiting.job)
            elif isinstance(waiting.job, ShardJob):
                self._take_step(waiting, waiting.job)

    def _search(self, group: list[Waiting]) -> None:
        """Search for all queries of a group in one call. If one of them is refused, each is searched alone."""
        began, jobs = time.perf_counter(), [waiting.job for waiting in group if isinstance(waiting.job, SearchJob)]
        first = jobs[0]
        queries = [query for job in jobs for query in job.queries]
        try:
            answers = self.index.search(
                queries, k=first.k, shortlist=first.shortlist, where=first.where, offset=first.offset, files=False
            )
        except InputError as error:
            if len(group) == 1:
                group[0].result.set_exception(error)
            else:
                for waiting in group:
                    self._search([waiting])
            return
        except Exception as error:  # each request answers with it, and the worker continues
            for waiting in group:
                waiting.result.set_exception(error)
            return
        self.measures.batch.observe(len(queries))
        self._count(answers)
        taken = iter(answers)
        for waiting, job in zip(group, jobs, strict=True):
            waiting.result.set_result(([next(taken) for _ in job.queries], began - waiting.since))

    def _explain(self, waiting: Waiting, job: ExplainJob) -> None:
        began = time.perf_counter()
        try:
            explanation = self.index.explain(job.id, job.sentence, job.against or None).to_dict()
        except Exception as error:  # the request answers with it, and the worker continues
            waiting.result.set_exception(error)
            return
        now = time.perf_counter()
        self.measures.phases.labels("explain").inc(now - began)
        waiting.result.set_result((explanation, {"queue": began - waiting.since, "explain": now - began}))

    def _take_step(self, waiting: Waiting, job: ShardJob) -> None:
        began = time.perf_counter()
        try:
            found = job.step(self.index.opened)
        except Exception as error:  # the request answers with it, and the worker continues
            waiting.result.set_exception(error)
            return
        seconds = {"queue": began - waiting.since, "shard": time.perf_counter() - began}
        self.measures.phases.labels("shard").inc(seconds["shard"])
        waiting.result.set_result((found, seconds))

    def _count(self, answers: Iterable[Answer]) -> None:
        for phase, seconds in next(iter(answers)).seconds.items():  # of the whole call
            self.measures.phases.labels(phase).inc(seconds)


def _group(waiting: Waiting) -> str:
    return waiting.job.group if isinstance(waiting.job, SearchJob) else ""
