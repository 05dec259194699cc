"""Models of pictures trained with confide that no family of transformers is.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)

``pixel_values`` are what ``AutoImageProcessor.from_pretrained(folder)`` makes of pictures in RGB.
Logits are those of classes, or what ``confide_outcome`` in config.json has: of several labels, or
of being above each of labels in order, one logit each; of a number, its range mapped to [-2, 2],
or to [-2 / delta, 2 / delta] under Huber loss, on its scale.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


def _outputs(model: Any, logits: Tensor, labels: Tensor | None) -> ImageClassifierOutput:
    loss = None
    if labels is not None and model.config.problem_type == "single_label_classification":
        loss = nn.functional.cross_entropy(logits, labels)
    return ImageClassifierOutput(loss=loss, logits=logits)


def _of_norm(features: Tensor, row_norm: float | None) -> Tensor:
    if row_norm is None:
        return features
    lengths = features.square().sum(dim=-1, keepdim=True).sqrt()
    return features * (row_norm / lengths.clamp_min(1e-6))


class ConfideForImageClassification(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """A family's classifier of pictures, whose features are scaled to one norm before its head.

    Args:
        config: the family's, with ``confide_row_norm``.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.family = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
        head = self.family.classifier
        if isinstance(head, nn.Linear):
            self.family.classifier = nn.Identity()
        else:
            holder = head
            (name,) = [name for name, one in holder.named_children() if isinstance(one, nn.Linear)]
            head = getattr(holder, name)
            setattr(holder, name, nn.Identity())
        self.head = nn.Linear(head.in_features, config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **ignored: Any
    ) -> ImageClassifierOutput:
        """Map pixels [b, 3, h, w] to logits [b, c], and labels [b] of classes to a loss."""
        features = self.family(pixel_values=pixel_values).logits.flatten(start_dim=1)
        logits = self.head(_of_norm(features, self.config.confide_row_norm))
        return _outputs(self, logits, labels)


class ConfideCnnConfig(PreTrainedConfig):  # type: ignore[misc]
    """Widths of a convolutional network.

    Args:
        channels: of pictures: 1, of which the first of three is taken, or 3.
        side: of pictures, in pixels.
        widths: channels of each block.
        row_norm: norm that features are scaled to; None leaves them as they are.
    """

    model_type = "confide_cnn"

    def __init__(
        self,
        channels: int = 3,
        side: int = 32,
        widths: Sequence[int] = (8,),
        row_norm: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.channels, self.side, self.widths = channels, side, list(widths)
        self.row_norm = row_norm
        super().__init__(**kwargs)


class ConfideCnnForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """Blocks of a convolution, GroupNorm, ReLU and max pooling, and a linear head."""

    config_class = ConfideCnnConfig

    def __init__(self, config: ConfideCnnConfig) -> None:
        super().__init__(config)
        blocks: list[nn.Module] = []
        side = config.side
        for inputs, outputs in itertools.pairwise([config.channels, *config.widths]):
            norm = nn.GroupNorm(math.gcd(8, outputs), outputs)
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            blocks += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
            side //= 2
        pooled = max(1, side // 4)
        self.blocks = nn.Sequential(*blocks, nn.AvgPool2d(pooled), nn.Flatten())
        self.head = nn.Linear((side // pooled) ** 2 * config.widths[-1], config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **ignored: Any
    ) -> ImageClassifierOutput:
        """Map pixels [b, 3, h, w] to logits [b, c], and labels [b] of classes to a loss."""
        features = self.blocks(pixel_values[:, : self.config.channels])
        return _outputs(self, self.head(_of_norm(features, self.config.row_norm)), labels)


__all__ = ["ConfideCnnConfig", "ConfideCnnForImageClassification", "ConfideForImageClassification"]
