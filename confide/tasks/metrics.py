"""Scores of records and what was to be predicted of them -> a task's metrics."""

from collections.abc import Mapping, Sequence

import numpy
from torch import Tensor

from confide.metrics.metric import Metric
from confide.tasks.outcomes.outcome import Outcome


def outcome_metrics(
    outcome: Outcome,
    scores: Tensor,
    targets: Tensor,
    names: Sequence[str],
    metrics: Mapping[str, Metric],
) -> dict[str, float]:
    """Score predictions.

    Args:
        outcome: what was predicted.
        scores: as the outcome gives them, such as class probabilities, shape [n, ...].
        targets: as the outcome has them, such as class indices, shape [n, ...].
        names: metrics wanted.
        metrics: the task's table.

    Returns:
        Name -> value; undefined metrics are left out, and of no record all are.

    Raises:
        ValueError: naming a metric that the table lacks.
    """
    unknown = [name for name in names if name not in metrics]
    if unknown:
        raise ValueError(f"Expected a metric of {', '.join(metrics)}; got {unknown[0]!r}.")
    values = scores.double().cpu().numpy()
    # A model that has diverged predicts nothing
    if not len(values) or not numpy.isfinite(values).all():
        return {}
    told, truth = outcome.measured(values, targets.cpu().numpy())
    found = {name: metrics[name].score_fn(told, truth) for name in names}
    return {name: value for name, value in found.items() if value is not None}


__all__ = ["outcome_metrics"]
