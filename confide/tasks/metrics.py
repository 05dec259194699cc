"""Scores and labels of a task -> its metrics."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from confide.metrics.metric import Metric


def class_metrics(
    scores: Tensor, labels: Tensor, names: Sequence[str], metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Score predictions of classes.

    Args:
        scores: class probabilities, shape [n, c], n >= 1.
        labels: class indices, shape [n].
        names: metrics wanted.
        metrics: the task's table.

    Returns:
        Name -> value; undefined metrics are left out.

    Raises:
        ValueError: naming a metric that the table lacks.
    """
    unknown = [name for name in names if name not in metrics]
    if unknown:
        raise ValueError(f"Expected a metric of {', '.join(metrics)}; got {unknown[0]!r}.")
    if not bool(scores.isfinite().all()):
        return {}  # a model that has diverged predicts nothing
    probabilities, truth = scores.double().cpu().numpy(), labels.cpu().numpy()
    # float32 probabilities add up to one only nearly.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    values = {name: metrics[name].score_fn(probabilities, truth) for name in names}
    return {name: value for name, value in values.items() if value is not None}


__all__ = ["class_metrics"]
