"""Metrics of a classification, by scikit-learn, and which direction is better."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from confide.config.task import METRICS


def classification_metrics(
    scores: Tensor, labels: Tensor, names: Sequence[str]
) -> dict[str, float]:
    """Score predictions.

    Args:
        scores: class probabilities, shape [n, c], n >= 1.
        labels: class indices, shape [n].
        names: metrics wanted, of :data:`confide.config.task.METRICS`.

    Returns:
        Name -> value. AUC (one against the rest, mean over classes) is left out where a class has
        no record: it is undefined there, not zero.
    """
    if not bool(scores.isfinite().all()):
        return {}  # a model that has diverged predicts nothing
    probabilities, truth = scores.double().cpu().numpy(), labels.cpu().numpy()
    classes = np.arange(probabilities.shape[1])
    # float32 probabilities do not add up to one closely enough for scikit-learn.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    values: dict[str, float] = {}
    for name in names:
        value = _score(name, truth, probabilities, classes)
        if value is not None:
            values[name] = value
    return values


def _score(
    name: str, truth: np.ndarray, probabilities: np.ndarray, classes: np.ndarray
) -> float | None:
    if name == "accuracy":
        return float((probabilities.argmax(axis=1) == truth).mean())
    if name == "macro_f1":
        return float(
            sklearn_metrics.f1_score(
                truth,
                probabilities.argmax(axis=1),
                labels=classes,
                average="macro",
                zero_division=0,
            )
        )
    if name == "log_loss":
        return float(sklearn_metrics.log_loss(truth, probabilities, labels=classes))
    if name == "auc":
        if len(np.unique(truth)) < len(classes):
            return None
        scores = probabilities[:, 1] if len(classes) == 2 else probabilities
        return float(
            sklearn_metrics.roc_auc_score(
                truth, scores, multi_class="ovr", labels=classes if len(classes) > 2 else None
            )
        )
    raise ValueError(f"Expected a metric of {', '.join(METRICS)}; got {name!r}.")


def is_better(name: str, value: float, than: float | None) -> bool:
    """Tell whether a metric's value beats another; anything beats None, and NaN beats nothing."""
    if value != value:
        return False
    if than is None:
        return True
    return value > than if METRICS[name] == "max" else value < than


__all__ = ["classification_metrics", "is_better"]
