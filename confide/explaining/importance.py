"""What a model loses on records when a column tells it nothing: importance by permutation.

Breiman, "Random Forests" (Machine Learning 2001, section 10): the values of one column are dealt
out anew among the records, and what the metric loses is the column's importance. Each repeat also
draws the records anew, with replacement, so that intervals hold both the chance of the order and
that of the records (Efron 1979).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from confide.explaining.rows import Rows
from confide.inference.predictor import Predictor
from confide.metrics.metric import Metric

REPEATS = 40
MOST_RECORDS = 500
_TAIL = 2.5


class Importance(NamedTuple):
    """What the metric loses without a column.

    Attributes:
        column: its name.
        loss: mean over repeats, positive where the model is worse without it.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    column: str
    loss: float
    low: float
    high: float


class Importances(NamedTuple):
    """Importance of all columns.

    Attributes:
        metric: name of the metric.
        value: of the metric, with all columns.
        records: on how many.
        columns: the most important first.
    """

    metric: str
    value: float
    records: int
    columns: Sequence[Importance]


def permutation_importance(
    predictor: Predictor,
    rows: Rows,
    columns: Mapping[str, Sequence[str | None]],
    *,
    repeats: int = REPEATS,
    advance_fn: Callable[[], None] = lambda: None,
) -> Importances:
    """Measure the importance of each column.

    Args:
        predictor: a model of a table.
        rows: the same, for rows.
        columns: of labelled records, targets among them; the first MOST_RECORDS are taken.
        repeats: times that records and orders are drawn.
        advance_fn: called after each column.
    """
    taken = {
        name: numpy.array(values[:MOST_RECORDS], dtype=object) for name, values in columns.items()
    }
    count = len(next(iter(taken.values())))
    generator = numpy.random.default_rng(0)
    drawn = [generator.integers(count, size=count) for _ in range(repeats)]
    orders = [generator.permutation(count) for _ in range(repeats)]
    score_fn, labels = _scorer(predictor, taken)
    outputs = rows.outputs({name: values.tolist() for name, values in taken.items()})
    whole = [score_fn(outputs[places], labels[places]) for places in drawn]
    metric = _metric(predictor)
    # All repeats of a column at once: a table of many rows costs little more than one of few
    every = numpy.concatenate(drawn)
    repeated = {one: values[every].tolist() for one, values in taken.items()}
    found = []
    for name in rows.schema:
        dealt = numpy.concatenate(
            [taken[name][it][by] for it, by in zip(drawn, orders, strict=True)]
        )
        made = rows.outputs({**repeated, name: dealt.tolist()}).split(count)
        after = [score_fn(it, labels[places]) for it, places in zip(made, drawn, strict=True)]
        losses = [
            one - other if metric.direction == "max" else other - one
            for one, other in zip(whole, after, strict=True)
            if one is not None and other is not None
        ]
        advance_fn()
        if losses:
            low, high = numpy.percentile(losses, [_TAIL, 100 - _TAIL]).tolist()
            found.append(Importance(name, float(numpy.mean(losses)), low, high))
    found.sort(key=lambda it: -it.loss)
    value = score_fn(outputs, labels)
    return Importances(metric.name, float("nan") if value is None else value, count, found)


def _metric(predictor: Predictor) -> Metric:
    task = predictor.plan.task
    return task.metric_table[task.primary_metric]


def _scorer(
    predictor: Predictor, columns: Mapping[str, numpy.ndarray]
) -> tuple[Callable[[Tensor, Tensor], float | None], Tensor]:
    """Return what scores outputs against targets, and the targets."""
    names = predictor.plan.task.target_columns
    read = predictor.outcome.read({name: columns[name].tolist() for name in names})
    score_fn = _metric(predictor).score_fn

    def score(outputs: Tensor, targets: Tensor) -> float | None:
        scores = predictor.task.scores(outputs).numpy()
        return score_fn(*predictor.outcome.measured(scores, targets.numpy()))

    return score, torch.from_numpy(read.values)


__all__ = ["MOST_RECORDS", "REPEATS", "Importance", "Importances", "permutation_importance"]
