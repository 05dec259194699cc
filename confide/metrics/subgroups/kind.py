"""What a kind of outcome says of groups: the sums that are told of each, and what follows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from confide.metrics.metric import Metric, Statistic

if TYPE_CHECKING:
    from confide.metrics.subgroups.gaps import Measure
    from confide.metrics.subgroups.pooled import GroupSums

StatisticsFn = Callable[[Mapping[str, Metric], Sequence[str]], list[Statistic]]
"""A task's metrics, and the names of those that are told -> sums told of a group: the first one
says how many records it has. [] where nothing that is told follows by group.

An exact form is asked for with the records of one group; None where nothing of it may be told."""
MeasuresFn = Callable[["GroupSums", "Context"], Mapping[str, "Measure"]]
"""Sums of one group -> what is told of it, in the order in which a report shows it."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What figures of a group depend on beside its sums.

    Attributes:
        labels: class names, in the order of the model's outputs.
        positive: place of the class that is looked for, of two; None for any other number.
        settings: the outcome's.
    """

    labels: Sequence[str]
    positive: int | None
    settings: object = None


@dataclass(frozen=True, kw_only=True)
class GroupKind:
    """Groups of a kind of outcome.

    Attributes:
        statistics_fn: what is told of a group.
        measures_fn: what follows from it.
    """

    statistics_fn: StatisticsFn
    measures_fn: MeasuresFn


GROUP_KINDS = {
    "classes": "confide.metrics.subgroups.classes.CLASSES",
    "ordinal": "confide.metrics.subgroups.classes.GRADES",
    "regression": "confide.metrics.subgroups.numbers.NUMBERS",
}
"""Kind of outcome -> dotted name of what it says of groups; imported when it is used. Why another
tells nothing by group is said in the table of outcomes."""


def group_kind(outcome: str) -> GroupKind | None:
    """Return what an outcome's kind says of groups; None for one that tells nothing by group."""
    module, _, name = GROUP_KINDS.get(outcome, "").rpartition(".")
    return cast(GroupKind, getattr(import_module(module), name)) if module else None


__all__ = ["GROUP_KINDS", "Context", "GroupKind", "MeasuresFn", "StatisticsFn", "group_kind"]
