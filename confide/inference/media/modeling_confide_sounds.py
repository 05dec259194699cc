"""A model of sounds trained with confide: convolutions with GroupNorm on a spectrogram.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)

``input_values`` are log-mel spectrograms [b, t, m] as the task in ``confide.json`` says: the mean
over the channels, resampled to ``rate``, cut or padded to ``seconds``; power in Hann windows of
25 ms, ``step_ms`` apart, in Slaney's mel bands from 60 Hz to 0.475 of the rate; (log10 + 3) / 2.
``confide predict`` makes them of WAV files.

Logits are those of classes, or what ``confide_outcome`` in config.json has: of several labels, or
of being above each of labels in order, one logit each; of a number, its range mapped to [-2, 2],
or to [-2 / delta, 2 / delta] under Huber loss, on its scale.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class ConfideSoundsConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Sizes of a network.

    Args:
        frames: t of a spectrogram.
        bands: m of a spectrogram.
        widths: channels of each block.
        row_norm: norm that features are scaled to; None leaves them as they are.
    """

    model_type = "confide_sounds"

    def __init__(
        self,
        frames: int = 51,
        bands: int = 32,
        widths: Sequence[int] = (32, 64),
        row_norm: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.frames, self.bands = frames, bands
        self.widths, self.row_norm = list(widths), row_norm
        super().__init__(**kwargs)


class ConfideForAudioClassification(PreTrainedModel):  # type: ignore[misc]
    """Blocks of a convolution, GroupNorm, ReLU and max pooling, and a linear head."""

    config_class = ConfideSoundsConfig

    def __init__(self, config: ConfideSoundsConfig) -> None:
        super().__init__(config)
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([1, *config.widths]):
            norm = nn.GroupNorm(math.gcd(8, outputs), outputs)
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            blocks += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
        left = config.frames >> len(config.widths), config.bands >> len(config.widths)
        pooled = max(1, left[0] // 4), max(1, left[1] // 4)
        cells = (left[0] // pooled[0]) * (left[1] // pooled[1])
        self.blocks = nn.Sequential(*blocks, nn.AvgPool2d(pooled), nn.Flatten())
        self.head = nn.Linear(cells * config.widths[-1], config.num_labels)
        self.post_init()

    def forward(
        self, input_values: Tensor, labels: Tensor | None = None, **ignored: Any
    ) -> SequenceClassifierOutput:
        """Map spectrograms [b, t, m] to logits [b, c]; of classes with labels [b] to a loss too."""
        features = self.blocks(input_values[:, None])
        if self.config.row_norm is not None:
            lengths = features.square().sum(dim=-1, keepdim=True).sqrt()
            features = features * (self.config.row_norm / lengths.clamp_min(1e-6))
        logits = self.head(features)
        loss = None
        if labels is not None and self.config.problem_type == "single_label_classification":
            loss = nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


__all__ = ["ConfideForAudioClassification", "ConfideSoundsConfig"]
