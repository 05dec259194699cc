"""What a release of statistics counts of what is predicted: partitions of the records, by outcome.

A label of classes, and of labels in order, is one partition; each of several labels is one of its
own, of records for which it holds and others; a number is counted in the cells of a histogram of
its public range; a time in the public intervals, apart for the event and for those censored.
Where records may lack a label there is no partition by it.
"""

from collections.abc import Iterator

from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.survival import SurvivalConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.task import TaskConfig
from confide.encodings.cells import WIDE_CELLS, wide_grid
from confide.releases.release import Floats, Integers

LABEL, TRUTH, NUMBER, ENDS = "label", "truth", "number", "ends"
"""Kinds of partition."""


def target_partitions(task: TaskConfig) -> Iterator[tuple[str, str, int]]:
    """Yield name, kind and number of cells of each partition by what a task predicts."""
    outcome = task.outcome
    if isinstance(outcome, MultiLabelConfig):
        for name in outcome.labels:
            yield name, TRUTH, 2
    elif isinstance(outcome, RegressionConfig):
        yield outcome.column, NUMBER, WIDE_CELLS + 1
    elif isinstance(outcome, SurvivalConfig):
        yield outcome.time_column, ENDS, 2 * len(outcome.ends) + 1
    elif outcome.label_names(task.labelling) and task.self_training is None:
        (column,) = task.target_columns
        yield column, LABEL, len(outcome.label_names(task.labelling))


def target_number(task: TaskConfig) -> ColumnConfig | None:
    """Return the number that a task predicts, as a column on its public range; None for none."""
    if not isinstance(task.outcome, RegressionConfig):
        return None
    low, high = task.outcome.span
    return ColumnConfig(minimum=low, maximum=high)


def target_cells(task: TaskConfig, labels: Floats | Integers) -> Iterator[Integers]:
    """Yield the cell of each record in each of a task's :func:`target_partitions`.

    Args:
        task: the task.
        labels: targets as the outcome encodes them, shape [n, ...]; a task of one's own may have
            any numbers there.
    """
    import numpy

    for place, (_, kind, cells) in enumerate(target_partitions(task)):
        found: Integers
        if kind == TRUTH:
            found = (labels[:, place] > 0).astype("int64")
        elif kind == NUMBER:
            inner = wide_grid(0.0, 1.0)[1:-1]
            found = numpy.searchsorted(inner, target_shares(labels), side="right")
        elif kind == ENDS:
            found = _end_cells(numpy.nan_to_num(labels.astype(float)), (cells - 1) // 2)
        else:
            found = labels.astype("int64")
        yield found.clip(0, cells - 1)


def target_shares(labels: Floats | Integers) -> Floats:
    """Return numbers as shares of their range, shape [n], whatever a task of one's own made."""
    import numpy

    shares: Floats = numpy.nan_to_num(labels.astype(float)).reshape(len(labels)).clip(0, 1)
    return shares


def _end_cells(labels: Floats, intervals: int) -> Integers:
    """Return the interval of each event, and after these that of each end without one.

    The last cell is of those who were free of the event at the horizon.
    """
    import numpy

    place = labels[:, 0].clip(0, intervals)
    within = numpy.maximum(numpy.ceil(place) - 1, 0)
    ends = numpy.where(labels[:, 1] > 0, within, intervals + numpy.floor(place))
    cells: Integers = ends.astype("int64")
    return cells


__all__ = [
    "ENDS",
    "LABEL",
    "NUMBER",
    "TRUTH",
    "target_cells",
    "target_number",
    "target_partitions",
    "target_shares",
]
