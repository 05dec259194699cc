"""The section on a classification: curves, calibration, thresholds, confusion, intervals."""

import math
from collections.abc import Mapping, Sequence

import numpy

from confide.metrics.calibration import calibration
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
from confide.metrics.intervals import (
    Z,
    auc_deviation,
    deviations,
    interval_around,
    share_interval,
)
from confide.metrics.outcomes.classification import CLASSIFICATION, OUTCOMES
from confide.metrics.score_table import (
    ScoreTable,
    add_up,
    auc,
    average_precision,
    brier,
    spread,
    tables_of,
)
from confide.metrics.tally import ScoreTally
from confide.metrics.thresholds import (
    Costs,
    as_probability,
    at_edges,
    cheapest,
    cost_a_record,
    nearest_edge,
    net_benefit,
    shown,
)

_MOST_POINTS = 512
"""Of a kind of curve, over all classes."""
_MOST_A_CLASS, _LEAST_A_CLASS = 64, 12


def describe_classes(measured: Measured) -> dict[str, Json]:
    """Return the section on a classification; see docs/evaluation.md for its fields."""
    classes = len(measured.labels)
    tallies = {name: it for name, it in measured.tallies.items() if _fits(name, it, measured)}
    tables = {name: tables_of(tally, classes) for name, tally in tallies.items()}
    tables = {name: they for name, they in tables.items() if they}
    outcomes = {name: outcomes_of(tally, classes) for name, tally in tallies.items()}
    confusions = {name: confusion_of(tally, classes) for name, tally in tallies.items()}
    known = {
        name: deviations(tables.get(name, []), outcomes[name], confusions[name]) for name in tallies
    }
    pooled = [add_up(each) for each in zip(*tables.values(), strict=True)]
    section: dict[str, Json] = {
        "metrics": metric_figures(
            measured.federated,
            measured.metrics,
            _federated_deviations(measured, pooled, outcomes, confusions, known),
        )
    }
    clients: dict[str, dict[str, Json]] = {
        name: {"metrics": metric_figures(scores, measured.metrics, known.get(name, {}))}
        for name, scores in measured.test.items()
    }
    if pooled and all(len(table.edges) for table in pooled):
        section |= _counted(measured, pooled, list(tables))
        section["confusion"] = _confusion(measured.labels, pooled, list(tallies.values()))
        if classes == 2:
            section |= _thresholds(measured, pooled[0], tables, clients)
    section["clients"] = {name: dict(line) for name, line in clients.items()}
    return section


def _fits(name: str, tally: ScoreTally, measured: Measured) -> bool:
    """Tell whether exact counts are of as many records as the metrics beside them."""
    told = measured.test.get(name)
    if told is None:
        return False
    classes = len(measured.labels)
    counts = [] if tally.std else [table.counts for table in tables_of(tally, classes)]
    confusion = confusion_of(tally, classes)
    counts += [] if confusion is None else [confusion]
    return all(is_of_its_records(name, told, tally, float(one.sum())) for one in counts)


def outcomes_of(tally: ScoreTally, classes: int) -> Floats | None:
    """Return records that were right, missed and wrongly taken, by class, shape [3, c].

    None where a tally does not tell, or tells exact ones of two classes by their scores alone.
    """
    sums = numpy.asarray(tally.sums.get(OUTCOMES.name, ()), dtype=float)
    if tally.std and sums.size == 3 * classes:
        # A wrong record's row has two entries of 1 / sqrt(2).
        return (sums.reshape(3, classes) * [[1.0], [2**0.5], [2**0.5]]).clip(min=0.0)
    counts = confusion_of(tally, classes)
    if counts is not None:
        right = counts.diagonal()
        return numpy.stack([right, counts.sum(axis=1) - right, counts.sum(axis=0) - right])
    return None


def confusion_of(tally: ScoreTally, classes: int) -> Floats | None:
    """Return records by label and likeliest class, shape [c, c]; None where a tally tells none."""
    counts = numpy.asarray(tally.sums.get(OUTCOMES.name, ()), dtype=float)
    if tally.std or counts.size != classes**2:
        return None
    return counts.reshape(classes, classes)


def _federated_deviations(
    measured: Measured,
    pooled: list[ScoreTable],
    outcomes: Mapping[str, Floats | None],
    confusions: Mapping[str, Floats | None],
    known: Mapping[str, Mapping[str, float]],
) -> Mapping[str, float]:
    if not measured.is_pooled:
        return mean_deviations(known, measured.test)
    return deviations(pooled, _sum(outcomes), _sum(confusions))


def _sum(parts: Mapping[str, Floats | None]) -> Floats | None:
    """Return the sum of what all institutions tell; None where one tells nothing."""
    told = [one for one in parts.values() if one is not None]
    return numpy.sum(told, axis=0) if told and len(told) == len(parts) else None


def _counted(measured: Measured, pooled: list[ScoreTable], names: list[str]) -> dict[str, Json]:
    """Return what was counted, and the curves of each class."""
    one = pooled[0]
    shown_names = list(measured.labels[-len(pooled) :])
    if len(pooled) == 1:
        shown_names, pooled = [_positive(measured)], [_of_positive(measured, one)]
    points = min(_MOST_A_CLASS, max(_LEAST_A_CLASS, _MOST_POINTS // len(pooled)))
    return {
        "records": rounded(one.records),
        "noise": rounded(math.sqrt(float(one.variances.max()))),
        "bins": len(one.edges) + 1,
        "counted": list(names),
        "classes": {
            name: _class_section(table, points)
            for name, table in zip(shown_names, pooled, strict=True)
        },
    }


def _positive(measured: Measured) -> str:
    return measured.labels[1] if measured.positive is None else measured.positive


def _of_positive(measured: Measured, table: ScoreTable) -> ScoreTable:
    """Return the table of the class that is looked for, of two."""
    return table if _positive(measured) == measured.labels[1] else table.reversed()


def _class_section(table: ScoreTable, points: int) -> dict[str, Json]:
    """Return the figures and curves of one class against the rest."""
    draws, found = table.draws, calibration(table)
    area = auc(table.counts)
    sure = spread(auc(draws.counts)) if table.is_noisy else auc_deviation(table)
    precision = average_precision(table.counts)
    squares = brier(table.counts, table.edges)
    return {
        "auc": _around("auc", area, sure),
        "average_precision": _around(
            "average_precision", precision, spread(average_precision(draws.counts))
        ),
        "brier": _around("brier", squares, spread(brier(draws.counts, draws.edges))),
        "predicted": rounded(found.predicted),
        "observed": figure(found.observed, found.interval),
        "calibration_error": {
            **figure(
                found.error,
                (max(0.0, found.error - Z * found.deviation), found.error + Z * found.deviation),
            ),
            "by_chance": rounded(found.by_chance),
        },
        "calibration": [
            {
                "records": rounded(group.records),
                "predicted": rounded(group.predicted),
                "observed": rounded(group.observed),
                "interval": [rounded(end) for end in group.interval] if group.interval else None,
            }
            for group in found.groups
        ],
        **_curves(table, points),
    }


def _around(name: str, value: Floats, deviation: float) -> dict[str, Json]:
    if not math.isfinite(float(value)):
        return figure(math.nan, None)
    return figure(
        float(value),
        interval_around(CLASSIFICATION[name], float(value), noise=0.0, sampling=deviation),
    )


def _curves(table: ScoreTable, most: int) -> dict[str, Json]:
    """Return points of the ROC and precision-recall curves, from high thresholds to low ones."""
    right, wrong, missed, left = at_edges(table.counts)[:, ::-1].clip(min=0.0)
    points, recall, false_rate = {}, 0.0, 0.0
    for right_, wrong_, missed_, left_ in zip(right, wrong, missed, left, strict=True):
        if right_ + missed_ < 1 or wrong_ + left_ < 1 or right_ + wrong_ <= 0:
            continue
        # With noise a curve may turn back: a higher recall takes no fewer of the others.
        recall = max(right_ / (right_ + missed_), recall)
        false_rate = max(wrong_ / (wrong_ + left_), false_rate)
        points[round(recall, 6), round(false_rate, 6)] = right_ / (right_ + wrong_)
    chosen = list(points.items())
    if len(chosen) > most:
        places = numpy.linspace(0, len(chosen) - 1, most).round().astype(int)
        chosen = [chosen[place] for place in places]
    return {
        "roc": [[x, y] for (y, x), _ in chosen],
        "precision_recall": [[x, rounded(precise)] for (x, _), precise in chosen],
    }


def _confusion(
    labels: Sequence[str], pooled: list[ScoreTable], tallies: list[ScoreTally]
) -> dict[str, Json]:
    """Return records by label and likeliest class, or right, missed and wrong ones by class."""
    classes = len(labels)
    named: dict[str, Json] = {"labels": list(labels)}
    if classes == 2:
        table = pooled[0]
        half = nearest_edge(table, 0.0)
        if table.edges[half] != 0:
            return {}
        decided = at_edges(table.counts)[:, half].clip(min=0.0)
        right, wrong, missed, left = (rounded(it) for it in decided)
        return {**named, "counts": [[left, wrong], [missed, right]]}
    told = [outcomes_of(tally, classes) for tally in tallies]
    known = [one for one in told if one is not None]
    if not known or len(known) < len(told):
        return {}
    by_class = numpy.sum(known, axis=0)
    noise = 2 * sum(tally.std**2 for tally in tallies)
    named["by_class"] = [
        {
            "label": label,
            "recall": _share(right, missed, (noise / 2, noise)),
            "precision": _share(right, wrong, (noise / 2, noise)),
        }
        for label, (right, missed, wrong) in zip(labels, by_class.T, strict=True)
    ]
    if not noise:
        counts = numpy.sum([tally.sums[OUTCOMES.name] for tally in tallies], axis=0)
        named["counts"] = [[int(it) for it in row] for row in counts.reshape(classes, classes)]
    return named


def _share(part: float, rest: float, noise: tuple[float, float]) -> dict[str, Json]:
    value = part / (part + rest) if part + rest >= 1 else math.nan
    return figure(value, share_interval(part, rest, noise))


def _thresholds(
    measured: Measured,
    pooled: ScoreTable,
    tables: Mapping[str, list[ScoreTable]],
    clients: dict[str, dict[str, Json]],
) -> dict[str, Json]:
    """Return the table of thresholds, and add to each institution what the chosen one does."""
    costs = Costs(missed=measured.false_negative, wrong=measured.false_positive)
    table = _of_positive(measured, pooled)
    chosen_by, by = _validated(measured), "validation"
    if chosen_by is None:
        chosen_by, by = table, "test"
    edge, is_sure = cheapest(chosen_by, costs) or (0.0, False)
    place = nearest_edge(table, edge)
    rows = [
        {**_row(table, it, costs), "chosen": it == place}
        for it in shown(table, (costs.threshold, as_probability(table.edges[place])))
    ]
    for name, (own,) in tables.items():
        its = _of_positive(measured, own)
        if (
            len(its.edges)
            and its.edges[nearest_edge(its, table.edges[place])] == table.edges[place]
        ):
            clients[name]["at_threshold"] = _row(its, nearest_edge(its, table.edges[place]), costs)
    rest, found = table.counts.sum(axis=0).clip(min=0.0)
    nobody = numpy.array([0.0, 0.0, found, rest])
    everybody = numpy.array([found, rest, 0.0, 0.0])
    chosen = as_probability(table.edges[place])
    return {
        "positive": _positive(measured),
        "thresholds": {
            "costs": {"false_negative": costs.missed, "false_positive": costs.wrong},
            "chosen": rounded(chosen),
            "chosen_by": by if is_sure else "costs",
            "chosen_on": by,
            "if_calibrated": rounded(costs.threshold),
            "cost_of_nobody": rounded(float(cost_a_record(nobody, costs))),
            "cost_of_everybody": rounded(float(cost_a_record(everybody, costs))),
            "net_benefit_of_everybody": rounded(float(net_benefit(everybody, numpy.array(chosen)))),
            "rows": [dict(row) for row in rows],
        },
    }


def _validated(measured: Measured) -> ScoreTable | None:
    """Return the table of validation records, by which a threshold may be chosen."""
    told = [tables_of(it, len(measured.labels)) for it in measured.validation.values()]
    known = [they[0] for they in told if they]
    table = _of_positive(measured, add_up(known)) if known else None
    return table if table is not None and len(table.edges) else None


def _row(table: ScoreTable, place: int, costs: Costs) -> dict[str, Json]:
    """Return what a threshold at an edge decides."""
    decided = at_edges(table.counts)[:, place].clip(min=0.0)
    right, wrong, missed, left = (float(it) for it in decided)
    above, below = (float(part.sum()) for part in numpy.split(table.variances, [place + 1])[::-1])
    threshold = as_probability(table.edges[place])
    draws = table.draws
    # Bins of draws may be wider: then the nearest edge tells how costs spread.
    near = int(numpy.abs(draws.edges - table.edges[place]).argmin())
    drawn = at_edges(draws.counts)[..., near]
    cost = float(cost_a_record(decided, costs))
    cost_deviation = spread(cost_a_record(drawn, costs))
    benefit = float(net_benefit(decided, numpy.array(threshold)))
    benefit_deviation = spread(net_benefit(drawn, numpy.array(threshold)))
    return {
        "threshold": rounded(threshold),
        "flagged": _share(right + wrong, missed + left, (2 * above, 2 * below)),
        "sensitivity": _share(right, missed, (above, below)),
        "specificity": _share(left, wrong, (below, above)),
        "ppv": _share(right, wrong, (above, above)),
        "npv": _share(left, missed, (below, below)),
        "cost": figure(cost, (max(0.0, cost - Z * cost_deviation), cost + Z * cost_deviation)),
        "net_benefit": figure(
            benefit, (benefit - Z * benefit_deviation, benefit + Z * benefit_deviation)
        ),
    }


__all__ = ["confusion_of", "describe_classes", "outcomes_of"]
