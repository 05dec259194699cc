"""Metrics of a served model, in Prometheus's forms; nothing of a request is in any of them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confide.monitoring.samples import exposition
from confide.serving.identity import Identity
from confide.version import __version__

ENDPOINTS = ("infer", "predict", "metadata", "health", "metrics", "other")
"""Values of the label ``endpoint``."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Counted:
    """Counts what is asked and answered.

    Args:
        identity: of the model.
        waiting_fn: returns how many requests wait.
    """

    def __init__(self, identity: Identity, waiting_fn: Callable[[], int]) -> None:
        registry = CollectorRegistry(auto_describe=False)
        self._registry = registry
        self.requests = Counter(
            "confide_serve_requests_total",
            "answers by what was asked and their status",
            ("endpoint", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "confide_serve_request_seconds",
            "seconds from a request's headers to its answer",
            ("endpoint",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "confide_serve_batch_records",
            "records that were computed together",
            buckets=_RECORDS,
            registry=registry,
        )
        self.under_way = Gauge(
            "confide_serve_requests_under_way",
            "requests for predictions that were taken and are not answered",
            registry=registry,
        )
        waiting = Gauge("confide_serve_requests_waiting", "requests that wait", registry=registry)
        waiting.set_function(waiting_fn)
        told = Gauge(
            "confide_serve_model_info",
            "1; the model that is served",
            ("model", "version"),
            registry=registry,
        )
        told.labels(identity.name, identity.version).set(1)
        build = Gauge(
            "confide_build_info", "1; the release that runs", ("version",), registry=registry
        )
        build.labels(__version__).set(1)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text, and its content type."""
        return exposition(self._registry.collect(), accept)


__all__ = ["ENDPOINTS", "Counted"]
