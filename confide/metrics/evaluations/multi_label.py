"""The section on several labels a record: a table of labels, and intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from confide.metrics.evaluation import (
    Json,
    Measured,
    figure,
    is_of_its_records,
    mean_deviations,
    metric_figures,
    rounded,
)
from confide.metrics.grids import Floats
from confide.metrics.intervals import Z, auc_deviation, share_interval
from confide.metrics.outcomes.multi_label import OUTCOMES, RANKS
from confide.metrics.score_table import (
    ScoreTable,
    add_up,
    auc,
    average_precision,
    divide,
    spread,
    tables_in,
)
from confide.metrics.tally import ScoreTally
from confide.metrics.thresholds import at_edges

_DRAWS, _SEED = 200, 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Label:
    """What is counted of one label, at an institution or at all of them.

    Attributes:
        outcomes: true positives, false negatives, false positives, true negatives at 1/2, [4]; None
            where they are not told.
        variance: of the noise in each of them.
        table: records by score; None where it is not told.
    """

    outcomes: Floats | None
    variance: float
    table: ScoreTable | None


def describe_multi_label(measured: Measured) -> dict[str, Json]:
    """Return the section on several labels; see docs/evaluation.md for its fields."""
    names = measured.labels
    known = {}
    for name, tally in measured.tallies.items():
        labels, scores = _read(tally, len(names)), measured.test.get(name)
        if labels and scores and _fits(name, scores, tally, labels):
            known[name] = labels
    together = _added(list(known.values())) if known else None
    each = {name: _deviations(labels) for name, labels in known.items()}
    if together is None or not measured.is_pooled:
        deviations = mean_deviations(each, measured.test)
    else:
        deviations = _deviations(together)
    section: dict[str, Json] = {
        "metrics": metric_figures(measured.federated, measured.metrics, deviations)
    }
    if together is not None:
        section["counted"] = list(known)
        section["noise"] = rounded(math.sqrt(max(label.variance for label in together)))
        section["labels"] = [
            {"label": name, **_figures(label)} for name, label in zip(names, together, strict=True)
        ]
    section["clients"] = {
        name: {"metrics": metric_figures(scores, measured.metrics, each.get(name, {}))}
        for name, scores in measured.test.items()
    }
    return section


def _fits(
    name: str, scores: Mapping[str, float], tally: ScoreTally, labels: Sequence[_Label]
) -> bool:
    """Tell whether counts of every label are of the records that metrics are of."""
    totals = [float(one.outcomes.sum()) for one in labels if one.outcomes is not None]
    totals += [float(one.table.counts.sum()) for one in labels if one.table is not None]
    return all(is_of_its_records(name, scores, tally, total) for total in totals)


def _read(tally: ScoreTally, count: int) -> list[_Label] | None:
    """Read a tally; None where it tells nothing of this many labels."""
    tables = tables_in(tally, RANKS.name, count)
    sums = numpy.asarray(tally.sums.get(OUTCOMES.name, ()), dtype=float)
    outcomes = sums.reshape(4, count) if sums.size == 4 * count else None
    if outcomes is None and not tables:
        return None
    # A record's row has length 1 over all labels, and counts as 1 in each.
    scale = math.sqrt(count) if tally.std else 1.0
    return [
        _Label(
            outcomes=_told(None if outcomes is None else scale * outcomes[:, place], tally.std),
            variance=(scale * tally.std) ** 2,
            table=tables[place] if tables else None,
        )
        for place in range(count)
    ]


def _told(outcomes: Floats | None, std: float) -> Floats | None:
    """Return counts; None where an institution tells none: of exact ones that add up to nothing."""
    return None if outcomes is None or (std == 0 and outcomes.sum() == 0) else outcomes


def _added(institutions: Sequence[Sequence[_Label]]) -> list[_Label]:
    """Add labels of institutions up; what one of them does not tell is not told of all."""
    found = []
    for parts in zip(*institutions, strict=True):
        outcomes = [one.outcomes for one in parts if one.outcomes is not None]
        tables = [one.table for one in parts if one.table is not None]
        found.append(
            _Label(
                outcomes=numpy.asarray(numpy.sum(outcomes, axis=0))
                if len(outcomes) == len(parts)
                else None,
                variance=sum(one.variance for one in parts),
                table=add_up(tables) if len(tables) == len(parts) else None,
            )
        )
    return found


def _decided(label: _Label) -> tuple[Floats, float] | None:
    """Return a label's counts at 1/2 and the noise in each: from its scores where need be."""
    if label.outcomes is not None:
        return label.outcomes, label.variance
    table = label.table
    if table is None or not (table.edges == 0).any():
        return None
    place = int(numpy.flatnonzero(table.edges == 0)[0])
    right, wrong, missed, left = at_edges(table.counts)[:, place]
    # The noise of half of the bins
    return numpy.array([right, missed, wrong, left]), float(table.variances.sum()) / 2


def _figures(label: _Label) -> dict[str, Json]:
    """Return what is known of one label."""
    unknown = figure(math.nan, None)
    found: dict[str, Json] = dict.fromkeys(
        ("records", "share", "precision", "recall", "f1", "average_precision", "auc"), unknown
    )
    found["records"] = None
    decided = _decided(label)
    if decided is not None:
        counts, noise = decided
        right, missed, wrong, left = (max(0.0, float(it)) for it in counts)
        found |= {
            "records": rounded(right + missed),
            "share": _share(right + missed, wrong + left, 2 * noise),
            "precision": _share(right, wrong, noise),
            "recall": _share(right, missed, noise),
            "f1": _f1(counts, noise),
        }
    if label.table is not None:
        found |= _ranked(label.table)
    return found


def _share(part: float, rest: float, noise: float) -> dict[str, Json]:
    value = part / (part + rest) if part + rest >= 1 else math.nan
    return figure(value, share_interval(part, rest, (noise, noise)))


def _f1(counts: Floats, noise: float) -> dict[str, Json]:
    if float(counts[:3].clip(min=0.0).sum()) < 1:
        return figure(math.nan, None)
    value, deviation = float(_f1_of(counts.clip(min=0.0))), spread(_f1_of(_drawn(counts, noise)))
    return figure(value, (max(0.0, value - Z * deviation), min(1.0, value + Z * deviation)))


def _f1_of(counts: Floats) -> Floats:
    """Return F1: [..., 4] -> [...]."""
    right, missed, wrong = (counts[..., place].clip(min=0.0) for place in range(3))
    return divide(2 * right, 2 * right + missed + wrong, otherwise=0.0)


def _drawn(counts: Floats, noise: float) -> Floats:
    """Draw counts that records and noise like these might have given: shape [d, ...]."""
    # Public randomness: this says how sure a figure is and hides nothing.
    rng = numpy.random.default_rng(_SEED)
    drawn = rng.poisson(counts.clip(min=0.0), size=(_DRAWS, *counts.shape)).astype(float)
    return drawn + rng.normal(0.0, math.sqrt(noise), size=drawn.shape) if noise else drawn


def _ranked(table: ScoreTable) -> dict[str, Json]:
    """Return a label's areas; unknown where it holds for nobody, or for all."""
    rest, found = table.counts.sum(axis=0)
    if min(rest, found) < 1:
        return {}
    area, precision = float(auc(table.counts)), float(average_precision(table.counts))
    draws = table.draws.counts
    sure = spread(auc(draws)) if table.is_noisy else auc_deviation(table)
    return {
        "auc": _around(area, sure),
        "average_precision": _around(precision, spread(average_precision(draws))),
    }


def _around(value: float, deviation: float) -> dict[str, Json]:
    return figure(value, (max(0.0, value - Z * deviation), min(1.0, value + Z * deviation)))


def _deviations(labels: Sequence[_Label]) -> dict[str, float]:
    """Return standard deviations of metrics over draws of records, noise apart.

    Of a mean over labels at most this much, since errors of labels go together.
    """
    found: dict[str, float] = {}
    decided = [_decided(label) for label in labels]
    counts = [one[0] for one in decided if one is not None]
    if len(counts) == len(labels):
        drawn = _drawn(numpy.stack(counts), 0.0)
        found["macro_f1"] = sum(spread(_f1_of(drawn[:, k])) for k in range(len(labels))) / len(
            labels
        )
        # Labels of one record are drawn together: they add up as if they were one
        found["micro_f1"] = spread(_f1_of(drawn.sum(axis=1))) * math.sqrt(len(labels))
    tables = [label.table for label in labels if label.table is not None]
    if len(tables) == len(labels):
        exact = [
            ScoreTable(
                counts=one.likely, edges=one.edges, variances=numpy.zeros_like(one.variances)
            )
            for one in tables
        ]
        found["auc"] = sum(map(auc_deviation, exact)) / len(exact)
        drawn_precision = [spread(average_precision(one.draws.counts)) for one in exact]
        found["mean_average_precision"] = sum(drawn_precision) / len(exact)
    return found


__all__ = ["describe_multi_label"]
