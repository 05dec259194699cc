"""Labels in order, by one logit for each step of the order: is the label above it?

The reduction of Li and Lin, "Ordinal regression by extended binary classification", NeurIPS 2006,
with weights of its own for each step.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.outcome import Labelling
from confide.metrics.outcomes.ordinal import median_labels
from confide.tasks.outcomes.classes import PREDICTION, Classes
from confide.tasks.outcomes.outcome import Values

if TYPE_CHECKING:
    from torch import Tensor


class Ordinal(Classes):
    """Targets are places in the order, int64 of shape [n]; scores are label probabilities [n, k].

    Read, counted and told as classes are.

    Args:
        config: names of the labels, in their order, and where they are read.
        labelling: whether records may have no label; what else it says is not read.
    """

    label_settings = "task.outcome.labels or task.outcome.label_values"

    def __init__(self, config: OrdinalConfig, labelling: Labelling) -> None:
        own = dataclasses.replace(config.own_labelling, may_lack=labelling.may_lack)
        super().__init__(config, own)

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return sigmoid cross entropy over the steps."""
        import torch

        from confide.tasks.outcomes.binary import binary_losses

        steps = torch.arange(outputs.shape[1], device=targets.device)
        return binary_losses(outputs, targets[:, None] > steps)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return label probabilities: differences of those of being above each step."""
        import torch

        above = outputs.float().sigmoid()
        # A step above another is no likelier; by itself each output would not know
        kept = [above[:, :1]]
        for step in range(1, above.shape[1]):
            kept.append(torch.minimum(kept[-1], above[:, step : step + 1]))
        above = torch.cat(kept, dim=1)
        ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([ones, above], dim=1) - torch.cat([above, zeros], dim=1)

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Name the median label, and give each one's probability."""
        places = median_labels(scores.astype(numpy.float64)).tolist()
        return {**super().predictions(scores), PREDICTION: [self._names[i] for i in places]}


__all__ = ["Ordinal"]
