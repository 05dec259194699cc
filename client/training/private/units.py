"""Sampled units of a private training: records, groups of them, or their views."""

import itertools
from typing import TYPE_CHECKING

from torch import Tensor

from confide.client.records.groups import Groups
from confide.errors import PrivacyError
from confide.privacy.randomness import KeyedGenerator
from confide.protocol.plan import TrainingPlan
from confide.tasks.media.views import Views
from confide.tasks.task import Examples

if TYPE_CHECKING:
    from confide.client.training.private.dp_sgd import DpSgd
    from confide.client.training.private.optimizer import KeyedDPOptimizer


class Units:
    """What is sampled and protected: training records, or groups of them.

    Args:
        examples: n training records.
        groups: whose each is, int64 of shape [n]; None if they are not grouped.
        plan: names the unit.
        views: makes the views that stand for each record of a step; None for the record itself.
    """

    def __init__(
        self,
        examples: Examples,
        groups: Tensor | None,
        *,
        plan: TrainingPlan,
        views: Views | None = None,
    ) -> None:
        self._examples, self._views, self._steps = examples, views, itertools.count()
        self._groups: Groups | None = None
        if plan.privacy.unit == "record":
            return
        if groups is None:
            raise PrivacyError(
                "privacy.unit=group needs to know whose each record is; set data.group_column."
            )
        self._groups = Groups(groups, most=plan.privacy.max_records_per_group)

    def private_gradient(
        self, dp_sgd: "DpSgd", optimizer: "KeyedDPOptimizer", masks: KeyedGenerator, rate: float
    ) -> None:
        """Sample units at a rate, and write their noisy mean gradient into the parameters."""
        units = self._examples if self._groups is None else self._groups
        drawn = masks.poisson_sample(len(units), rate)
        if self._groups is None and self._views is None:
            dp_sgd.private_gradient(optimizer, self._examples, drawn)
            return
        examples = self._examples
        # A record with views is a group of rows: their mean is clipped, so that it adds no more.
        members = list(drawn[:, None]) if self._groups is None else self._groups.members(drawn)
        if self._views is not None:
            examples, members = self._views.of(examples, members, next(self._steps))
        dp_sgd.private_group_gradient(optimizer, examples, members)


__all__ = ["Units"]
