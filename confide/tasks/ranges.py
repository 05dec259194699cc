"""Numbers outside the range of their column, which count as the nearest end of it.

Needs no torch.
"""

from collections.abc import Iterator, Mapping, Sequence

from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.task import TaskConfig
from confide.tasks.schema import Column, read_column


def outside(column: ColumnConfig, seen: Column) -> int:
    """Count the numbers outside a column's range; 0 for categories."""
    if column.kind != "numeric":
        return 0
    # A missing number is NaN, which is neither below nor above any bound
    return int(((seen.values < column.minimum) | (seen.values > column.maximum)).sum())


def shown_range(column: ColumnConfig) -> str:
    """Return a column's range in words."""
    return f"{column.minimum:g} to {column.maximum:g}"


def outside_notes(cells: Mapping[str, Sequence[object]], task: TaskConfig) -> Iterator[str]:
    """Yield a sentence for each column of records to predict on with values outside its range.

    Args:
        cells: column -> values, of those columns that are there.
        task: the schema.
    """
    for name, column in task.table_columns.items():
        if column.kind != "numeric" or name not in cells:
            continue
        seen = read_column(name, column, cells[name])
        beyond = outside(column, seen)
        if beyond:
            yield (
                f"Column {name}: {beyond} of {int((~seen.missing).sum())} values lie outside its"
                f" range, {shown_range(column)}, and count as the nearest end of it. Is the unit"
                " the one that the model was trained on?"
            )


__all__ = ["outside", "outside_notes", "shown_range"]
