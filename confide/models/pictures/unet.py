"""U-Nets that start at random, small enough for per-record gradients."""

import itertools
import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, cat, nn

from confide.config.models.unet import UNetConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.errors import ModelError
from confide.models.memory import refuse_large, within_memory
from confide.models.pictures.cnn import PROCESSOR
from confide.models.workload import Order, Workload
from confide.tasks.media.image_classification import scaled

_GROUP = 4


class UNet(nn.Module):
    """Levels of convolutions, each with what the level above had beside what came from below.

    Ronneberger et al., MICCAI 2015, with GroupNorm, which normalises each record by itself.

    Args:
        channels: of pictures.
        widths: channels of each level.
        num_classes: c.
    """

    def __init__(self, *, channels: int, widths: list[int], num_classes: int) -> None:
        super().__init__()
        self._channels = channels
        self.down = nn.ModuleList(
            _block(inputs, outputs, stride=1 if level == 0 else 2)
            for level, (inputs, outputs) in enumerate(itertools.pairwise([channels, *widths]))
        )
        self.up = nn.ModuleList(
            _block(below + beside, beside) for beside, below in itertools.pairwise(widths)
        )
        self.wider = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [b, c, h, w] of 8 bits to logits [b, k, h, w]."""
        values = scaled(pixel_values, PROCESSOR, channels=self._channels)
        levels: list[Tensor] = []
        for block in self.down:
            values = block(values)
            levels.append(values)
        for block, beside in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            values = block(cat([self.wider(values), beside], dim=1))
        outputs: Tensor = self.head(values)
        return outputs


def _block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    norm = nn.GroupNorm(math.gcd(_GROUP, outputs), outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), norm, nn.ReLU())


def _handed_on(side: int, widths: Sequence[int], classes: int) -> int:
    """Return how many numbers the levels hand on of one record, down and up again."""
    below = [*widths[1:], 0]
    # Three times down and up, and once what comes from below beside what was there
    levels = zip(range(len(widths)), widths, below, strict=True)
    numbers = sum((side >> level) ** 2 * (7 * own + lower) for level, own, lower in levels)
    return numbers + side**2 * classes


def build_unet(config: UNetConfig, order: Order) -> Workload:
    """Build a network for pictures of the schema's size.

    Raises:
        ModelError: if the schema has no size, or one that cannot be halved so often.
    """
    task = order.task_fn({})
    schema = cast(SegmentationConfig, order.task)
    step = 2 ** (len(config.widths) - 1)
    if schema.size is None or schema.size % step:
        raise ModelError(
            f"task.size={schema.size}: expected a multiple of {step}, since each of"
            f" {len(config.widths)} levels after the first halves it; set task.size or take fewer"
            " of backbone.widths."
        )
    numbers = _handed_on(schema.size, config.widths, schema.num_outputs)
    refuse_large(numbers, fix="lower task.size or backbone.widths")
    compute = within_memory(order.compute, numbers)
    model = UNet(channels=schema.channels, widths=config.widths, num_classes=schema.num_outputs)
    return Workload(task, model.to(compute.device), task.encode, task.synthetic, compute)


__all__ = ["UNet", "build_unet"]
