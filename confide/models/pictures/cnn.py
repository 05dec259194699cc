"""Convolutional networks that start at random, small enough for per-record gradients."""

import itertools
import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from confide.config.models.cnn import CnnConfig
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.errors import ModelError
from confide.models.memory import refuse_large, within_memory
from confide.models.networks import Head, scaled_rows
from confide.models.workload import Order, Workload
from confide.pictures.processor import PictureProcessor
from confide.tasks.media.image_classification import scaled

PROCESSOR = PictureProcessor()
"""Values from -1 to 1."""
_GROUP = 8
COARSE = 4
"""Side of what the head sees, at most twice as much."""


class Cnn(nn.Module):
    """Blocks of a convolution, GroupNorm, ReLU and max pooling, and a linear head.

    GroupNorm normalises each record by itself (Wu and He, ECCV 2018), as a BatchNorm does not.

    Args:
        channels: of pictures.
        side: of pictures, in pixels.
        widths: channels of each block.
        num_outputs: of the head.
        row_norm: norm that features are scaled to; None leaves them as they are.
    """

    def __init__(
        self,
        *,
        channels: int,
        side: int,
        widths: list[int],
        num_outputs: int,
        row_norm: float | None = None,
    ) -> None:
        super().__init__()
        self._channels, self._row_norm = channels, row_norm
        side >>= len(widths)
        pooled = max(1, side // COARSE)
        blocks = convolutions(channels, widths)
        self.blocks = nn.Sequential(*blocks, nn.AvgPool2d(pooled), nn.Flatten())
        self.head = Head((side // pooled) ** 2 * widths[-1], num_outputs).head

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [b, c, h, w] of 8 bits to outputs [b, k]."""
        features = self.blocks(scaled(pixel_values, PROCESSOR, channels=self._channels))
        outputs: Tensor = self.head(scaled_rows(features, self._row_norm))
        return outputs


def convolutions(channels: int, widths: Sequence[int]) -> list[nn.Module]:
    """Return the blocks of a network, each of which halves both sides.

    Args:
        channels: of what it takes.
        widths: channels of each block.
    """
    blocks: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise([channels, *widths]):
        norm = nn.GroupNorm(math.gcd(_GROUP, outputs), outputs)
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        blocks += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
    return blocks


def handed_on(height: int, width: int, widths: Sequence[int]) -> int:
    """Return how many numbers the blocks of a network hand on of one record."""
    cells = [(height >> block) * (width >> block) for block in range(len(widths))]
    return sum(3 * cell * channels for cell, channels in zip(cells, widths, strict=True))


def build_cnn(config: CnnConfig, order: Order) -> Workload:
    """Build a network for pictures of the schema's size.

    Raises:
        ModelError: if the schema has no size, or so many blocks leave nothing of a picture.
    """
    task = order.task_fn({"processor": lambda: PROCESSOR})
    schema = cast(ImageClassificationConfig, order.task)
    if schema.size is None:
        raise ModelError(
            "task.size=null: a network that starts at random has no size of its own; set task.size,"
            " such as 64."
        )
    if schema.size >> len(config.widths) < 1:
        raise ModelError(
            f"backbone.widths={config.widths}: so many blocks leave nothing of task.size="
            f"{schema.size} pixels; take fewer blocks."
        )
    numbers = handed_on(schema.size, schema.size, config.widths)
    refuse_large(numbers, fix="lower task.size or backbone.widths")
    compute = within_memory(order.compute, numbers)
    model = Cnn(
        channels=schema.channels,
        side=schema.size,
        widths=config.widths,
        num_outputs=schema.num_outputs,
        row_norm=config.row_norm,
    )
    return Workload(task, model.to(compute.device), task.encode, task.synthetic, compute)


__all__ = ["COARSE", "PROCESSOR", "Cnn", "build_cnn", "convolutions", "handed_on"]
