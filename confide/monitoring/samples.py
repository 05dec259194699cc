"""Metrics as a table says them, with values from a snapshot, in Prometheus's forms.

A table holds every metric that there may be: a value without an entry is a mistake, and so is a
label that the entry lacks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class Metered:
    """What a metric is.

    Attributes:
        kind: a counter only grows, but for a log that was archived; a gauge is a state.
        meaning: noun phrase that says what it is, with its unit.
        labels: names of its labels, whose values are from fixed lists.
    """

    kind: Literal["counter", "gauge"]
    meaning: str
    labels: tuple[str, ...] = ()


Sample = tuple[str, tuple[str, ...], float | None]
"""Name of a metric, its labels' values, and its value; None if that is not known."""

SHARED: dict[str, Metered] = {
    "confide_build_info": Metered("gauge", "1; the release that runs this page", ("version",)),
    "confide_process_up": Metered(
        "gauge", "1 if the process runs, 0 if not; absent if another user's", ("process",)
    ),
    "confide_process_starts_total": Metered(
        "counter", "starts of the process since the kit was first run", ("process",)
    ),
    "confide_certificate_expiry_timestamp_seconds": Metered(
        "gauge", "time at which the certificate ends, in seconds since 1970", ("file",)
    ),
    "confide_disk_free_bytes": Metered(
        "gauge", "bytes that may still be written there", ("folder",)
    ),
    "confide_disk_size_bytes": Metered("gauge", "size of the disk in bytes", ("folder",)),
    "confide_audit_log_readable": Metered(
        "gauge", "1 if every line of the audit log is what was written, 0 if one is not"
    ),
    "confide_audit_log_events_total": Metered("counter", "events of the audit log"),
}
"""Metrics of both sides."""


def families(table: Mapping[str, Metered], samples: Iterable[Sample]) -> Iterator[Metric]:
    """Yield each metric of a table that has a value, with its values.

    Args:
        table: name -> what it is.
        samples: values; those that are not known are left out.

    Raises:
        KeyError: if one is not in the table.
    """
    made: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for name, labels, value in samples:
        metered = table[name]
        if value is None:
            continue
        if name not in made:
            make = CounterMetricFamily if metered.kind == "counter" else GaugeMetricFamily
            made[name] = make(name, metered.meaning, labels=metered.labels)
        made[name].add_metric(labels, value)
    yield from made.values()


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(metrics: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """Return metrics as text, and its content type.

    Args:
        metrics: the metrics.
        accept: forms that the scraper takes, as its request says.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(metrics))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


__all__ = ["SHARED", "Metered", "Sample", "exposition", "families"]
