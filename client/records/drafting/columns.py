"""Columns of a table, drafted from their values: ranges, categories and what stands for missing."""

import math
from typing import NamedTuple

from confide.client.records.drafting.values import (
    MISSING_WORDS,
    Values,
    folded,
    missing_markers,
    round_range,
)
from confide.config.spelling import canonical_name, nearest
from confide.config.tasks.columns import ColumnConfig

_RARE = 5


class DraftedColumn(NamedTuple):
    """A column, or why it is none.

    Attributes:
        column: its schema; None if there is nothing to learn from it.
        why: why not; "" beside a schema.
        remark: what people should look at in it; "" for nothing.
    """

    column: ColumnConfig | None
    why: str = ""
    remark: str = ""


def number_column(values: Values) -> DraftedColumn:
    """Draft a column of numbers."""
    markers = missing_markers(values)
    missing = [*markers, *sorted(values.words)]
    numbers = [number for text, number in values.numbers.items() if text not in markers]
    if len(set(numbers)) < 2:
        return DraftedColumn(None, "the same number in every record that has one")
    low, high = min(numbers), max(numbers)
    if not math.isfinite(2 * (high - low)):
        return DraftedColumn(None, "numbers beyond what can be scaled; correct them")
    remark = ""
    if any(word.lower() not in MISSING_WORDS for word in values.words):
        remark = "what is no number is read as missing; correct it"
    elif markers:
        remark = f"is {' or '.join(markers)} missing? If it is a measurement, remove it there"
    gaps = values.nulls + sum(values.counts[word] for word in missing)
    if not missing and set(map(canonical_name, values.numbers)) <= {"0", "1"}:
        flag = ColumnConfig(kind="categorical", categories=["0", "1"], indicator=gaps > 0)
        return DraftedColumn(flag, remark=remark)
    bottom, top = round_range(low, high)
    column = ColumnConfig(minimum=bottom, maximum=top, missing_values=missing, indicator=gaps > 0)
    return DraftedColumn(column, remark=remark)


def category_column(values: Values) -> DraftedColumn:
    """Draft a column of categories."""
    missing = values.missing_words
    kept = {value: n for value, n in values.counts.items() if value not in missing}
    if len(kept) < 2:
        return DraftedColumn(None, "the same value in every record that has one")
    alike = len(kept) > len({value.casefold() for value in kept})
    categories, remark = folded(kept), ""
    if any(count < _RARE for count in kept.values()):
        remark = f"some categories have fewer than {_RARE} records, and may tell who is among them"
    if alike and len(categories) == len(kept):
        remark = "some categories differ from others by case alone"
    near = (nearest(one, categories[:place]) for place, one in enumerate(categories))
    if not alike and (first := next(filter(None, near), None)):
        remark = first
    column = ColumnConfig(
        kind="categorical",
        categories=categories,
        missing_values=missing,
        indicator=bool(values.nulls or missing),
    )
    return DraftedColumn(column, remark=remark)


__all__ = ["DraftedColumn", "category_column", "number_column"]
