"""What the server counts, for Prometheus."""

from __future__ import annotations

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        # Resident memory, open file descriptors and CPU time of the process.
        prometheus_client.ProcessCollector(registry=registry)
        self.ready = Gauge("rt1_ready", "1 once every batch size is compiled", registry=registry)
        self.connections = Gauge("rt1_connections", "Open connections", registry=registry)
        self.refused_connections = Counter(
            "rt1_refused_connections", "Not let in", ["reason"], registry=registry
        )
        self.requests = Counter(
            "rt1_requests", "Answered: ok, refused or failed", ["outcome"], registry=registry
        )
        self.request_seconds = Histogram(
            "rt1_request_seconds", "Message to reply", buckets=_SECONDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "rt1_queue_seconds", "Waiting for a batch", buckets=_SECONDS, registry=registry
        )
        self.batch_seconds = Histogram(
            "rt1_batch_seconds", "One batch of the policy", buckets=_SECONDS, registry=registry
        )
        self.batch_requests = Histogram(
            "rt1_batch_requests", "Requests in a batch", buckets=_BATCHES, registry=registry
        )
        self.padding = Counter("rt1_padding", "Rows that no robot asked for", registry=registry)
        self.instructions = Counter(
            "rt1_instructions", "Looked up: known or new", ["cache"], registry=registry
        )

    def batch(self, requests: int, size: int, seconds: float) -> None:
        """Counts a batch of `requests`, padded to `size`, that took `seconds`."""
        self.batch_seconds.observe(seconds)
        self.batch_requests.observe(requests)
        self.padding.inc(size - requests)

    def instruction(self, known: bool) -> None:
        self.instructions.labels("known" if known else "new").inc()

    def page(self) -> bytes:
        """The text that `/metrics` serves."""
        return prometheus_client.generate_latest(self.registry)
