"""Tabular classification: one label for one row.

Every input is encoded by public ranges and categories of the schema, so that no statistic of the
records leaves an institution and all institutions encode alike.
"""

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.task import ColumnConfig, TabularConfig
from confide.tasks.schema import Column
from confide.tasks.single_label import SingleLabel
from confide.tasks.task import LABELS, Examples

FEATURES = "features"
_EDGE = 2.0
"""A range is encoded as [-2, 2], as if it were two standard deviations either way: numbers and
categories then weigh alike."""


class Tabular(SingleLabel):
    """Columns in, logits out."""

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        self._config = config

    @property
    def num_inputs(self) -> int:
        """Width of the encoded row."""
        return sum(column.width for column in self._config.columns.values())

    def encode(self, records: Dataset) -> Examples:
        """Encode rows: ``features`` of shape [n, d], float32 in [-2, 2].

        A missing number is 0, the middle of its range.

        Raises:
            DataError: naming every problem: missing columns, text where numbers belong, unknown
                categories or labels.
        """
        read, labels = self.read(records)
        parts = []
        for name, column in self._config.columns.items():
            values = read.columns[name]
            parts.append(_encode_column(column, values))
            if column.indicator:
                missing = torch.from_numpy(values.missing.to_numpy(dtype="float32"))
                parts.append(missing[:, None])
        return Examples({FEATURES: torch.cat(parts, dim=1), LABELS: labels})

    def synthetic(self, count: int, generator: torch.Generator) -> Examples:
        """Invent rows."""
        features = torch.rand((count, self.num_inputs), generator=generator) * 2 * _EDGE - _EDGE
        return Examples(
            {
                FEATURES: features,
                LABELS: torch.randint(0, len(self.labels), (count,), generator=generator),
            }
        )


def _encode_column(column: ColumnConfig, read: Column) -> Tensor:
    """Encode a column, shape [n, 1] for numbers, [n, number of categories] for categories."""
    if column.kind == "numeric":
        assert column.minimum is not None
        assert column.maximum is not None
        scaled = ((read.values - column.minimum) / (column.maximum - column.minimum)).clip(0, 1)
        centred = (2 * scaled - 1) * _EDGE
        # Missing values take the middle, whatever the records' mean: no statistic of theirs is
        # used.
        return torch.from_numpy(centred.fillna(0.0).to_numpy(dtype="float32"))[:, None]
    # All zeros where the value is missing.
    onehot = torch.zeros((len(read.values), len(column.categories)))
    for i in range(len(column.categories)):
        onehot[:, i] = torch.from_numpy((read.values == i).to_numpy(dtype="float32"))
    return onehot


__all__ = ["FEATURES", "Tabular"]
