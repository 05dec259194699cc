"""What every classification with one label a record shares: labels, loss, scores, metrics."""

from collections import Counter
from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional

from confide.config import TaskConfig
from confide.errors import DataError
from confide.metrics import classification_metrics
from confide.tasks.task import LABELS, Batch


def require_columns(records: Dataset, names: Sequence[str]) -> None:
    """Check that columns exist.

    Raises:
        DataError: naming those that are missing and those that are there.
    """
    missing = [name for name in names if name not in records.column_names]
    if missing:
        raise DataError(
            f"The records lack column {', '.join(missing)}; they have {', '.join(records.column_names)}. "
            "Rename a column of the records or change the task's schema."
        )


def encode_labels(records: Dataset, config: TaskConfig) -> Tensor:
    """Map the label column to class indices.

    Returns:
        int64, shape [n].

    Raises:
        DataError: if the column is missing, has nulls, or has values the schema does not know.
    """
    require_columns(records, [config.label_column])
    index = {name: i for i, name in enumerate(config.labels)}
    to_index = {raw: index[name] for raw, name in config.label_values.items()} or index
    raw = [None if value is None else str(value) for value in records[config.label_column]]
    nulls = sum(value is None or value == "" for value in raw)
    if nulls:
        raise DataError(f"Column {config.label_column}: {nulls} of {len(raw)} labels are null; label or remove these records.")
    unknown = Counter(value for value in raw if value not in to_index)
    if unknown:
        shown = ", ".join(f"{value!r} ({count} records)" for value, count in unknown.most_common(5))
        raise DataError(
            f"Column {config.label_column}: unknown label {shown}; the plan knows {', '.join(to_index)}. "
            "Correct the records, or add the label to task.labels or task.label_values."
        )
    return torch.tensor([to_index[value] for value in raw if value is not None], dtype=torch.int64)


class SingleLabel:
    """Loss, scores and metrics of a task with one label a record."""

    def __init__(self, config: TaskConfig) -> None:
        self.labels: Sequence[str] = tuple(config.labels)
        self._metric_names = tuple(config.metrics)
        self._label_column = config.label_column

    def label_column(self) -> str:
        """Name the column that holds the label."""
        return self._label_column

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return cross entropy, shape [b].

        Args:
            outputs: logits, shape [b, c].
            batch: with ``labels``, shape [b].
        """
        return functional.cross_entropy(outputs.float(), batch[LABELS], reduction="none")

    def scores(self, outputs: Tensor) -> Tensor:
        """Return class probabilities, shape [b, c]."""
        return outputs.float().softmax(dim=-1)

    def metrics(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Score predictions: scores [n, c] against labels [n]."""
        return classification_metrics(scores, labels, self._metric_names)


__all__ = ["SingleLabel", "encode_labels", "require_columns"]
