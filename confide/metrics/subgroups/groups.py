"""Groups of records by the values of one public column."""

import functools
import itertools
from dataclasses import dataclass

NOT_STATED = "not stated"
"""The last group of every column: who has no value in it, or one that no group has."""


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """The groups of one column; each record is in exactly one of them.

    Attributes:
        column: name of the column.
        categories: public values, a group each; () where edges are given.
        edges: public numbers, ascending, that bands lie between; () where categories are given.
        missing_values: values that mean "missing", beside an empty cell.
    """

    column: str
    categories: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    missing_values: tuple[str, ...] = ()

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, :data:`NOT_STATED` the last.

        >>> Subgroups(column="age", edges=(40, 60)).names
        ('under 40', '40 to under 60', '60 and over', 'not stated')
        """
        if not self.edges:
            return (*self.categories, NOT_STATED)
        pairs = itertools.pairwise(self.edges)
        between = [f"{_told(low)} to under {_told(high)}" for low, high in pairs]
        return (
            f"under {_told(self.edges[0])}",
            *between,
            f"{_told(self.edges[-1])} and over",
            NOT_STATED,
        )


def _told(edge: float) -> str:
    """Write an edge so that another one is another text.

    >>> _told(40.0), _told(40.00004), _told(1e6)
    ('40', '40.00004', '1e+06')
    """
    short = f"{edge:g}"
    return short if float(short) == edge else repr(edge)


__all__ = ["NOT_STATED", "Subgroups"]
