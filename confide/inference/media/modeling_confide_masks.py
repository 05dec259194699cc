"""A model of masks trained with confide: a U-Net with GroupNorm.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModelForSemanticSegmentation.from_pretrained(folder, trust_remote_code=True)

``pixel_values`` are pictures [b, c, h, w] of 8 bits, as large as ``size`` of the task in
``confide.json`` says; the model maps 0 to 255 to -1 to 1 itself. Logits are those of each pixel's
classes.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, cat, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput


class ConfideMasksConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Sizes of a U-Net.

    Args:
        channels: of pictures.
        widths: channels of each level.
    """

    model_type = "confide_masks"

    def __init__(
        self, channels: int = 3, widths: Sequence[int] = (8, 16, 16), **kwargs: Any
    ) -> None:
        self.channels, self.widths = channels, list(widths)
        super().__init__(**kwargs)


class ConfideForSemanticSegmentation(PreTrainedModel):  # type: ignore[misc]
    """Convolutions that halve a picture's sides and double them again."""

    config_class = ConfideMasksConfig

    def __init__(self, config: ConfideMasksConfig) -> None:
        super().__init__(config)
        sizes = [config.channels, *config.widths]
        self.down = nn.ModuleList(
            _block(inputs, outputs, stride=1 if level == 0 else 2)
            for level, (inputs, outputs) in enumerate(itertools.pairwise(sizes))
        )
        self.up = nn.ModuleList(
            _block(below + beside, beside) for beside, below in itertools.pairwise(config.widths)
        )
        self.wider = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(config.widths[0], config.num_labels, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor, **ignored: Any) -> SemanticSegmenterOutput:
        """Map pixels [b, c, h, w] of 8 bits to logits [b, k, h, w]."""
        values = pixel_values.float() / 127.5 - 1
        levels: list[Tensor] = []
        for block in self.down:
            values = block(values)
            levels.append(values)
        for block, beside in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            values = block(cat([self.wider(values), beside], dim=1))
        return SemanticSegmenterOutput(logits=self.head(values))


def _block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    norm = nn.GroupNorm(math.gcd(4, outputs), outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), norm, nn.ReLU())


__all__ = ["ConfideForSemanticSegmentation", "ConfideMasksConfig"]
