"""Counters and times of the server, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Measures:
    """The measures of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("regard_requests", "Requests.", ["method", "route", "status"], registry=registry)
        self.seconds = Histogram(
            "regard_request_seconds", "Time from the first byte to the end of the answer.", ["route"], registry=registry
        )
        self.batch = Histogram(
            "regard_batch_queries",
            "Queries that were scored together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.phases = Counter("regard_phase_seconds", "Time of the worker, by phase.", ["phase"], registry=registry)
        self.refused = Counter("regard_refused", "Requests refused because the queue was full.", registry=registry)
        self.queue = Gauge("regard_queue", "Requests that wait for the worker.", registry=registry)
        self.items = Gauge("regard_items", "Pictures of the collection.", registry=registry)
        self.version = Gauge("regard_version", "Version of the collection.", registry=registry)

    def text(self) -> bytes:
        """Return all measures in Prometheus' text format."""
        return generate_latest(self.registry)
