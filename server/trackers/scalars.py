"""Turns metrics into curves: one of the whole federation, and one per institution if few."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from confide.server.trackers.tracker import Metric


class Scalar(NamedTuple):
    """One point of a curve.

    Attributes:
        tag: name of the curve, such as ``validation/accuracy/bank-1``.
        step: the round.
        value: the value.
    """

    tag: str
    step: int
    value: float


class Scalars:
    """Names curves and computes their points.

    Args:
        named_clients: largest number of institutions that get separate curves.
    """

    def __init__(self, named_clients: int) -> None:
        self._named_clients = named_clients
        self._enrolled: set[str] = set()

    def of(self, metrics: Sequence[Metric]) -> Iterator[Scalar]:
        """Yield points in the order of rounds.

        ``phase/name`` is the mean over institutions, weighted by support, or the largest value of
        metrics without support (epsilon); ``phase/name/client`` is one institution's value.
        """
        self._enrolled |= {
            m["client"] for m in metrics if m["phase"] == "enrol" and m["client"] is not None
        }
        groups: dict[tuple[int, str], list[Metric]] = {}
        for metric in metrics:
            groups.setdefault((metric["round"], f"{metric['phase']}/{metric['name']}"), []).append(
                metric
            )
        for (step, tag), group in groups.items():
            yield from self._points(tag, step, group)

    def _points(self, tag: str, step: int, group: Sequence[Metric]) -> Iterator[Scalar]:
        values = [m["value"] for m in group]
        supports = [m["num_examples"] or 0 for m in group]
        if len(group) == 1:  # as it is: weighting would change its last bits
            pooled = values[0]
        elif group[0]["phase"] == "enrol":  # counts, such as of records
            pooled = sum(values)
        elif any(m["num_examples"] is None for m in group) or not sum(supports):
            pooled = max(values)
        else:
            weighted = sum(value * n for value, n in zip(values, supports, strict=True))
            pooled = weighted / sum(supports)
        yield Scalar(tag, step, pooled)
        if len(self._enrolled) <= self._named_clients:
            yield from (
                Scalar(f"{tag}/{m['client']}", step, m["value"])
                for m in group
                if m["client"] is not None
            )
        # Hundreds of curves can be neither drawn nor read; their range can.
        elif group[0]["client"] is not None:
            yield Scalar(f"{tag}/min", step, min(values))
            yield Scalar(f"{tag}/max", step, max(values))


def final_scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the final scores of a run's model by name, such as ``federated/accuracy``."""
    # A run that failed has none.
    federated = summary.get("federated", {})
    return {
        f"federated/{name}": value
        for name, value in federated.items()
        if isinstance(value, int | float)
    }


__all__ = ["Scalar", "Scalars", "final_scores"]
