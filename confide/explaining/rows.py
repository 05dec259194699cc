"""Rows of a table as people read them: changed, and given to the model again."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

import pyarrow
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.spelling import number_text
from confide.config.tasks.columns import ColumnConfig
from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.tasks.reading import number_of
from confide.tasks.schema import read_column

MISSING = ""
"""Text of a missing value."""
Columns = Mapping[str, Sequence[str | None]]
"""Columns of rows, as text."""
_IN_PASS = 8192


class Rows:
    """What a model gives for rows, whatever their encoding.

    Args:
        predictor: a model of a table.
        network: the same, whole.
    """

    def __init__(self, predictor: Predictor, network: Network) -> None:
        self.schema: Mapping[str, ColumnConfig] = predictor.plan.task.table_columns
        self._predictor, self._network = predictor, network

    def outputs(self, columns: Columns) -> Tensor:
        """Return outputs [n, ...] of n rows, without gradients."""
        # Without a fingerprint `datasets` would pickle every record to make one
        records = Dataset(
            pyarrow.table(
                {name: pyarrow.array(it, pyarrow.string()) for name, it in columns.items()}
            ),
            fingerprint=uuid4().hex,
        )
        made = []
        with torch.no_grad():
            for start in range(0, len(records), _IN_PASS):
                part = records.select(range(start, min(start + _IN_PASS, len(records))))
                examples = self._predictor.task.encode(part)
                made.append(self._network.outputs(examples.take(torch.arange(len(part)))))
        return torch.cat(made)

    def is_missing(self, name: str, value: str | None) -> bool:
        """Tell whether the schema reads a value as missing."""
        read = read_column(name, self.schema[name], [value])
        return bool(read.missing.iloc[0])

    def number(self, name: str, value: str | None) -> float | None:
        """Return a number, within its column's public range; None where it is missing."""
        column = self.schema[name]
        if value is None or self.is_missing(name, value):
            return None
        assert column.minimum is not None
        assert column.maximum is not None
        return min(max(number_of(value), column.minimum), column.maximum)

    def shown(self, name: str, value: str | None) -> str:
        """Return a value for people."""
        return "missing" if self.is_missing(name, value) else str(value)

    def centre(self, name: str) -> str:
        """Return the middle of a column's public range; missing, of categories."""
        column = self.schema[name]
        if column.kind != "numeric":
            return MISSING
        assert column.minimum is not None
        assert column.maximum is not None
        return plain((column.minimum + column.maximum) / 2)

    def least(self, name: str) -> str:
        """Return the lowest value of a column's public range; missing, of categories."""
        column = self.schema[name]
        return plain(column.minimum) if column.minimum is not None else MISSING


def plain(number: float) -> str:
    """Return a number as records write it.

    >>> plain(3100.0), plain(0.25)
    ('3100', '0.25')
    """
    return number_text(repr(float(number)))


def columns_of(records: Dataset) -> dict[str, list[str | None]]:
    """Return records as columns of text."""
    return {name: list(records[name][:]) for name in records.column_names}


__all__ = ["MISSING", "Columns", "Rows", "columns_of", "plain"]
