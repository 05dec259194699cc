"""Pictures: a unit is a patch; gradients tell of each pixel too."""

import itertools
from collections.abc import Mapping
from typing import ClassVar

import torch
from datasets import Dataset
from torch import Tensor

from confide.explaining.case import Canvas, Case, Layout, Unit, by_groups, expanded
from confide.explaining.kinds.patches import patches
from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.tasks.media.image_classification import PIXELS

_SIDE = 8
"""Patches from one edge of a picture to the other."""


class Pictures:
    """Takes pictures apart by patches.

    Args:
        predictor: of pictures.
        network: the same, whole.
        baseline: name of the picture that stands for patches that are left out.
    """

    layout: Layout = "map"
    what = "patch"
    baselines: ClassVar[Mapping[str, str]] = {
        "grey": "a picture of mean grey",
        "black": "a black picture",
        "white": "a white picture",
    }

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._task, self._network = predictor.task, network
        self._fill = {"grey": 128.0, "black": 0.0, "white": 255.0}[baseline]

    def case(self, record: Dataset) -> Case:
        """Take one picture apart."""
        batch = self._task.encode(record).take(torch.tensor([0]))
        pixels = batch[PIXELS]
        inputs = pixels.float()
        baseline = torch.full_like(inputs, self._fill)
        height, width = pixels.shape[2:]
        cells, rows, columns = patches(height, width, rows=_SIDE, columns=_SIDE)
        groups = cells.expand(pixels.shape[1], -1, -1)

        def outputs(values: Tensor) -> Tensor:
            # Whoever computes without gradients may take bytes alone
            given = values if self._network.module else values.round().to(pixels.dtype)
            return self._network.outputs(expanded(batch, PIXELS, given))

        shown = pixels[0].float() / 255
        return Case(
            units=[
                Unit(f"row {row}, column {column} of {rows} x {columns}")
                for row, column in itertools.product(range(1, rows + 1), range(1, columns + 1))
            ],
            inputs=inputs,
            baseline=baseline,
            groups=groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(inputs, baseline, groups, outputs),
            has_gradient=self._network.module is not None,
            batch=batch,
            canvas=Canvas(
                picture=shown[0] if len(shown) == 1 else shown.permute(1, 2, 0),
                rows=f"{height} pixels from top to bottom",
                columns=f"{width} pixels from left to right",
                map_fn=lambda entries: entries.sum(dim=0),
            ),
        )


__all__ = ["Pictures"]
