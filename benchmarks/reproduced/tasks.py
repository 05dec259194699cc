"""Tasks of others' programs: columns go to the model as they are."""

import numpy
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional

from confide.tasks.tabular import FEATURES, Tabular
from confide.tasks.task import LABELS, Batch, Examples


class Raw(Tabular):
    """Numbers that nothing scales or cuts."""

    def encode(self, records: Dataset) -> Examples:
        """Encode rows: ``features`` of shape [n, d], float32."""
        read, labels = self.read(records)
        columns = [read.columns[name].values for name in self.content_columns()]
        rows = numpy.stack([one.to_numpy(dtype="float32") for one in columns], axis=1)
        return Examples({FEATURES: torch.from_numpy(rows), LABELS: labels})


class OneLogit(Raw):
    """Two classes by one logit and a sigmoid, which is the model's second output.

    The first output has no part in loss and scores, so that its weights never move.
    """

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return binary cross entropy, shape [b]."""
        truth = batch[LABELS].to(outputs.dtype)
        return functional.binary_cross_entropy_with_logits(outputs[:, 1], truth, reduction="none")

    def scores(self, outputs: Tensor) -> Tensor:
        """Return both classes' probabilities, shape [b, 2]."""
        logit = outputs[:, 1]
        return super().scores(torch.stack([torch.zeros_like(logit), logit], dim=1))
