"""What every classification with one label a record shares: labels, loss, scores, metrics."""

from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional

from confide.config.task import TaskConfig
from confide.errors import DataError
from confide.tasks import schema
from confide.tasks.metrics import class_metrics
from confide.tasks.schema import Read
from confide.tasks.task import LABELS, Batch


class SingleLabel:
    """Loss, scores and metrics of a task with one label a record."""

    def __init__(self, config: TaskConfig) -> None:
        self.labels: Sequence[str] = tuple(config.labels)
        self._metric_names = tuple(config.metrics)
        self._label_column = config.label_column
        self._schema = config

    def content_columns(self) -> Sequence[str]:
        """Name the columns that make a record what it is, label excluded.

        Equal contents are one unit.
        """
        return self._schema.content_columns

    def check(self, records: Dataset) -> list[str]:
        """List what does not fit the schema, columns that are missing included."""
        return self._read(records)[1]

    def read(self, records: Dataset) -> tuple[Read, Tensor]:
        """Read records that fit.

        Returns:
            What was read, and the class indices: int64, shape [n].

        Raises:
            DataError: naming every problem.
        """
        read, found = self._read(records)
        if found:
            raise DataError(found)
        return read, torch.tensor(
            [index for index in read.labels.indices if index is not None], dtype=torch.int64
        )

    def _read(self, records: Dataset) -> tuple[Read, list[str]]:
        # Reading looks at the columns that are there: those that are missing are one more problem,
        # so that a person sees all at once.
        read = schema.read(records, self._schema)
        needed = [*self.content_columns(), self._label_column]
        missing = [name for name in needed if name not in records.column_names]
        return read, [
            *([schema.missing_columns(missing, records.column_names)] if missing else []),
            *(problem.text for problem in read.problems),
        ]

    def label_column(self) -> str:
        """Name the column that holds the label."""
        return self._label_column

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return cross entropy, shape [b].

        Args:
            outputs: logits, shape [b, c].
            batch: with ``labels``, shape [b].
        """
        # In float32 under autocast too: bfloat16 would lose small differences of losses.
        exact = outputs if outputs.dtype == torch.float64 else outputs.float()
        return functional.cross_entropy(exact, batch[LABELS], reduction="none")

    def scores(self, outputs: Tensor) -> Tensor:
        """Return class probabilities, shape [b, c]."""
        return outputs.float().softmax(dim=-1)

    def metrics(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Score predictions: scores [n, c] against labels [n]."""
        return class_metrics(scores, labels, self._metric_names, self._schema.metric_table)


__all__ = ["SingleLabel"]
