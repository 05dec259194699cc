"""The section on labels in order: who was taken for what, how many steps off, and intervals."""

import functools
import math
from collections.abc import Sequence
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
from confide.metrics.intervals import share_interval
from confide.metrics.outcomes.ordinal import CONFUSION, mae_of, weighted_kappa_of
from confide.metrics.score_table import nearest, spread
from confide.metrics.tally import ScoreTally

_DRAWS, _SEED = 200, 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counted:
    """Records by label and by run of predictions.

    Attributes:
        counts: shape [k, runs].
        starts: first label of each run, ascending from 0.
        variance: of the noise in each count.
    """

    counts: Floats
    starts: tuple[int, ...]
    variance: float


def describe_ordinal(measured: Measured) -> dict[str, Json]:
    """Return the section on labels in order; see docs/evaluation.md for its fields."""
    size = len(measured.labels)
    known = {}
    for name, tally in measured.tallies.items():
        one, scores = _read(tally, size), measured.test.get(name)
        if one and scores and is_of_its_records(name, scores, tally, float(one.counts.sum())):
            known[name] = one
    each = {name: _deviations(one) for name, one in known.items()}
    together = _added(list(known.values())) if known else None
    if together is None or not measured.is_pooled:
        deviations = mean_deviations(each, measured.test)
    else:
        deviations = _deviations(together)
    section: dict[str, Json] = {
        "metrics": metric_figures(measured.federated, measured.metrics, deviations)
    }
    if together is not None:
        section |= {"counted": list(known), **_confusion(measured.labels, together)}
    section["clients"] = {
        name: {"metrics": metric_figures(scores, measured.metrics, each.get(name, {}))}
        for name, scores in measured.test.items()
    }
    return section


def _read(tally: ScoreTally, size: int) -> _Counted | None:
    """Read a tally; None where it tells nothing of this many labels."""
    sums = numpy.asarray(tally.sums.get(CONFUSION.name, ()), dtype=float)
    if tally.std:
        if sums.size != size**2:
            return None
        return _Counted(
            counts=sums.reshape(size, size), starts=tuple(range(size)), variance=tally.std**2
        )
    if sums.size != size * (size + 1):
        return None
    table = sums.reshape(size + 1, size)
    starts = numpy.flatnonzero(table[-1] == 0)
    return _Counted(counts=table[:-1, starts], starts=tuple(starts.tolist()), variance=0.0)


def _added(parts: Sequence[_Counted]) -> _Counted:
    """Add institutions up, between the predictions that all of them tell apart."""
    kept = functools.reduce(numpy.intersect1d, [numpy.array(one.starts) for one in parts])
    counts = [
        numpy.add.reduceat(one.counts, numpy.searchsorted(one.starts, kept), axis=1)
        for one in parts
    ]
    runs = numpy.diff([*kept, len(counts[0])])
    return _Counted(
        counts=numpy.asarray(numpy.sum(counts, axis=0)),
        starts=tuple(kept.tolist()),
        # Noise is in counts that nobody joins, unless others do: then of the widest run
        variance=sum(one.variance for one in parts) * float(runs.max()),
    )


def _confusion(labels: Sequence[str], counted: _Counted) -> dict[str, Json]:
    """Return who was taken for what, and the share of records that are so many steps off."""
    counts, size = counted.counts, len(labels)
    ends = [*counted.starts[1:], size]
    predicted = [
        labels[start] if end == start + 1 else f"{labels[start]} to {labels[end - 1]}"
        for start, end in zip(counted.starts, ends, strict=True)
    ]
    found: dict[str, Json] = {
        "records": rounded(max(1.0, float(counts.sum()))),
        "noise": rounded(math.sqrt(counted.variance)),
        "confusion": {
            "labels": list(labels),
            "predicted": list(predicted),
            "counts": [[rounded(float(it)) for it in row] for row in counts],
        },
    }
    if len(predicted) == size:
        found["steps"] = _steps(counts, counted.variance)
        found["by_label"] = [
            {"label": label, **_by_label(counts, place, counted.variance)}
            for place, label in enumerate(labels)
        ]
    return found


def _steps(counts: Floats, variance: float) -> list[Json]:
    """Return for each number of steps the share of records whose prediction is so far off."""
    places = numpy.arange(len(counts))
    distances = abs(places[:, None] - places)
    total = float(counts.sum())
    found: list[Json] = []
    for distance in range(len(counts)):
        cells = distances == distance
        part = max(0.0, float(counts[cells].sum()))
        found.append(
            {"steps": distance, "share": _share(part, total - part, int(cells.sum()), variance)}
        )
    return found


def _by_label(counts: Floats, place: int, variance: float) -> dict[str, Json]:
    """Return a label's recall and precision."""
    right, others = float(counts[place, place]), len(counts) - 1
    missed, wrong = counts[place].sum() - right, counts[:, place].sum() - right
    noise = variance, others * variance
    return {
        name: figure(
            right / (right + rest) if right >= 0 and rest >= 0 and right + rest >= 1 else math.nan,
            share_interval(right, float(rest), noise) if right >= 0 and rest >= 0 else None,
        )
        for name, rest in (("recall", float(missed)), ("precision", float(wrong)))
    }


def _share(part: float, rest: float, cells: int, variance: float) -> dict[str, Json]:
    rest = max(0.0, rest)
    value = part / (part + rest) if part + rest >= 1 else math.nan
    return figure(value, share_interval(part, rest, (cells * variance, cells * variance)))


def _deviations(counted: _Counted) -> dict[str, float]:
    """Return standard deviations of metrics over draws of records, noise apart.

    Where predictions are joined, they are taken to be the middle one of those that are.
    """
    size = len(counted.counts)
    ends = [*counted.starts[1:], size]
    square = numpy.zeros((size, size))
    for column, (start, end) in enumerate(zip(counted.starts, ends, strict=True)):
        square[:, (start + end - 1) // 2] = counted.counts[:, column]
    likely = nearest(square) if counted.variance else square
    # Public randomness: this says how sure a figure is and hides nothing.
    drawn = numpy.random.default_rng(_SEED).poisson(likely, size=(_DRAWS, size, size))
    kappa = [weighted_kappa_of(one.ravel().astype(float)) for one in drawn]
    distances = numpy.array([mae_of(one.ravel().astype(float)) for one in drawn])
    known = numpy.array([it for it in kappa if it is not None])
    return {"mae": spread(distances), **({"weighted_kappa": spread(known)} if len(known) else {})}


__all__ = ["describe_ordinal"]
