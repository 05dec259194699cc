"""Rows of a table.

Every input is encoded by what is public of its column (:mod:`confide.encodings`), so that no
statistic of the records leaves an institution and all institutions encode alike. The schema is the
one that a plan makes of itself: with edges that were released before the run, and with the length
that rows may have.
"""

from collections.abc import Iterator

import numpy
import torch
from datasets import Dataset

from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.encodings.encoding import Floats
from confide.encodings.tree_cells import NO, RAW, YES
from confide.tasks.labelled import Labelled
from confide.tasks.schema import Column
from confide.tasks.task import LABELS, Examples

FEATURES = "features"
_WITHIN = 1 - 2.0**-20
"""Rows are this long: rounded to float32, none is longer than 1."""


class Tabular(Labelled):
    """Columns in, the outcome's outputs out."""

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        self._config = config

    @property
    def num_inputs(self) -> int:
        """Width of the encoded row."""
        return self._config.num_inputs

    def encode(self, records: Dataset) -> Examples:
        """Encode rows: ``features`` of shape [n, d], float32.

        A missing number is 0 in each of its inputs: with most encodings, the middle.

        Raises:
            DataError: naming every problem: missing columns, text where numbers belong, unknown
                categories or labels.
        """
        read, labels = self.read(records)
        parts = [
            block
            for name, column in self._config.columns.items()
            for block in self._blocks(column, read.columns[name])
        ]
        rows = numpy.concatenate(parts, axis=1)
        if self._config.numeric.scaling == "row":
            rows = _of_norm_one(rows)
        features = torch.from_numpy(rows.astype("float32"))
        return Examples({FEATURES: features, LABELS: labels})

    def _blocks(self, column: ColumnConfig, read: Column) -> Iterator[Floats]:
        """Yield a column's inputs: those of its values, and whether each is missing."""
        if column.kind == "numeric":
            yield self._numbers(column, read)
        else:
            yield _categories(column, read)
        if column.indicator:
            yield read.missing.to_numpy(dtype=float)[:, None]

    def _numbers(self, column: ColumnConfig, read: Column) -> Floats:
        numeric = self._config.numeric
        encoding, scale = column.encoding_of(numeric), column.scale(numeric)
        missing = read.values.isna().to_numpy(dtype=bool)
        values = read.values.fillna(scale.minimum).to_numpy(dtype=float)
        rows = encoding.encode_fn(values.clip(scale.minimum, scale.maximum), scale)
        if numeric.scaling in ("column", "row"):
            rows = rows / encoding.bound_fn(scale)
        # Whatever the records' mean: no statistic of theirs is used.
        rows[missing] = encoding.missing
        return rows


def _categories(column: ColumnConfig, read: Column) -> Floats:
    """Encode categories, [n, number of categories]; all zeros where the value is missing."""
    width = len(column.categories) + (column.unseen == "other")
    indices = read.values.to_numpy()
    chosen: Floats = (indices[:, None] == numpy.arange(width)).astype(numpy.float64)
    if column.tree_encoding is not None:
        # To trees a missing category is no answer: neither yes nor no to any of them
        missing = read.missing.to_numpy(dtype=bool)
        if column.tree_encoding != RAW:
            chosen = numpy.where(chosen == 1, YES, NO)
        chosen[missing] = column.encoding_of(NumericConfig()).missing
    return chosen


def _of_norm_one(rows: Floats) -> Floats:
    """Scale rows [n, d] to norm 1, but for those that are all zeros."""
    squares = numpy.zeros(len(rows))
    # Column by column: a sum along a row may be taken in another order beside other rows.
    for column in rows.T:
        squares += column**2
    norms = numpy.sqrt(squares)
    norms[norms == 0] = 1.0
    scaled: Floats = rows * (_WITHIN / norms)[:, None]
    return scaled


__all__ = ["FEATURES", "Tabular"]
