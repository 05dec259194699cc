"""Groups of records by which a model's metrics are told: public categories or bands of a column."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confide.config.outcomes.table import OUTCOMES
from confide.config.spelling import repeats
from confide.metrics.subgroups.groups import NOT_STATED, Subgroups
from confide.metrics.subgroups.kind import GROUP_KINDS

if TYPE_CHECKING:
    from confide.config.tasks.columns import ColumnConfig

MOST_COLUMNS, MOST_GROUPS = 8, 32
"""Columns whose groups are told, and groups of one: each adds to what a record moves."""

_LONGEST = 200

Values = list[Any]
"""Names or numbers; OmegaConf takes no union of them in a list of a dictionary."""


def subgroups_of(
    declared: Mapping[str, Sequence[Any]], columns: Mapping[str, "ColumnConfig"]
) -> tuple[Subgroups, ...]:
    """Read ``task.subgroups``, which fits (:func:`subgroup_problems`).

    Args:
        declared: column -> categories, edges, or nothing for the column's own categories.
        columns: input columns of a table; {} for any other kind of input.
    """
    found = []
    for name, values in declared.items():
        own = columns.get(name)
        missing = () if own is None else tuple(own.missing_values)
        if not values and own is not None:
            values = own.categories
        if _are_edges(values):
            edges = tuple(float(it) for it in values)
            found.append(Subgroups(column=name, edges=edges, missing_values=missing))
        else:
            categories = tuple(map(str, values))
            found.append(Subgroups(column=name, categories=categories, missing_values=missing))
    return tuple(found)


def _are_edges(values: Sequence[object]) -> bool:
    return bool(values) and all(_is_number(it) for it in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def subgroup_problems(
    declared: Mapping[str, Sequence[Any]],
    *,
    columns: Mapping[str, "ColumnConfig"],
    targets: Sequence[str],
    outcome: str,
) -> Iterator[str]:
    """Yield what is wrong with ``task.subgroups``.

    Args:
        declared: column -> categories or edges.
        columns: input columns of a table; {} for any other kind of input.
        targets: columns of what is predicted.
        outcome: kind of the outcome.
    """
    if not declared:
        return
    if outcome not in GROUP_KINDS:
        yield (
            f"subgroups names {', '.join(declared)}, and outcome.kind={outcome} is not told by"
            f" groups: {OUTCOMES[outcome].without_subgroups}; leave subgroups out."
        )
        return
    if len(declared) > MOST_COLUMNS:
        yield f"subgroups names {len(declared)} columns: expected at most {MOST_COLUMNS}."
    for name, values in declared.items():
        key = f"subgroups.{name[:_LONGEST]}={list(values)}"
        if not 0 < len(name) <= _LONGEST:
            yield f"{key}: expected a name of 1 to {_LONGEST} characters."
        if name in targets:
            yield f"{key}: this is what is predicted; metrics by label are told without it."
        elif values or not (name in columns and columns[name].categories):
            yield from _value_problems(key, values)


def _value_problems(key: str, values: Sequence[Any]) -> Iterator[str]:
    if not values:
        yield (
            f"{key}: expected public categories, as [a, b], or ascending edges of bands, as"
            " [40, 60]; only an input column with categories of its own needs none."
        )
    elif _are_edges(values):
        yield from _edge_problems(key, [_as_float(it) for it in values])
    elif not all(isinstance(it, str) for it in values):
        yield f"{key}: expected names alone, or numbers alone; write a name as '1'."
    elif repeats(map(str, values)):
        yield f"{key}: two of them are one value; leave one out."
    elif NOT_STATED in values:
        yield f"{key}: “{NOT_STATED}” is a group of every column; leave it out."
    if len(values) > MOST_GROUPS:
        yield f"{key}: expected at most {MOST_GROUPS}, wider bands or fewer categories."


def _edge_problems(key: str, edges: Sequence[float]) -> Iterator[str]:
    ascend = all(low < high for low, high in itertools.pairwise(edges))
    if not ascend or not all(map(math.isfinite, edges)):
        yield (
            f"{key}: expected finite edges in ascending order; below the first and from the last"
            " on are bands too."
        )


__all__ = ["Values", "subgroup_problems", "subgroups_of"]
