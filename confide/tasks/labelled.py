"""What every built-in task shares, whatever its records: reading them, and asking its outcome."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.tasks import schema
from confide.tasks.invented import invented_columns
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import KnowsGradient
from confide.tasks.reading import Problem
from confide.tasks.schema import Read
from confide.tasks.task import LABELS, Batch, Examples


class Labelled(ABC):
    """A task whose loss, scores and metrics are those of its outcome."""

    def __init__(self, config: TaskConfig) -> None:
        self.labels: Sequence[str] = tuple(config.labels)
        self._schema, outcome = config, outcome_of(config)
        self._outcome = outcome
        # Looked at once: to ask a protocol takes longer than a small gradient.
        self._gradient_fn = outcome.loss_gradient if isinstance(outcome, KnowsGradient) else None

    def content_columns(self) -> Sequence[str]:
        """Name the columns that make a record what it is, label excluded.

        Equal contents are one unit.
        """
        return self._schema.content_columns

    def check(self, records: Dataset) -> list[str]:
        """List what does not fit the schema, columns that are missing included."""
        return [problem.text for problem in self.problems(records)]

    def problems(self, records: Dataset) -> list[Problem]:
        """List what :meth:`check` does, with the records that each is found in as far as known."""
        return self._read(records)[1]

    def read(self, records: Dataset) -> tuple[Read, Tensor]:
        """Read records that fit.

        Returns:
            What was read, and what is to be predicted, shape [n, ...]: class indices, or what else
            the outcome has.

        Raises:
            DataError: naming every problem.
        """
        read, found = self._read(records)
        if found:
            raise DataError([problem.text for problem in found])
        return read, torch.from_numpy(read.targets.values)

    def _read(self, records: Dataset) -> tuple[Read, list[Problem]]:
        # Reading looks at the columns that are there: those that are missing are one more problem,
        # so that a person sees all at once.
        read = schema.read(records, self._schema)
        needed = list(dict.fromkeys([*self.content_columns(), *self._schema.target_columns]))
        missing = [name for name in needed if name not in records.column_names]
        found = [
            *([Problem(schema.missing_columns(missing, records.column_names))] if missing else []),
            *read.problems,
        ]
        # Looked for in records that fit the schema: a subclass counts on its columns and values.
        return read, found or [Problem(text) for text in self.own_problems(records)]

    def own_problems(self, records: Dataset) -> list[str]:
        """List what a subclass demands of records beyond the schema, one sentence a problem.

        Each begins with ``Column NAME:``, and quotes no record.
        """
        return []

    def invent_columns(
        self, count: int, generator: numpy.random.Generator
    ) -> dict[str, Sequence[object]]:
        """Invent columns of records that differ, of unlike lengths; targets may be left out."""
        return invented_columns(self._schema, count, generator)

    def synthetic(self, count: int, generator: torch.Generator) -> Examples:
        """Invent raw records and encode them, so that what checks them sees encoding too."""
        seed = int(torch.randint(2**31, (), generator=generator))
        drawn = numpy.random.default_rng(seed)
        targets = self._outcome.invent(count, drawn)
        # A kind whose targets belong to its inputs, word by word, invents both together.
        columns = {**targets, **self.invent_columns(count, drawn)}
        return self.encode(Dataset.from_dict(columns))

    @abstractmethod
    def encode(self, records: Dataset) -> Examples:
        """Turn records into tensors: what a kind of task does in its own way."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the outcome's loss, shape [b].

        Args:
            outputs: of the model, shape [b, k].
            batch: with ``labels``, shape [b, ...].
        """
        return self._outcome.loss(outputs, batch[LABELS])

    def loss_gradient(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        """Return the gradient of each record's loss with respect to its outputs [b, k].

        None where only autograd knows it.
        """
        return None if self._gradient_fn is None else self._gradient_fn(outputs, batch[LABELS])

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the outcome's scores, such as class probabilities, shape [b, ...]."""
        return self._outcome.scores(outputs)

    def metrics(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Score predictions: scores [n, ...] against labels [n, ...]."""
        return outcome_metrics(
            self._outcome, scores, labels, self._schema.metrics, self._schema.metric_table
        )


__all__ = ["Labelled"]
