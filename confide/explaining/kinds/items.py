"""Histories of items: a unit is one of the last items that a model looks at."""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.recommendation import HISTORY, RecommendationConfig
from confide.explaining.case import FIXED, Case, Layout, Unit, by_groups, expanded
from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.tasks.recommendation import Recommendation


class Items:
    """Takes histories apart by their items.

    Args:
        predictor: of next items.
        network: the same, whole.
        baseline: name of what stands for items that are left out.
    """

    layout: Layout = "bars"
    what = "item"
    baselines: ClassVar[Mapping[str, str]] = {"none": "a history without its last items"}

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._task, self._network = cast(Recommendation, predictor.task), network
        self._recent = cast(RecommendationConfig, predictor.plan.task).recent

    def case(self, record: Dataset) -> Case:
        """Take one history apart."""
        batch = self._task.encode(record).take(torch.tensor([0]))
        history = batch[HISTORY]
        seen = torch.zeros_like(history[0], dtype=torch.bool)
        seen[-self._recent :] = history[0, -self._recent :] > 0
        places = seen.nonzero()[:, 0]
        groups = torch.full_like(history[0], FIXED)
        groups[places] = torch.arange(len(places))
        baseline = torch.where(seen, 0, history)

        def outputs(inputs: Tensor) -> Tensor:
            return self._network.outputs(expanded(batch, HISTORY, inputs))

        catalogue = self._task.catalogue
        items = [int(place) - 1 for place in history[0, places]]
        return Case(
            units=[Unit(f"{catalogue.ids[item]}, {catalogue.texts[item]}") for item in items],
            inputs=history,
            baseline=baseline,
            groups=groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(history, baseline, groups, outputs),
            batch=batch,
        )


__all__ = ["Items"]
