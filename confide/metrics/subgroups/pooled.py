"""Sums told of groups: how they are named in a tally, told apart with noise, and pooled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

from confide.metrics.grids import Floats, Integers
from confide.metrics.metric import Statistic
from confide.metrics.subgroups.groups import Subgroups
from confide.metrics.tally import ScoreTally


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupSums:
    """What institutions tell of one group of one column.

    Attributes:
        parts: statistic -> sums of each institution that tells them, and the standard deviation of
            the noise in each; 0 for exact ones, in the statistic's exact form.
    """

    parts: Mapping[str, Sequence[tuple[Floats, float]]]

    @property
    def institutions(self) -> int:
        """Number of institutions that tell anything of the group."""
        return max(map(len, self.parts.values()))

    def of(self, name: str) -> Sequence[tuple[Floats, float]]:
        """Return the sums of a statistic; () where nobody tells them."""
        return self.parts.get(name, ())


def group_name(statistic: str, column: str, group: int) -> str:
    """Return the name of a statistic's sums over one group, as a tally writes it.

    >>> group_name("cells", "sex", 0)
    'cells/sex/0'
    """
    return f"{statistic}/{column}/{group}"


def by_groups(statistic: Statistic, told: Subgroups, codes: Integers) -> Statistic:
    """Return a statistic whose sums are those of each group of a column, side by side.

    A record's row stands at its group's place and is 0 elsewhere, so that it is as long as it was:
    a unit moves the sums of a column as far as it moves those of all records.

    Args:
        statistic: what is summed.
        told: groups of the column.
        codes: group of each record, from 0, shape [n].
    """
    groups = len(told.names)

    def rows(scores: NDArray[numpy.float64], targets: NDArray[numpy.float64]) -> Floats:
        own = statistic.rows_fn(scores, targets)
        placed = numpy.zeros((len(own), groups, own.shape[1]))
        placed[numpy.arange(len(own)), codes] = own
        return placed.reshape(len(own), -1)

    return replace(
        statistic,
        name=f"{statistic.name}/{told.column}",
        rows_fn=rows,
        counts_fn=lambda numbers: numpy.tile(statistic.counts_fn(numbers), groups),
        exact_fn=None,
    )


def split_up(
    sums: Sequence[float], statistic: Statistic, told: Subgroups
) -> dict[int, Sequence[float]]:
    """Return the sums of each group, from those of all side by side.

    Args:
        sums: of :func:`by_groups`.
        statistic: what is summed.
        told: groups of the column.
    """
    width = len(sums) // len(told.names)
    return {group: sums[group * width : (group + 1) * width] for group in range(len(told.names))}


def pooled(
    tallies: Mapping[str, ScoreTally], statistics: Sequence[Statistic], told: Subgroups
) -> dict[str, GroupSums]:
    """Return what institutions tell of each group: its name -> sums; {} for those of nobody.

    Args:
        tallies: institution -> sums over its test records.
        statistics: what is told of a group.
        told: groups of the column.
    """
    found = {}
    for group, name in enumerate(told.names):
        parts: dict[str, list[tuple[Floats, float]]] = {}
        for tally in tallies.values():
            for one in statistics:
                sums = tally.sums.get(group_name(one.name, told.column, group))
                if sums is not None:
                    parts.setdefault(one.name, []).append(
                        (numpy.asarray(sums, dtype=float), tally.std)
                    )
        if parts:
            found[name] = GroupSums(parts=parts)
    return found


__all__ = ["GroupSums", "by_groups", "group_name", "pooled", "split_up"]
