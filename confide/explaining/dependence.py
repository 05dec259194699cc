"""How a prediction moves with one column, all others as they are: partial dependence.

Friedman, "Greedy Function Approximation" (Annals of Statistics 2001, section 8.2); of single
records, Goldstein et al., "Peeking Inside the Black Box" (JCGS 2015, arXiv 1309.6392). Only values
of the public range are tried, some of which no record may have beside its other values.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from confide.config.tasks.columns import ColumnConfig
from confide.explaining.rows import Rows, plain

POINTS = 25
MOST_RECORDS = 40


class Dependence(NamedTuple):
    """What is predicted, by the value of one column.

    Attributes:
        column: its name.
        is_numeric: whether its values are numbers.
        is_whole: whether these are whole numbers.
        values: values that were tried, as text.
        records: what is predicted for each record, [n, values].
    """

    column: str
    is_numeric: bool
    is_whole: bool
    values: Sequence[str]
    records: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean over records, [values]."""
        return self.records.mean(dim=0)

    @property
    def reach(self) -> float:
        """How far the mean goes from its lowest to its highest."""
        return float(self.mean.max() - self.mean.min())


def partial_dependence(
    rows: Rows,
    columns: Mapping[str, Sequence[str | None]],
    shown_fn: Callable[[Tensor], Tensor],
    *,
    whole: Collection[str] = (),
    advance_fn: Callable[[], None] = lambda: None,
) -> list[Dependence]:
    """Vary each column of some records over its public range.

    Args:
        rows: the model.
        columns: of records, as text; the first MOST_RECORDS are taken.
        shown_fn: outputs -> what is shown of a prediction.
        whole: columns that get whole numbers.
        advance_fn: called after each column.

    Returns:
        One a column, those that move the mean furthest first.
    """
    taken = {name: list(values[:MOST_RECORDS]) for name, values in columns.items()}
    count = len(next(iter(taken.values())))
    found = []
    for name, column in rows.schema.items():
        values = _values(column, is_whole=name in whole)
        tried: dict[str, list[str | None]] = {
            one: [it for it in own for _ in values] for one, own in taken.items()
        }
        tried[name] = [*values] * count
        shown = shown_fn(rows.outputs(tried)).reshape(count, len(values))
        found.append(Dependence(name, column.kind == "numeric", name in whole, values, shown))
        advance_fn()
    return sorted(found, key=lambda it: -it.reach)


def _values(column: ColumnConfig, *, is_whole: bool) -> list[str]:
    if column.kind != "numeric":
        return list(column.categories)
    assert column.minimum is not None
    assert column.maximum is not None
    width = column.maximum - column.minimum
    tried = [column.minimum + width * part / (POINTS - 1) for part in range(POINTS)]
    return list(dict.fromkeys(plain(round(one) if is_whole else one) for one in tried))


__all__ = ["MOST_RECORDS", "Dependence", "partial_dependence"]
