"""A model of table rows trained with confide: linear, or a perceptron with ReLU.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)

``features`` are encoded columns, in the order of the task in ``confide.json``: a number by its
column's encoding and edges (``linear``: the public range mapped to [-2, 2]; missing: 0), a category
as one input each, an indicator as 1 where the value is missing. ``confide predict`` encodes.

Logits are those of classes, or what ``confide_outcome`` in config.json has: of several labels, or
of being above each of labels in order, one logit each; of a number, its range mapped to [-2, 2],
or to [-2 / delta, 2 / delta] under Huber loss, on its scale.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class ConfideTabularConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Widths of a perceptron.

    Args:
        widths: inputs, hidden layers, classes.
        row_norm: norm that rows are scaled to; None leaves them as they are.
        pairs: start and end of two columns in a row, for each pair whose products are inputs too;
            None for none.
    """

    model_type = "confide_tabular"

    def __init__(
        self,
        widths: Sequence[int] = (1, 2),
        row_norm: float | None = None,
        pairs: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.widths, self.row_norm = list(widths), row_norm
        if pairs is not None:
            self.pairs = [list(span) for span in pairs]
        super().__init__(**kwargs)


class ConfideForTabularClassification(PreTrainedModel):  # type: ignore[misc]
    """Linear layers with ReLU between them."""

    config_class = ConfideTabularConfig

    def __init__(self, config: ConfideTabularConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(config.widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.post_init()

    def forward(
        self, features: Tensor, labels: Tensor | None = None, **ignored: Any
    ) -> SequenceClassifierOutput:
        """Map features [b, d] to logits [b, c]; of classes with labels [b], the mean loss too."""
        blocks = [features]
        for start, end, other, last in getattr(self.config, "pairs", ()):
            one, two = features[:, start:end], features[:, other:last]
            norms = one.square().sum(dim=-1) * two.square().sum(dim=-1)
            products = (one[:, :, None] * two[:, None, :]).flatten(start_dim=1)
            blocks.append(products * norms.clamp_min(1e-24).pow(-0.25)[:, None])
        features = torch.cat(blocks, dim=1) if len(blocks) > 1 else features
        if self.config.row_norm is not None:
            lengths = features.square().sum(dim=-1, keepdim=True).sqrt()
            features = features * (self.config.row_norm / lengths.clamp_min(1e-6))
        logits = self.layers(features)
        loss = None
        if labels is not None and self.config.problem_type == "single_label_classification":
            loss = nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


__all__ = ["ConfideForTabularClassification", "ConfideTabularConfig"]
