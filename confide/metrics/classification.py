"""Metrics of tasks with one label a record, by scikit-learn.

scikit-learn is imported where a value is computed: every config reads this table, few processes
score anything.
"""

import math
from typing import TYPE_CHECKING

from confide.metrics.metric import Metric, table

if TYPE_CHECKING:
    import numpy


def accuracy(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the share of records whose likeliest class is their label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def macro_f1(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean of F1 over classes; a class that is neither there nor predicted counts 0."""
    from sklearn.metrics import f1_score

    # Named, since an institution's records may lack a class, which scikit-learn would leave out.
    classes = list(range(probabilities.shape[1]))
    predicted = probabilities.argmax(axis=1)
    return float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0))


def auc(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float | None:
    """Return the area under the ROC curve: one class against the rest, mean over classes.

    None where a class has no record: it is undefined there, not zero.
    """
    from sklearn.metrics import roc_auc_score

    classes = list(range(probabilities.shape[1]))
    if len(set(labels.tolist())) < len(classes):
        return None
    # Of two classes scikit-learn takes the second one's scores, of more all.
    if len(classes) == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(roc_auc_score(labels, probabilities, multi_class="ovr", labels=classes))


def log_loss(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean of minus the logarithm of the true class's probability."""
    from sklearn import metrics

    return float(
        metrics.log_loss(labels, probabilities, labels=list(range(probabilities.shape[1])))
    )


CLASSIFICATION: dict[str, Metric] = table(
    Metric(
        name="accuracy",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=accuracy,
        proportion=True,
    ),
    Metric(name="macro_f1", direction="max", least=0.0, largest=1.0, score_fn=macro_f1),
    Metric(name="auc", direction="max", least=0.0, largest=1.0, score_fn=auc),
    Metric(name="log_loss", direction="min", least=0.0, largest=math.inf, score_fn=log_loss),
)
"""Metrics of a classification, by name."""


__all__ = ["CLASSIFICATION", "accuracy", "auc", "log_loss", "macro_f1"]
