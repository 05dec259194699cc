"""Tabular classification: one label for one row.

Every input is encoded by public ranges and categories of the schema, so that no statistic of the records leaves an
institution and all institutions encode alike.
"""

import math
from collections.abc import Sequence

import pandas
import torch
from datasets import Dataset
from torch import Tensor

from confide.config import ColumnConfig, TabularConfig
from confide.errors import DataError
from confide.tasks.classification import SingleLabel, encode_labels, require_columns
from confide.tasks.task import LABELS, Examples

FEATURES = "features"
_EDGE = 2.0
"""A range is encoded as [-2, 2], as if it were two standard deviations either way: numbers and categories then weigh alike."""


class Tabular(SingleLabel):
    """Columns in, logits out."""

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        self._config = config

    @property
    def num_inputs(self) -> int:
        """Width of the encoded row."""
        return sum(_width(column) for column in self._config.columns.values())

    def content_columns(self) -> Sequence[str]:
        """Name the input columns."""
        return tuple(self._config.columns)

    def encode(self, records: Dataset) -> Examples:
        """Encode rows: ``features`` of shape [n, d], float32 in [-2, 2]; a missing number is 0, the middle of its range.

        Raises:
            DataError: naming every column that is missing, or holds text where numbers belong or an unknown category.
        """
        require_columns(records, [*self._config.columns, self._config.label_column])
        labels = encode_labels(records, self._config)
        frame = records.select_columns(list(self._config.columns)).to_pandas()
        parts, problems = [], []
        for name, column in self._config.columns.items():
            try:
                parts.append(_encode_column(name, column, frame[name]))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError(" ".join(problems))
        return Examples({FEATURES: torch.cat(parts, dim=1), LABELS: labels})

    def synthetic(self, count: int, generator: torch.Generator) -> Examples:
        """Invent rows."""
        features = torch.rand((count, self.num_inputs), generator=generator) * 2 * _EDGE - _EDGE
        return Examples({FEATURES: features, LABELS: torch.randint(0, len(self.labels), (count,), generator=generator)})


def _width(column: ColumnConfig) -> int:
    return (1 if column.kind == "numeric" else len(column.categories)) + int(column.indicator)


def _encode_column(name: str, column: ColumnConfig, values: pandas.Series) -> Tensor:
    """Encode one column, shape [n, width]."""
    text = values.astype("string").str.strip()
    missing = text.isna() | (text == "") | text.isin(column.missing_values)
    encode = _numeric if column.kind == "numeric" else _categorical
    encoded = encode(name, column, text, missing)
    if column.indicator:
        flag = torch.from_numpy(missing.to_numpy(dtype="float32", na_value=1.0))
        encoded = torch.cat([encoded, flag[:, None]], dim=1)
    return encoded


def _numeric(name: str, column: ColumnConfig, text: pandas.Series, missing: pandas.Series) -> Tensor:
    numbers = pandas.to_numeric(text.where(~missing), errors="coerce").replace([math.inf, -math.inf], math.nan)
    wrong = int((numbers.isna() & ~missing).sum())
    if wrong:
        raise DataError(
            f"Column {name}: {wrong} of {len(text)} values are not numbers; correct them or list them in missing_values."
        )
    unlisted = numbers.isin([float(v) for v in column.missing_values if _is_number(v)])
    missing |= unlisted  # "0.0" where the schema says "0"
    assert column.minimum is not None
    assert column.maximum is not None
    scaled = ((numbers - column.minimum) / (column.maximum - column.minimum)).clip(0, 1)
    centred = (2 * scaled - 1) * _EDGE
    return torch.from_numpy(centred.mask(missing).to_numpy(dtype="float32", na_value=0.0))[:, None]


def _categorical(name: str, column: ColumnConfig, text: pandas.Series, missing: pandas.Series) -> Tensor:
    unknown = sorted(set(text[~missing]) - set(column.categories))
    if unknown:
        raise DataError(
            f"Column {name}: {len(unknown)} unknown categories, such as {unknown[0]!r}; the schema knows "
            f"{', '.join(column.categories)}. Correct the records, or add the category or list it in missing_values."
        )
    onehot = torch.zeros((len(text), len(column.categories)))
    for i, category in enumerate(column.categories):
        onehot[:, i] = torch.from_numpy(((text == category) & ~missing).to_numpy(dtype="float32", na_value=0.0))
    return onehot


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


__all__ = ["FEATURES", "Tabular"]
