"""What a run tells of spans beside metrics: counts over all institutions, and of each type.

Counts are sums: F1 of all is worked out from those of institutions, and is no mean of theirs.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from confide.metrics.evaluation import Json, Measured, metric_figures, rounded
from confide.metrics.intervals import wilson
from confide.metrics.outcomes.spans import MICRO, SPANS, f1
from confide.metrics.sums import EXACT_UNIT
from confide.metrics.tally import ScoreTally


class Types(Protocol):
    """What counts of spans are of."""

    @property
    def types(self) -> Sequence[str]:
        """Types, in the order of the counts."""

    @property
    def most(self) -> int:
        """Spans of a record that count in sums with noise."""


def describe_spans(measured: Measured) -> dict[str, Json]:
    """Return the section on spans: metrics, pooled counts and, where exact ones leave, by type."""
    told = cast(Types, measured.settings)
    width = 1 + len(MICRO)
    exact = {
        name: [it * EXACT_UNIT for it in tally.sums[SPANS]]
        for name, tally in measured.tallies.items()
        if not tally.std and len(tally.sums.get(SPANS, ())) == width + len(MICRO) * len(told.types)
    }
    noisy = {
        name: _counts(tally, told.most)
        for name, tally in measured.tallies.items()
        if tally.std and len(tally.sums.get(SPANS, ())) == width
    }
    section: dict[str, Json] = {
        "noisy": bool(noisy),
        "metrics": metric_figures(measured.federated, measured.metrics, {}),
    }
    counts = [*noisy.values(), *(sums[1:width] for sums in exact.values())]
    if counts:
        section["counted"] = [*noisy, *exact]
        pooled = [sum(parts) for parts in zip(*counts, strict=True)]
        section["pooled"] = _figures(pooled, noisy=bool(noisy))
    if exact:
        by_type = [sum(parts) for parts in zip(*exact.values(), strict=True)][width:]
        section["types"] = {
            name: _figures(by_type[3 * number : 3 * number + 3])
            for number, name in enumerate(told.types)
        }
    return section


def _counts(tally: ScoreTally, most: int) -> list[float]:
    """Return hits, predicted and gold spans of sums with noise in them."""
    # A row is divided by its largest norm, and each figure by the most that it can be.
    scale = (1 + len(MICRO)) ** 0.5 * most
    return [it * scale for it in tally.sums[SPANS][1:]]


def _figures(counts: Sequence[float], *, noisy: bool = False) -> dict[str, Json]:
    """Return counts of spans and what follows from them; None for what no span tells."""
    hits, predicted, gold = counts
    ratios: Mapping[str, float | None] = {
        "f1": f1(hits, predicted, gold),
        "precision": hits / predicted if predicted > 0 else None,
        "recall": hits / gold if gold > 0 else None,
    }
    told: dict[str, Json] = dict(zip(MICRO, map(rounded, counts), strict=True))
    told |= {
        name: None if value is None else rounded(min(max(value, 0.0), 1.0))
        for name, value in ratios.items()
    }
    if not noisy and gold >= 1 and 0 <= hits <= gold:
        told["recall_interval"] = [rounded(end) for end in wilson(hits / gold, gold)]
    return told


__all__ = ["Types", "describe_spans"]
