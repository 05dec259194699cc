"""What is told of a group where one of several classes is predicted, or one of labels in order.

Of each group records by class and prediction are counted (:data:`CELLS`), and by score where a
metric by ranks is told: rates, the macro F1, areas and calibration follow. Log losses are not told
by group: sums of them are one more statistic with noise, and Brier scores follow from scores.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy

from confide.metrics.counts import truth_counts
from confide.metrics.floor import Floor
from confide.metrics.grids import Floats, Integers
from confide.metrics.intervals import auc_deviation, interval_around, share_interval
from confide.metrics.metric import Metric, Statistic
from confide.metrics.outcomes.classification import CLASSIFICATION, HITS, usable
from confide.metrics.outcomes.classification import RANKS as OF_ALL
from confide.metrics.outcomes.ordinal import median_labels
from confide.metrics.score_table import ScoreTable, add_up, auc, brier, spread, tables_in
from confide.metrics.subgroups.gaps import FALSE_POSITIVES, RECALL, SELECTION, Measure, records
from confide.metrics.subgroups.kind import Context, GroupKind
from confide.metrics.subgroups.pooled import GroupSums
from confide.metrics.tally import ScoreTally

_DRAWS, _SEED = 200, 0
_BY_RANKS = ("auc", "average_precision")
_BINS, _COARSER = 256, 64
"""Of exact scores of a group, of two classes and of several: fewer than of all records."""
PredictFn = Callable[[Floats], Integers]
"""Probabilities [n, c] -> what is predicted [n]."""


def _likeliest(probabilities: Floats) -> Integers:
    return numpy.asarray(probabilities.argmax(axis=1))


def cells(predict_fn: PredictFn) -> Statistic:
    """Return the statistic of records by class and prediction, [c, c] a group."""

    def rows(probabilities: Floats, labels: Integers) -> Floats:
        count, classes = probabilities.shape
        found = numpy.zeros((count, classes, classes))
        found[numpy.arange(count), labels, predict_fn(probabilities)] = 1.0
        return found.reshape(count, classes**2)

    def exact(probabilities: Floats, labels: Integers, floor: Floor) -> Integers:
        predicted, classes = predict_fn(probabilities), probabilities.shape[1]
        # The model decides who is taken for what: of sets of few units only who was right is told
        if floor.is_off or all(floor.enough(predicted == one) for one in range(classes)):
            return numpy.asarray(rows(probabilities, labels).sum(axis=0), dtype=numpy.int64)
        return _hits(predicted, labels)

    return Statistic(
        name="cells",
        rows_fn=rows,
        usable_fn=usable,
        counts_fn=lambda classes: numpy.ones(classes**2),
        exact_fn=exact,
    )


def _hits(predicted: Integers, labels: Integers) -> Integers:
    right = int(numpy.count_nonzero(predicted == labels))
    return numpy.array([right, len(labels) - right])


def _exact_hits(probabilities: Floats, labels: Integers, floor: Floor) -> Integers:
    return _hits(_likeliest(probabilities), labels)


def _score_counts(probabilities: Floats, labels: Integers, floor: Floor) -> Integers | None:
    """Count records of a group by score, in fewer bins than all records are counted in."""
    classes = probabilities.shape[1]
    scores = probabilities[:, 1:] if classes == 2 else probabilities
    counted = numpy.arange(classes - scores.shape[1], classes)
    return truth_counts(scores, labels[:, None] == counted, _bins(classes), floor)


def _bins(classes: int) -> int:
    return _BINS if classes == 2 else _COARSER


CELLS, MEDIAN_CELLS = cells(_likeliest), cells(median_labels)
RIGHT = replace(HITS, name=CELLS.name, exact_fn=_exact_hits)
RANKS = replace(OF_ALL, exact_fn=_score_counts)


def _of_classes(table: Mapping[str, Metric], told: Sequence[str]) -> list[Statistic]:
    by_score = any(name in _BY_RANKS for name in told)
    # Scores tell as much at 1/2; a policy that lets accuracy alone out tells who is right alone
    if by_score or "macro_f1" in told:
        return [CELLS, *([RANKS] if by_score else [])]
    return [RIGHT] if "accuracy" in told else []


def _of_grades(table: Mapping[str, Metric], told: Sequence[str]) -> list[Statistic]:
    return [MEDIAN_CELLS] if any(name in table for name in told) else []


# --- what follows


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counted:
    """What institutions counted of a group.

    Attributes:
        cells: records by class and prediction, of those that tell them, [c, c]; with noise they may
            be negative, and are added as they are, since sums are right in the mean.
        variance: of the noise in each.
        right: records predicted right, of all institutions.
        wrong: the others.
        variances: of the noise in these two.
    """

    cells: Floats
    variance: float
    right: float
    wrong: float
    variances: tuple[float, float]

    @classmethod
    def of(cls, sums: GroupSums, classes: int) -> "_Counted":
        found, variance = numpy.zeros((classes, classes)), 0.0
        right = wrong = alone = 0.0
        for values, std in sums.of(CELLS.name):
            if len(values) == classes**2:
                found += values.reshape(classes, classes)
                variance += std**2
            else:  # right and wrong ones alone
                right, wrong = right + float(values[0]), wrong + float(values[1])
                alone += std**2
        right += float(found.trace())
        wrong += float(found.sum() - found.trace())
        return cls(
            cells=found,
            variance=variance,
            right=right,
            wrong=wrong,
            variances=(classes * variance + alone, (classes**2 - classes) * variance + alone),
        )


def _class_measures(sums: GroupSums, context: Context) -> dict[str, Measure]:
    """Return the rates of a group, of the class that is looked for or of each of several."""
    classes = len(context.labels)
    counted = _Counted.of(sums, classes)
    told = [_records(counted), _accuracy(counted)]
    tables = _tables(sums, classes)
    has_cells = counted.cells.sum() >= 1
    if has_cells:
        told.append(_macro_f1(counted))
    if tables:
        told += [_auc(tables), _brier(tables)]
    looked_for = range(classes) if context.positive is None else [context.positive]
    for place in looked_for:
        of = "" if context.positive is not None else context.labels[place]
        if has_cells:
            told += _rates(counted, place, of)
        if tables:
            table = tables[0] if len(tables) == 1 else tables[place]
            table = table.reversed() if len(tables) == 1 and place == 0 else table
            told.append(_calibration(table, of))
    return {f"{one.name} ({one.of})" if one.of else one.name: one for one in told}


def _records(counted: _Counted) -> Measure:
    return records(counted.right + counted.wrong, sum(counted.variances))


def _accuracy(counted: _Counted) -> Measure:
    return _share("accuracy", counted.right, counted.wrong, counted.variances)


def _share(
    name: str,
    part: float,
    rest: float,
    noise: tuple[float, float],
    *,
    of: str = "",
    is_compared: bool = True,
) -> Measure:
    """Return a share of part in both numbers; unknown of less than one record."""
    part, rest = max(0.0, part), max(0.0, rest)
    value = part / (part + rest) if part + rest >= 1 else math.nan
    return Measure(
        name=name,
        of=of,
        value=value,
        ends_fn=lambda z: share_interval(part, rest, noise, z=z),
        is_compared=is_compared,
    )


def _rates(counted: _Counted, place: int, of: str) -> list[Measure]:
    """Return a class's prevalence, selection rate, recall, false positive rate and precision.

    With one class of two is the complement of the other's selection and of its recall.
    """
    cells, noise, others = counted.cells, counted.variance, len(counted.cells) - 1
    right = float(cells[place, place])
    missed, wrong = float(cells[place].sum()) - right, float(cells[:, place].sum()) - right
    left = float(cells.sum()) - right - missed - wrong
    line, rest = (others + 1) * noise, (others + 1) * others * noise
    return [
        _share("prevalence", right + missed, wrong + left, (line, rest), of=of, is_compared=False),
        _share(SELECTION, right + wrong, missed + left, (line, rest), of=of),
        _share(RECALL, right, missed, (noise, others * noise), of=of),
        _share(FALSE_POSITIVES, wrong, left, (others * noise, others**2 * noise), of=of),
        _share("precision", right, wrong, (noise, others * noise), of=of),
    ]


def _macro_f1(counted: _Counted) -> Measure:
    """Return the mean of F1 over classes; its interval by draws of records and of noise."""
    rng = numpy.random.default_rng(_SEED)
    drawn = rng.poisson(counted.cells.clip(min=0.0), size=(_DRAWS, *counted.cells.shape)).astype(
        float
    )
    drawn += rng.normal(size=drawn.shape) * math.sqrt(counted.variance)
    value = float(_f1(counted.cells))
    deviation = spread(_f1(drawn))
    return _around("macro_f1", value, deviation)


def _f1(cells: Floats) -> Floats:
    """Return the mean of F1 over classes: [..., c, c] -> [...]."""
    right = numpy.diagonal(cells, axis1=-2, axis2=-1)
    both = (cells.sum(axis=-1) + cells.sum(axis=-2)).clip(min=1.0)
    return numpy.asarray((2 * right / both).clip(0, 1).mean(axis=-1))


def _around(name: str, value: float, deviation: float, *, is_compared: bool = True) -> Measure:
    metric = CLASSIFICATION[name]
    return Measure(
        name=name,
        value=value,
        is_compared=is_compared,
        ends_fn=lambda z: interval_around(metric, value, noise=0.0, sampling=deviation, z=z),
    )


def _tables(sums: GroupSums, classes: int) -> list[ScoreTable]:
    """Return records of a group by score, of the second of two classes or of each."""
    histograms = 1 if classes == 2 else classes
    found = [
        tables_in(
            ScoreTally(sums={RANKS.name: list(values)}, std=std),
            RANKS.name,
            histograms,
            exact=_bins(classes),
        )
        for values, std in sums.of(RANKS.name)
    ]
    known = [tables for tables in found if tables]
    return [add_up(each) for each in zip(*known, strict=True)]


def _auc(tables: Sequence[ScoreTable]) -> Measure:
    """Return the area under the ROC curve, the mean over classes; unknown where one has nobody."""
    sizes = [table.counts.sum(axis=0).min() for table in tables]
    value = float(numpy.mean([auc(table.counts) for table in tables]))
    deviation = numpy.mean(
        [
            spread(auc(table.draws.counts)) if table.is_noisy else auc_deviation(table)
            for table in tables
        ]
    )
    return _around("auc", value if min(sizes) >= 1 else math.nan, float(deviation))


def _brier(tables: Sequence[ScoreTable]) -> Measure:
    """Return the mean squared error, half its sum over classes.

    Not compared: where a class is rarer there is less to be wrong about.
    """
    halves = 1 if len(tables) == 1 else 2
    each = [float(brier(table.counts, table.edges)) for table in tables]
    drawn = [brier(table.draws.counts, table.draws.edges) for table in tables]
    deviation = sum(map(spread, drawn)) / halves
    return _around("brier", sum(each) / halves, deviation, is_compared=False)


def _calibration(table: ScoreTable, of: str) -> Measure:
    """Return the observed share of a class less the mean of its probabilities."""
    total = table.records
    observed = min(max(float(table.counts[:, 1].sum()) / total, 0.0), 1.0)
    expected = min(max(float(table.counts.sum(axis=1) @ table.middles) / total, 0.0), 1.0)
    noise = float(table.variances @ ((1 - table.middles) ** 2 + table.middles**2)) / total**2
    deviation = math.sqrt(max(observed * (1 - observed), 0.0) / total + noise)
    value = observed - expected
    return Measure(
        name="calibration",
        of=of,
        value=value,
        ends_fn=lambda z: (max(-1.0, value - z * deviation), min(1.0, value + z * deviation)),
    )


def _grade_measures(sums: GroupSums, context: Context) -> dict[str, Measure]:
    """Return how far labels in order are off in a group."""
    counted = _Counted.of(sums, len(context.labels))
    told = [_records(counted), _accuracy(counted)]
    if counted.cells.sum() >= 1:
        places = numpy.arange(len(context.labels))
        steps = places[None] - places[:, None]
        told += [_mean("mae", counted, abs(steps)), _mean("mean_error", counted, steps)]
    return {one.name: one for one in told}


def _mean(name: str, counted: _Counted, values: Integers) -> Measure:
    """Return the mean of a value of each cell."""
    cells, total = counted.cells, float(counted.cells.sum())
    mean = float((cells * values).sum()) / total
    away = (values - mean) ** 2
    variance = max(0.0, float((cells * away).sum()) / total)
    half = math.sqrt(variance / total + counted.variance * float(away.sum()) / total**2)
    return Measure(name=name, value=mean, ends_fn=lambda z: (mean - z * half, mean + z * half))


CLASSES = GroupKind(statistics_fn=_of_classes, measures_fn=_class_measures)
GRADES = GroupKind(statistics_fn=_of_grades, measures_fn=_grade_measures)


__all__ = ["CELLS", "CLASSES", "GRADES", "MEDIAN_CELLS", "RANKS", "RIGHT", "cells"]
