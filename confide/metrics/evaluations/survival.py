"""Survival by predicted risk: what became of the records with low, middle and high risk.

Records are counted by the bin of their risk and by how they end
(:func:`~confide.metrics.ends.end_codes`). Counts are sums: those of institutions add up to
those of all records, and from them follow, as they would from the records, at risk and events of a
group in each interval, and their product (Kaplan and Meier 1958).

Shapes: K intervals; exact counts have 4 K + 2 columns a bin: 3 K + 1 ways to end, K sums of
predicted probabilities of being free of the event, in whole units of 1/1024, and whether the bin is
joined to the one before it. A sum of predictions counts whatever a model's author wants to know of
inputs, such as a diagnosis of one record in the bin: where bins have a floor these sums are 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy

from confide.metrics.counts import joined_starts
from confide.metrics.ends import (
    ENDS,
    NOISY_BINS,
    end_codes,
    life_table,
    pairs_of,
    risk_bins,
    survival_curve,
)
from confide.metrics.evaluation import Json, Measured, metric_figures
from confide.metrics.floor import Floor
from confide.metrics.grids import REACH, Floats, Integers, edges_between, joined, shared
from confide.metrics.tally import ScoreTally

GROUPS = ("low", "middle", "high")
"""Names of the groups, each a third of the records as nearly as bins allow."""
_FINEST, _COARSEST, _MOST = 1024, 32, 2**14
_UNIT = 1024
_DRAWS, _SEED, _DRAWN_BINS = 200, 0, 64


class Clock(Protocol):
    """The public intervals of time, and the column that they are in the unit of."""

    @property
    def ends(self) -> Sequence[float]:
        """Ends of the intervals, ascending."""

    @property
    def time_column(self) -> str:
        """Name of the column of times."""


def exact_bins(intervals: int) -> int:
    """Return the number of bins of exact counts, which follows from the number of intervals."""
    bins = _FINEST
    while bins > _COARSEST and bins * (4 * intervals + 2) > _MOST:
        bins //= 2
    return bins


def exact_ends(survival: Floats, labels: Floats, floor: Floor) -> Integers | None:
    """Count records by risk and end, in bins as narrow as a floor allows.

    Args:
        survival: probabilities of being free of the event, shape [n, K], n >= 1.
        labels: place and event, shape [n, 2].
        floor: smallest number of units in a bin; where it is off, bins of any number, and none.

    Returns:
        Shape [bins, 4 K + 2]. A joined bin's records are counted in the first of those that it is
        joined to. None for fewer units than the floor.
    """
    count, intervals = survival.shape
    if not floor.enough(numpy.ones(count, dtype=bool)):
        return None
    bins, ways = exact_bins(intervals), 3 * intervals + 1
    place = risk_bins(survival, bins, REACH)
    counts = numpy.zeros((bins, ways), dtype=numpy.int64)
    numpy.add.at(counts, (place, end_codes(labels, intervals)), 1)
    starts = joined_starts(place, bins, floor)
    found = numpy.zeros((bins, ways + intervals + 1), dtype=numpy.int64)
    found[starts, :ways] = numpy.add.reduceat(counts, starts, axis=0)
    if floor.is_off:
        predicted = numpy.zeros((bins, intervals))
        numpy.add.at(predicted, place, survival)
        found[starts, ways:-1] = numpy.rint(numpy.add.reduceat(predicted, starts, axis=0) * _UNIT)
    found[:, -1] = 1
    found[starts, -1] = 0
    return found


def describe_survival(measured: Measured) -> dict[str, Json]:
    """Return the section on survival: metrics, and groups by risk; see docs/tasks.md."""
    clock = cast(Clock, measured.settings)
    intervals = len(clock.ends)
    tallies = {name: it for name, it in measured.tallies.items() if _fits(it, intervals)}
    noisy = any(it.std for it in tallies.values())
    section: dict[str, Json] = {
        "ends": list(clock.ends),
        "time_column": clock.time_column,
        "noisy": noisy,
        "within": not measured.is_pooled,
    }
    counts = _pooled(list(tallies.values()), intervals) if tallies else None
    deviations: dict[str, float] = {}
    if counts is not None:
        section["counted"] = list(tallies)
        section["groups"] = cast(Json, groups_of(counts, intervals))
        # Of noise institutions tell themselves, and pairs within each are not in pooled counts
        if not noisy and measured.is_pooled:
            deviations["c_index"] = _deviation(counts[:, : 3 * intervals + 1])
    section["metrics"] = metric_figures(measured.federated, measured.metrics, deviations)
    return section


def _fits(tally: ScoreTally, intervals: int) -> bool:
    """Tell whether a tally has counts of the shape that these intervals give."""
    ways = 3 * intervals + 1
    width = NOISY_BINS * ways if tally.std else exact_bins(intervals) * (ways + intervals + 1)
    return len(tally.sums.get(ENDS, ())) == width


def _pooled(tallies: Sequence[ScoreTally], intervals: int) -> Floats:
    """Add counts of institutions up, between the edges that all share.

    Where some are noisy, all that is known of each is 16 bins: exact ones are left out.
    """
    ways = 3 * intervals + 1
    noisy = [it for it in tallies if it.std]
    if noisy:
        parts = [numpy.asarray(it.sums[ENDS]).reshape(NOISY_BINS, ways) for it in noisy]
        return numpy.asarray(numpy.sum(parts, axis=0))
    bins = exact_bins(intervals)
    edges = edges_between(REACH, bins)
    tables = [numpy.asarray(it.sums[ENDS]).reshape(bins, -1) for it in tallies]
    kept = shared([edges[table[1:, -1] == 0] for table in tables])
    # All sums of predictions or none: of a part they would be taken for those of everybody
    width = ways + intervals if all(it[:, ways:-1].any() for it in tables) else ways
    return numpy.asarray(numpy.sum([joined(it[:, :width], edges, kept) for it in tables], axis=0))


def _deviation(counts: Floats) -> float:
    """Return the standard deviation of the C-index over draws of records like these.

    Counts are drawn by Poisson's law, the bootstrap of records whose number is drawn too.
    """
    step = -(-len(counts) // _DRAWN_BINS)
    narrow = numpy.add.reduceat(counts, range(0, len(counts), step), axis=0)
    # Public randomness: this says how sure a figure is and hides nothing.
    drawn = numpy.random.default_rng(_SEED).poisson(narrow, size=(_DRAWS, *narrow.shape))
    pairs = [pairs_of(one.astype(float)) for one in drawn]
    values = [concordant / of for concordant, of in pairs if of >= 1]
    return float(numpy.std(values)) if values else 0.0


def groups_of(counts: Floats, intervals: int) -> list[dict[str, Any]]:
    """Return the groups of records that were counted by the bin of their risk, noise included.

    Args:
        counts: by bin and end, and if they are exact sums of predictions, over all institutions,
            shape [bins, 3 K + 1 or 4 K + 1], from low risk to high.
        intervals: K.

    Returns:
        For each group its ``name``, ``records``, and in each interval ``at_risk``, ``events``,
        ``observed``, the share free of the event at its end, and, where it is known, its mean
        ``predicted`` one.
    """
    ways = 3 * intervals + 1
    held = counts[:, :ways].sum(axis=1).clip(min=0.0)
    # Whole bins, each where the middle of its records is: a bin cannot be cut
    middle = (held.cumsum() - held / 2) / max(float(held.sum()), 1.0)
    group = (middle * len(GROUPS)).astype(int).clip(0, len(GROUPS) - 1)
    summed = numpy.stack([counts[group == g].sum(axis=0) for g in range(len(GROUPS))])
    events, at_risk = life_table(summed[:, :ways])
    observed = survival_curve(events, at_risk)
    records = summed[:, :ways].sum(axis=1)
    found: list[dict[str, Any]] = []
    for g, name in enumerate(GROUPS):
        one = {
            "name": name,
            "records": round(float(records[g]), 3),
            "at_risk": at_risk[g].round(3).tolist(),
            "events": events[g].round(3).tolist(),
            "observed": observed[g].round(6).tolist(),
        }
        if summed.shape[1] > ways and records[g] >= 1:
            one["predicted"] = (summed[g, ways:] / _UNIT / records[g]).round(6).tolist()
        found.append(one)
    return found


def standard_errors(group: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the standard error of a group's observed curve in each interval (Greenwood 1926)."""
    total, errors = 0.0, []
    for events, at_risk, share in zip(
        group["events"], group["at_risk"], group["observed"], strict=True
    ):
        if 0 < events < at_risk:
            total += events / (at_risk * (at_risk - events))
        errors.append(share * total**0.5)
    return errors


__all__ = [
    "GROUPS",
    "Clock",
    "describe_survival",
    "exact_bins",
    "exact_ends",
    "groups_of",
    "standard_errors",
]
