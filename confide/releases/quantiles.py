"""Quantiles of numeric columns: noisy counts of trees of cells, from which edges are read.

What a unit adds, and how far it moves the counts: :mod:`confide.privacy.histogram_tree`. What voids
the guarantee: what voids the rest, and a task of one's own that encodes a record by others.
"""

from collections.abc import Iterator, Mapping

from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.encodings.cells import CELLS, WIDE_STARTS
from confide.releases.figures import Partition
from confide.releases.release import Asked, Integers, Records, ReleaseKind, Sums

COUNTS = "counts"
"""Name of the one tensor: a row a column, in the schema's order, level by level from the root."""


def _asks(plan: Asked) -> str:
    return f"quantiles of columns {', '.join(plan.task.released_columns)}, once"


def _problems(plan: Asked) -> Iterator[str]:
    if plan.edges is not None or not plan.task.released_columns:
        yield "releases=true: expected columns whose edges are to be released, and no edges."


def _task(plan: Asked) -> TaskConfig:
    return plan.task.in_cells()


def _shapes(plan: Asked) -> Mapping[str, tuple[int, ...]]:
    from confide.privacy.histogram_tree import num_nodes

    return {COUNTS: (len(plan.task.released_columns), num_nodes(CELLS))}


def _scales(plan: Asked) -> Mapping[str, float]:
    from confide.privacy.histogram_tree import sensitivity

    return {COUNTS: sensitivity(len(plan.task.released_columns), CELLS)}


def _sums(plan: Asked, records: Records) -> Sums:
    from confide.privacy.histogram_tree import tree_sums

    groups = records.groups if records.by_group else None
    return {COUNTS: tree_sums(_cells(plan, records), CELLS, groups)}


def _exact(plan: Asked, records: Records, min_cell: int) -> Sums:
    """Return trees of counts of at least ``min_cell`` units, spread over the cells they are of."""
    import numpy

    from confide.privacy.histogram_tree import levels
    from confide.releases.floors import Support, floored_counts, spread

    support, trees = Support(owners=records.groups, least=min_cell), []
    for column in _cells(plan, records).T:
        part = Partition(name="", kind="numeric", start=0, cells=CELLS + 1)
        # Statistics of the same column may be asked for too
        told = floored_counts(
            part, numpy.where(column < 0, CELLS, column), support, starts=WIDE_STARTS[:-1]
        )
        leaves = numpy.zeros(2 ** (levels(CELLS) - 1))
        leaves[:CELLS] = spread(told)
        parts = [leaves.reshape(2**level, -1).sum(axis=1) for level in range(levels(CELLS))]
        trees.append(numpy.concatenate(parts))
    return {COUNTS: numpy.stack(trees)}


def _cells(plan: Asked, records: Records) -> Integers:
    """Return the cell of each record and column, from 0; -1 where it is missing."""
    import numpy

    task = plan.task.in_cells()
    assert isinstance(task, TabularConfig)
    columns = records.features[:, task.places(plan.task.released_columns)]
    cells: Integers = numpy.rint(columns).astype("int64") - 1
    return cells


QUANTILES = ReleaseKind(
    job="edges",
    title="quantiles",
    asks_fn=_asks,
    problems_fn=_problems,
    task_fn=_task,
    shapes_fn=_shapes,
    scales_fn=_scales,
    sums_fn=_sums,
    exact_fn=_exact,
)

__all__ = ["COUNTS", "QUANTILES"]
