"""Columns that list the labels of a record, recognised by what they hold."""

from collections import Counter
from typing import NamedTuple

from confide.client.records.drafting.values import Values
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.tasks.spans.words import items_of_list

_SEPARATORS = ";|,"
_MOST_LABELS = 100
_FEWEST_EACH = 5


class Several(NamedTuple):
    """Labels that a column lists.

    Attributes:
        column: its name.
        labels: their names, in the order of the alphabet.
        separator: what stands between two of them; None in JSON.
    """

    column: str
    labels: list[str]
    separator: str | None

    def outcome(self) -> MultiLabelConfig:
        """Return what is to be predicted."""
        plain = MultiLabelConfig(labels=self.labels, column=self.column)
        if self.separator is not None:
            plain.separator = self.separator
        return plain


def several_labels(values: Values) -> Several | None:
    """Return the labels that a column lists, several a record; None where it lists none."""
    lists = {value: items_of_list(value) for value in values.counts}
    if values.counts and None not in lists.values():
        return _of(values, {value: one or [] for value, one in lists.items()}, None)
    for sign in _SEPARATORS:
        if any(sign in value for value in values.counts):
            parts = {value: value.split(sign) for value in values.counts}
            return _of(values, parts, sign) if _are_lists(parts) else None
    return None


def _are_lists(parts: dict[str, list[str]]) -> bool:
    """Tell lists, whose lengths differ, from names and decimals, such as "Doe, Ann" and "1,3"."""
    lengths = {len(items) for items in parts.values()}
    return len(lengths) > 1 and not all(
        item.strip().isdecimal() for items in parts.values() for item in items
    )


def _of(values: Values, lists: dict[str, list[str]], separator: str | None) -> Several | None:
    held: Counter[str] = Counter()
    for value, items in lists.items():
        for item in {one.strip() for one in items} - {""}:
            held[item] += values.counts[value]
    few = 2 <= len(held) <= _MOST_LABELS and "," not in "".join(held)
    beside = Counter(item for items in lists.values() for item in {one.strip() for one in items})
    # Of "Paris, France" a part stands beside one other alone
    apart = separator is None or min(beside[item] for item in held) > 1
    # Words of a text, or ids, are each in few records
    if not few or not apart or min(held.values()) < min(_FEWEST_EACH, values.present // 10):
        return None
    return Several(values.name, sorted(held), separator)


__all__ = ["Several", "several_labels"]
