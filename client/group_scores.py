"""What an institution tells of groups of its test records, beside what it tells of all of them.

Noisy sums of each group leave in the release of those of all records, so that nothing more is
charged: a record is in one group of each column, moves each column's sums as far as those of all,
and the noise in both is as much more. Groups of few records are then left out, by their noisy
number.

Exact sums are not protected; they are told of groups of enough units, whose differences are of
enough too (:mod:`confide.metrics.subgroups.disclosure`), and of one declaration of groups for good:
of bands that move from job to job differences would be of few.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy
from numpy.typing import NDArray

from confide.client.records.encoded import InstitutionData
from confide.metrics.floor import Floor
from confide.metrics.metric import Statistic
from confide.metrics.release import Floats
from confide.metrics.subgroups.disclosure import told_groups
from confide.metrics.subgroups.groups import Subgroups
from confide.metrics.subgroups.kind import group_kind
from confide.metrics.subgroups.pooled import by_groups, group_name, split_up
from confide.metrics.tally import MOST_SUMS
from confide.protocol.plan import TrainingPlan
from confide.tasks.outcomes.build import outcome_of

log = logging.getLogger(__name__)

_MOST = MOST_SUMS // 2
"""Sums by group in one answer: the others have to fit in beside them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupScores:
    """Sums by groups of one split.

    Attributes:
        told_apart: groups, by column.
        codes: group of each record by column, shape [n, columns].
        statistics: what is told of a group.
    """

    told_apart: Sequence[Subgroups]
    codes: NDArray[numpy.int64]
    statistics: Sequence[Statistic]

    @property
    def released(self) -> list[Statistic]:
        """What is released with noise, beside the statistics of all records."""
        return [
            by_groups(one, told, codes)
            for told, codes in zip(self.told_apart, self.codes.T, strict=True)
            for one in self.statistics
        ]

    def told(
        self, sums: Mapping[str, Sequence[float]], *, numbers: int, least: float
    ) -> dict[str, Sequence[float]]:
        """Return noisy sums by group, without groups of too few records as far as noise tells.

        Args:
            sums: of :attr:`released`, by name.
            numbers: numbers in one record's scores.
            least: fewest records of a group that is told of.
        """
        found: dict[str, Sequence[float]] = {}
        for told in self.told_apart:
            parts = {
                one.name: split_up(sums[f"{one.name}/{told.column}"], one, told)
                for one in self.statistics
            }
            counting = self.statistics[0]
            weights = counting.counts_fn(numbers)
            for group, own in parts[counting.name].items():
                if float(weights @ numpy.asarray(own)) >= least:
                    found |= {
                        group_name(name, told.column, group): groups[group]
                        for name, groups in parts.items()
                    }
        return found

    def exact(
        self, scores: Floats, targets: NDArray[numpy.generic], *, groups: Floor, sets: int
    ) -> dict[str, list[int]]:
        """Return exact sums by group, of those that may be told.

        Args:
            scores: as a model gives them, shape [n, ...].
            targets: shape [n, ...].
            groups: smallest number of units of a group, and of what groups differ by.
            sets: smallest number of units of a set that a model chooses within a group.
        """
        found: dict[str, list[int]] = {}
        allowed = told_groups(self.codes, [len(one.names) for one in self.told_apart], groups)
        for told, codes, own in zip(self.told_apart, self.codes.T, allowed, strict=True):
            for group in own:
                chosen = codes == group
                owners = None if groups.owners is None else groups.owners[chosen]
                floor = Floor(least=sets, owners=owners)
                for one in self.statistics:
                    usable = one.usable_fn(scores[chosen], targets[chosen])
                    counts = None if one.exact_fn is None else one.exact_fn(*usable, floor)
                    if counts is not None:
                        name = group_name(one.name, told.column, group)
                        found[name] = [int(it) for it in counts.ravel()]
        if sum(map(len, found.values())) > _MOST:  # of many classes and groups: no scores
            first = f"{self.statistics[0].name}/"
            found = {name: sums for name, sums in found.items() if name.startswith(first)}
        return found


def group_scores(
    plan: TrainingPlan, names: Sequence[str], data: InstitutionData, split: str
) -> GroupScores | None:
    """Return what is told of groups; None where nothing is.

    Args:
        plan: declares groups.
        names: metrics that plan and policy let out.
        data: the institution's records.
        split: whose records are scored; groups are told of test records alone.
    """
    told, codes = plan.task.told_apart, data.test_subgroups
    kind = group_kind(plan.task.outcome.kind)
    if split != "test" or not told or codes is None or kind is None:
        return None
    statistics = kind.statistics_fn(plan.task.metric_table, names)
    numbers, groups = outcome_of(plan.task).score_shape[-1], sum(len(one.names) for one in told)
    while sum(len(one.counts_fn(numbers)) for one in statistics) * groups > _MOST:
        log.warning(
            "Groups of %d classes are too many to tell %s of.", numbers, statistics[-1].name
        )
        statistics = statistics[:-1]
    if not statistics:
        return None
    return GroupScores(told_apart=told, codes=codes.cpu().numpy(), statistics=statistics)


def declaration(plan: TrainingPlan) -> str:
    """Return the identifier of the groups that a plan declares: of all that decides them.

    Names alone would not do: which values a column's "missing" is moves records too.
    """
    text = json.dumps([asdict(one) for one in plan.task.told_apart])
    return hashlib.sha256(text.encode()).hexdigest()


__all__ = ["GroupScores", "declaration", "group_scores"]
