"""What a run tells of its model beside metrics, made of tallies alone: the hook for outcomes.

A kind of outcome describes its tallies in a way of its own (:data:`DESCRIPTIONS`), or not at all;
whoever writes a summary calls :func:`describe`, and a report finds the section by its ``kind``.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from confide.metrics.metric import Metric, is_noisy, noise_name
from confide.metrics.subgroups.groups import Subgroups
from confide.metrics.tally import ScoreTally

log = logging.getLogger(__name__)

_A_RECORD = 0.5
Scores = Mapping[str, float]
"""Metric name -> value, with ``num_examples``."""
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What institutions told of one model.

    Attributes:
        labels: class names, in the order of the model's outputs.
        metrics: the task's table.
        federated: metrics of the model on all test records, or means over institutions.
        is_pooled: whether ``federated`` was measured on all records at once.
        test: institution -> its metrics on test records; {} where they left in a masked sum.
        tallies: institution -> sums over its test records.
        validation: institution -> sums over its validation records, of the same model.
        positive: class that is looked for, of two; None: the second.
        false_negative: cost of a record of that class which is not taken for one.
        false_positive: cost of another record which is.
        is_summed: whether ``federated`` alone is known, from a masked sum.
        settings: the outcome's, such as its intervals of time; None where its description needs
            none.
        subgroups: columns whose groups are told apart.
        least_in_group: fewest records of a group that is told of, >= 1.
    """

    labels: Sequence[str]
    metrics: Mapping[str, Metric]
    federated: Scores
    is_pooled: bool
    test: Mapping[str, Scores]
    tallies: Mapping[str, ScoreTally]
    validation: Mapping[str, ScoreTally] = field(default_factory=dict)
    positive: str | None = None
    false_negative: float = 1.0
    false_positive: float = 1.0
    is_summed: bool = False
    settings: object = None
    subgroups: Sequence[Subgroups] = ()
    least_in_group: int = 1


DescribeFn = Callable[[Measured], dict[str, Json]]
DESCRIPTIONS: dict[str, str] = {
    "classes": "confide.metrics.evaluations.classes.describe_classes",
    "multi_label": "confide.metrics.evaluations.multi_label.describe_multi_label",
    "ordinal": "confide.metrics.evaluations.ordinal.describe_ordinal",
    "regression": "confide.metrics.evaluations.regression.describe_regression",
    "survival": "confide.metrics.evaluations.survival.describe_survival",
    "forecast": "confide.metrics.evaluation.describe_metrics",
    "next_item": "confide.metrics.evaluation.describe_metrics",
    "spans": "confide.metrics.evaluations.spans.describe_spans",
    "transcript": "confide.metrics.evaluation.describe_metrics",
}
"""Kind of outcome -> dotted name of a :data:`DescribeFn`; imported when it is used."""


def describe(kind: str, measured: Measured) -> dict[str, Json]:
    """Return the summary's section on a model's test; {} where there is none.

    Args:
        kind: of the outcome.
        measured: what is known.
    """
    if kind not in DESCRIPTIONS or not (measured.test or measured.is_summed):
        return {}
    module, _, name = DESCRIPTIONS[kind].rpartition(".")
    describe_fn = cast(DescribeFn, getattr(import_module(module), name))
    return {"kind": kind, **describe_fn(measured)}


def describe_metrics(measured: Measured) -> dict[str, Json]:
    """Return metrics alone, with their intervals where these follow."""
    return {"metrics": metric_figures(measured.federated, measured.metrics, {})}


def figure(value: float, ends: tuple[float, float] | None) -> dict[str, Json]:
    """Return a figure and its 95 % interval, None for one that is not known, as plain JSON."""
    known = math.isfinite(value) and ends is not None and all(map(math.isfinite, ends))
    return {
        "value": rounded(value),
        "interval": [rounded(end) for end in ends] if known and ends else None,
    }


def rounded(value: float) -> float | None:
    """Return a figure to six digits after the point; None for what is not a number."""
    return round(float(value), 6) if math.isfinite(value) else None


def is_of_its_records(name: str, scores: Scores, tally: ScoreTally, counted: float) -> bool:
    """Tell whether a tally is of as many records as the metrics beside it; a noisy one may be.

    Args:
        name: of the institution.
        scores: its metrics.
        tally: what it tells beside them.
        counted: number of records that its sums come to.
    """
    if tally.std or abs(counted - scores["num_examples"]) < _A_RECORD:
        return True
    log.warning("%s: its counts are not of the records that its metrics are of; left out.", name)
    return False


def mean_deviations(
    parts: Mapping[str, Mapping[str, float]], scores: Mapping[str, Scores]
) -> dict[str, float]:
    """Return the standard deviations of means over institutions, weighted by their records.

    Args:
        parts: institution -> metric -> standard deviation over draws of its records.
        scores: institution -> its metrics.

    Returns:
        Metric -> standard deviation; metrics that somebody tells without one are left out.
    """
    found = {}
    for name in {name for known in parts.values() for name in known}:
        told = {who: one for who, one in scores.items() if name in one}
        if told and all(name in parts.get(who, {}) for who in told):
            records = [one["num_examples"] for one in told.values()]
            each = [parts[who][name] * n for who, n in zip(told, records, strict=True)]
            found[name] = math.hypot(*each) / sum(records)
    return found


def metric_figures(
    scores: Scores, metrics: Mapping[str, Metric], deviations: Mapping[str, float]
) -> dict[str, Json]:
    """Return metrics with their 95 % intervals, of noise and of records that were drawn.

    Args:
        scores: of one institution, or of all.
        metrics: the task's table.
        deviations: metric -> standard deviation over draws of records, where it is known.
    """
    from confide.metrics.intervals import interval_around, wilson

    found: dict[str, Json] = {}
    n = scores["num_examples"]
    for name, metric in metrics.items():
        if name not in scores:
            continue
        value, noise = scores[name], scores.get(noise_name(name), 0.0)
        sampling = deviations.get(name)
        if metric.proportion and 0 <= value <= 1 and n >= 1:
            sampling = math.sqrt(value * (1 - value) / n)
        ends = None
        if metric.proportion and not is_noisy(scores) and 0 <= value <= 1 and n >= 1:
            ends = wilson(value, n)
        # Of noise alone it would look surer than it is.
        elif sampling is not None:
            ends = interval_around(metric, value, noise=noise, sampling=sampling)
        found[name] = figure(value, ends)
    return found


__all__ = [
    "DESCRIPTIONS",
    "DescribeFn",
    "Json",
    "Measured",
    "describe",
    "describe_metrics",
    "figure",
    "is_of_its_records",
    "mean_deviations",
    "metric_figures",
    "rounded",
]
