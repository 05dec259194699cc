"""What an outcome is: how what is to be predicted is read, learnt, scored and told.

Records are read and judged without torch; the methods that get tensors import it, since whoever has
a tensor has loaded it. A target is a tensor of any fixed shape: an index of a class, a number, a
row of zeros and ones, a time and an event.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy
from numpy.typing import NDArray

from confide.tasks.reading import Problem

if TYPE_CHECKING:
    from torch import Tensor

Values = NDArray[Any]
"""Targets of n records, shape [n, ...], as they become a tensor."""
UNLABELLED = -1
"""Class of a record that has no label, where a task lets records lack one (task.self_training)."""


class Targets(NamedTuple):
    """What is to be predicted of n records, read.

    Attributes:
        values: shape [n, ...]; anything where not known.
        known: where a record has a target that fits, bool of shape [n].
        problems: what is wrong.
        notes: what fits and is odd all the same.
    """

    values: Values
    known: NDArray[numpy.bool_]
    problems: Sequence[Problem] = ()
    notes: Sequence[Problem] = ()

    @property
    def fitting(self) -> Values:
        """Targets of those records that have one."""
        fitting: Values = self.values[self.known]
        return fitting

    def keys(self) -> list[Hashable]:
        """Return what is equal of two records if their targets are; None where there is none."""
        rows = self.values.reshape(len(self.known), -1).tolist()
        return [tuple(row) if known else None for row, known in zip(rows, self.known, strict=True)]


class Outcome(Protocol):
    """The seam for kinds of outcome: one implementation, one file.

    Made of the outcome's settings and of the task's labelling.
    """

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one record's target; -1 for what is as long as the record."""

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Shape of one record's scores."""

    # --- records

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read the columns that the schema names, all of one length."""

    def counts(self, values: Values) -> dict[str, int]:
        """Count records by what is to be predicted, for people: name -> records."""

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield a sentence for each name of :meth:`counts` with too few records to learn from."""

    def strata(self, values: Values) -> list[str]:
        """Name a stratum for each record: few, and alike in what is to be predicted.

        Made-up institutions differ by them, and an audit compares like with like.
        """

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Invent raw targets that differ, for checks without real records: column -> values."""

    # --- a model

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the loss of each record, shape [b], from outputs [b, k] and targets [b, ...].

        One record's loss depends on no other record; what it can do is in the schema's bounds.
        """

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Turn outputs [b, k] into what metrics and predictions take, shape [b, ...]."""

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return finite scores and targets as the table of metrics takes them."""

    # --- predictions

    def prediction_columns(self) -> Sequence[str]:
        """Name the columns of predictions, in their order."""

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return the columns of predictions for scores [n, ...]."""

    @property
    def score_name(self) -> str:
        """Name of scores, in an exported model and for people, in the plural."""

    @property
    def score_unit(self) -> float:
        """Difference of two scores that counts as one."""

    def placeholder(self) -> Mapping[str, str]:
        """Return a value for each target column, for records whose target nobody knows."""

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a target, by their target columns, those that there are."""


@runtime_checkable
class FilledOutcome(Protocol):
    """An outcome whose target stands in a column with what it is to be predicted from."""

    def completed(self, columns: Mapping[str, Sequence[str | None]]) -> dict[str, list[str | None]]:
        """Return that column, each record with a target, its own or any; {} where there is none."""


@runtime_checkable
class StatesProbabilities(Protocol):
    """An outcome whose scores are probabilities of what may be so or not."""

    def stated(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return probabilities [n, k] that were stated, and 1 where what they are of was so."""


def at_least_float32(outputs: "Tensor") -> "Tensor":
    """Return what a loss is computed from: float32 under autocast too, and float64 as it is.

    bfloat16 would lose small differences of losses; Newton's sums are float64.
    """
    import torch

    return outputs if outputs.dtype == torch.float64 else outputs.float()


def all_there(columns: Mapping[str, Sequence[str | None]], names: Sequence[str]) -> list[bool]:
    """Say which records have a value in each of some columns; none does if one is missing.

    Blanks are no value: a schema reads them as none.
    """
    if not set(names) <= columns.keys():
        return [False] * max(map(len, columns.values()), default=0)
    rows = zip(*(columns[name] for name in names), strict=True)
    return [all(cell is not None and cell.strip() for cell in row) for row in rows]


@runtime_checkable
class KnowsGradient(Protocol):
    """An outcome whose loss has a gradient in closed form."""

    def loss_gradient(self, outputs: "Tensor", targets: "Tensor") -> "Tensor | None":
        """Return the gradient of each record's loss with respect to its outputs [b, k].

        None where only autograd knows it.
        """


__all__ = [
    "UNLABELLED",
    "FilledOutcome",
    "KnowsGradient",
    "Outcome",
    "StatesProbabilities",
    "Targets",
    "Values",
    "all_there",
    "at_least_float32",
]
