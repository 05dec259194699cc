"""What a task is, and how encoded records are held.

A task owns its schema and its batches; the loss of one record, scores and metrics are those of its
outcome (:mod:`confide.tasks.outcomes`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional

from confide.moved import moved
from confide.tasks.reading import Problem

Batch = dict[str, Tensor]
"""Column -> tensor of shape [b, ...]; ``labels``, what is to be predicted, among them."""

Assets = Mapping[str, Callable[[], Any]]
"""What lies beside a backbone, such as its ``tokenizer``: name -> loads it when called."""

OutputFn = Callable[[Batch], Tensor]
"""A batch -> outputs, as a model gives them, shape [b, ...]."""

LABELS = "labels"
LENGTH_STEP = 8


def padded_length(tokens: int) -> int:
    """Return the length a record of so many tokens is padded to.

    The next multiple of 8, a function of the record alone.
    """
    return -(-tokens // LENGTH_STEP) * LENGTH_STEP


@dataclass(frozen=True)
class Examples:
    """Encoded records.

    Attributes:
        columns: column -> tensor of shape [n, ...], ``labels`` among them.
        lengths: tokens of each record, shape [n]; ragged columns, of shape [n, t, ...] with t a
            multiple of 8, are cut to the padded length of a batch's longest.
        ragged: name of each such column -> what stands behind a record's own tokens: 0 for token
            ids, which are masked; -100 for labels of tokens, since 0 is a label.
    """

    columns: Mapping[str, Tensor]
    lengths: Tensor | None = None
    ragged: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self._count

    # Asked of every institution in every round, and a tensor takes its time to say it.
    @functools.cached_property
    def _count(self) -> int:
        return len(self.columns[LABELS])

    @property
    def labels(self) -> Tensor:
        """What is to be predicted, shape [n, ...]: class indices, or what else the outcome has."""
        return self.columns[LABELS]

    def take(self, indices: Tensor) -> Batch:
        """Return one batch, of the records at ``indices`` (int64, shape [b], b >= 1)."""
        places = moved(indices, self.labels.device)
        batch = {name: column[places] for name, column in self.columns.items()}
        longest = self.padded(indices)
        if longest is not None:
            # Not the longest of all: padding would cost, and rounding depend on other records.
            for name in self.ragged:
                batch[name] = batch[name][:, :longest].contiguous()
        return batch

    def select(self, indices: Tensor) -> "Examples":
        """Return some records (int64, shape [m]), of whatever lengths."""
        return Examples(
            {name: column[indices] for name, column in self.columns.items()},
            None if self.lengths is None else self.lengths[indices.cpu()],
            self.ragged,
        )

    def with_labels(self, labels: Tensor) -> "Examples":
        """Return the same records with other labels."""
        return Examples({**self.columns, LABELS: labels}, self.lengths, self.ragged)

    def with_tokens(self, name: str, column: Tensor, *, fill: int = 0) -> "Examples":
        """Return the same with one more ragged column, shape [n, t, ...].

        Args:
            name: of the model's argument that it becomes.
            column: what it holds of each token.
            fill: what stands behind a record's own tokens.
        """
        return Examples({**self.columns, name: column}, self.lengths, {**self.ragged, name: fill})

    def length_buckets(self, indices: Tensor) -> list[Tensor]:
        """Sort records by padded length, so that none is padded on another's account."""
        if self.lengths is None:
            return [indices]
        padded = torch.tensor([padded_length(length) for length in self.lengths[indices].tolist()])
        return [indices[padded == length] for length in padded.unique().tolist()]

    def padded(self, indices: Tensor) -> int | None:
        """Return the padded length of the longest of some records; None if they have no lengths."""
        return None if self.lengths is None else padded_length(int(self.lengths[indices].max()))

    def to(self, device: torch.device) -> "Examples":
        """Move every column; lengths stay on the CPU, where batches are cut."""
        return Examples(
            {k: v.to(device) for k, v in self.columns.items()}, self.lengths, self.ragged
        )

    @staticmethod
    def concat(parts: Sequence["Examples"]) -> "Examples":
        """Join records of the same task, in order.

        Tokens are filled up to the longest, which :meth:`take` cuts again.
        """
        first = parts[0]
        columns = {}
        for name in first.columns:
            values = [part.columns[name] for part in parts]
            if name in first.ragged:
                longest = max(value.shape[1] for value in values)
                # Filled up only to be stacked: take() cuts to the longest of a batch.
                values = [widened(value, longest, fill=first.ragged[name]) for value in values]
            columns[name] = torch.cat(values)
        lengths = (
            None
            if first.lengths is None
            else torch.cat([p.lengths for p in parts if p.lengths is not None])
        )
        return Examples(columns, lengths, first.ragged)


def widened(column: Tensor, width: int, *, fill: int) -> Tensor:
    """Cut or fill up a ragged column [n, t, ...] to [n, width, ...]."""
    missing = width - column.shape[1]
    if missing <= 0:
        return column[:, :width]
    # Pairs from the last dimension on: that of tokens is the second.
    sides = [0, 0] * (column.dim() - 2) + [0, missing]
    return functional.pad(column, sides, value=fill)


class Task(Protocol):
    """The seam for kinds of records: one implementation, one file."""

    labels: Sequence[str]
    """Names of classes; () for any other outcome."""

    def encode(self, records: Dataset) -> Examples:
        """Turn records into tensors.

        Raises:
            DataError: naming column, value and fix where records do not fit the schema.
        """

    def check(self, records: Dataset) -> list[str]:
        """List what does not fit the schema, one sentence a problem."""

    def content_columns(self) -> Sequence[str]:
        """Name the columns that make a record what it is, label excluded.

        Equal contents are one unit.
        """

    def synthetic(self, count: int, generator: torch.Generator) -> Examples:
        """Invent records of the right form, for checks that must not touch real ones.

        They differ, in length too, and are encoded as real ones are.
        """

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each record, shape [b].

        One record's loss depends on no other record.
        """

    def scores(self, outputs: Tensor) -> Tensor:
        """Turn outputs into what predictions are made of and, unless it tallies, metrics."""

    def metrics(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Score predictions; undefined metrics are left out."""


@runtime_checkable
class ListsProblems(Protocol):
    """A task that knows of each problem which records it is found in."""

    def problems(self, records: Dataset) -> list[Problem]:
        """List what ``check`` does, with the records."""


@runtime_checkable
class TalliedTask(Task, Protocol):
    """A task whose metrics follow from sums over records, such as entities that were found.

    A record's tally is all that is kept of what a model gave for it, however many tokens, pixels or
    words that was; metrics of one institution, of some and of all follow in one way from the sum.
    ``metrics`` gets tallies [n, w] for scores and does not read its targets.
    """

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w], float64, none of it negative.

        One record's tally depends on no other record.
        """

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the columns of predictions for the records of a batch, b values each.

        Args:
            outputs: of the model, on the CPU, shape [b, ...].
            batch: of those records; where a target is not known, any stands.
        """


@runtime_checkable
class ReferencedTask(TalliedTask, Protocol):
    """A task with simple predictors that a model has to beat, such as what is popular."""

    def references(self, train: Sequence[Examples]) -> Mapping[str, OutputFn]:
        """Return predictors by name.

        Args:
            train: training records of each institution, which only a simulation has together.
        """


@runtime_checkable
class CompletesPredictions(Task, Protocol):
    """A task whose predictions hold what records alone say, such as the words of a span."""

    def completed(
        self, columns: Mapping[str, Sequence[Any]], records: Dataset
    ) -> Mapping[str, Sequence[object]]:
        """Return the columns of predictions as people get them.

        Args:
            columns: as :meth:`TalliedTask.predictions` gives them, in the order of the records.
            records: n records.
        """


@runtime_checkable
class InventsRecords(Task, Protocol):
    """A task that invents raw records of what lies beside its backbone."""

    def invent(self, count: int, generator: torch.Generator) -> Dataset:
        """Invent records that differ, targets among them."""


@runtime_checkable
class TableTask(Task, Protocol):
    """A task whose records are rows of numbers: ``features`` of shape [n, d]."""

    @property
    def num_inputs(self) -> int:
        """Width d of an encoded row."""


__all__ = [
    "LABELS",
    "LENGTH_STEP",
    "Assets",
    "Batch",
    "CompletesPredictions",
    "Examples",
    "InventsRecords",
    "ListsProblems",
    "OutputFn",
    "ReferencedTask",
    "TableTask",
    "TalliedTask",
    "Task",
    "padded_length",
    "widened",
]
