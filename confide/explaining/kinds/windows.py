"""Windows of series: a unit is some steps of one reading."""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.series import SeriesConfig
from confide.explaining.case import Canvas, Case, Layout, Unit, by_groups, expanded
from confide.explaining.kinds.patches import patches, span
from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.tasks.series import LOWEST
from confide.tasks.tabular import FEATURES

_STEPS = 12
"""Stretches of time that a window is divided into, at most."""


class Windows:
    """Takes windows apart by readings and stretches of time.

    Args:
        predictor: of series.
        network: the same, whole.
        baseline: name of what stands for readings that are left out.
    """

    layout: Layout = "map"
    what = "stretch of a reading"
    baselines: ClassVar[Mapping[str, str]] = {
        "centre": "the middle of each reading's public range, all the time",
        "least": "the lowest value of each reading's public range, all the time",
        "last": "the last value of each reading, all the time",
    }

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._task, self._network, self._name = predictor.task, network, baseline
        self._schema = cast(SeriesConfig, predictor.plan.task)

    def case(self, record: Dataset) -> Case:
        """Take one window apart."""
        batch = self._task.encode(record).take(torch.tensor([0]))
        inputs = batch[FEATURES]
        steps, names = self._schema.lookback, list(self._schema.readings)
        window = inputs[0].unflatten(0, (steps, len(names)))
        filled = {
            "centre": torch.zeros_like(window),
            "least": torch.full_like(window, LOWEST),
            "last": window[-1:].expand_as(window),
        }[self._name]
        baseline = filled.flatten()[None]
        cells, rows, columns = patches(len(names), steps, rows=len(names), columns=_STEPS)
        groups = cells.T.flatten()

        def outputs(values: Tensor) -> Tensor:
            return self._network.outputs(expanded(batch, FEATURES, values))

        return Case(
            units=[
                Unit(f"{names[place // columns]}, {self._stretch(place % columns, columns)}")
                for place in range(rows * columns)
            ],
            inputs=inputs,
            baseline=baseline,
            groups=groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(inputs, baseline, groups, outputs),
            has_gradient=self._network.has_gradient(outputs, inputs),
            batch=batch,
            canvas=Canvas(
                picture=(window.T - LOWEST) / (-2 * LOWEST),
                rows=f"from top to bottom {', '.join(names)}",
                columns=f"{steps} steps from left to right, the newest last",
                map_fn=lambda entries: entries.unflatten(0, (steps, len(names))).T,
            ),
        )

    def _stretch(self, part: int, parts: int) -> str:
        start, end = span(part, parts, self._schema.lookback)
        first, last = self._schema.lookback - start, self._schema.lookback - end + 1
        if first == last:
            return f"{first} steps back" if first > 1 else "the last step"
        return f"{first} to {last} steps back"


__all__ = ["Windows"]
