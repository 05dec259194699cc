"""A model of speech trained with confide: convolutions over time, and characters in every frame.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModelForCTC.from_pretrained(folder, trust_remote_code=True)

``input_values`` are log-mel spectrograms [b, t, m] as the task in ``confide.json`` says: the mean
over the channels, resampled to ``rate``, cut or padded to ``seconds``; power in Hann windows of
25 ms, ``step_ms`` apart, in Slaney's mel bands from 60 Hz to 0.475 of the rate; (log10 + 3) / 2.
``confide predict`` makes them of WAV files.

Logits are [b, t, c + 1]: of no character, and of those that ``id2label`` in config.json names. The
text is the likeliest of every frame, repeats once, and without what stands for none.
"""

import math
from typing import Any

from torch import Tensor, full_like, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class ConfideSpeechConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Sizes of a network.

    Args:
        bands: m of a spectrogram.
        width: channels of each convolution.
        depth: blocks after the first.
        kernel: frames that a convolution sees.
    """

    model_type = "confide_speech"

    def __init__(
        self, bands: int = 32, width: int = 64, depth: int = 3, kernel: int = 9, **kwargs: Any
    ) -> None:
        self.bands, self.width, self.depth, self.kernel = bands, width, depth, kernel
        super().__init__(**kwargs)


class ConfideForCTC(PreTrainedModel):  # type: ignore[misc]
    """Convolutions with GroupNorm and ReLU, and a linear head in every frame."""

    config_class = ConfideSpeechConfig

    def __init__(self, config: ConfideSpeechConfig) -> None:
        super().__init__(config)

        def block(inputs: int) -> nn.Module:
            conv = nn.Conv1d(inputs, config.width, config.kernel, padding=config.kernel // 2)
            norm = nn.GroupNorm(math.gcd(8, config.width), config.width)
            return nn.Sequential(conv, norm, nn.ReLU())

        self.first = block(config.bands)
        self.blocks = nn.ModuleList(block(config.width) for _ in range(config.depth))
        self.head = nn.Linear(config.width, config.num_labels)
        self.post_init()

    def forward(
        self, input_values: Tensor, labels: Tensor | None = None, **ignored: Any
    ) -> CausalLMOutput:
        """Map spectrograms [b, t, m] to logits; with labels [b, k], -100 behind them, to a loss."""
        hidden = self.first(input_values.transpose(1, 2))
        for one in self.blocks:
            hidden = hidden + one(hidden)
        logits = self.head(hidden.transpose(1, 2))
        loss = None
        if labels is not None:
            lengths = (labels >= 0).sum(dim=1)
            losses = nn.functional.ctc_loss(
                logits.log_softmax(dim=-1).transpose(0, 1),
                labels.clamp(min=0),
                full_like(lengths, logits.shape[1]),
                lengths,
                reduction="none",
                zero_infinity=True,
            )
            loss = (losses / lengths.clamp(min=1)).mean()
        return CausalLMOutput(loss=loss, logits=logits)


__all__ = ["ConfideForCTC", "ConfideSpeechConfig"]
