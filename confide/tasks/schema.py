"""Records against a task's schema: what fits, what does not, and how the text of a column is read.

Needs no torch.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy
import pandas
import pyarrow
from datasets import Dataset

from confide.config.custom import implementation
from confide.config.task import (
    TASKS,
    ColumnConfig,
    TabularConfig,
    TaskConfig,
    TextClassificationConfig,
)
from confide.errors import DataError

_SHOWN = 5
_BOOLEANS = frozenset({"true", "false"})


class Labels(NamedTuple):
    """A label column, read.

    Attributes:
        indices: class indices; None where the label is null or unknown.
        problems: what is wrong.
    """

    indices: list[int | None]
    problems: list[str]


class Column(NamedTuple):
    """A column of a table, read.

    Attributes:
        values: float64 numbers (NaN where missing), or a pandas Categorical of text.
        missing: where the value is missing.
        problems: what is wrong.
    """

    values: pandas.Series
    missing: pandas.Series
    problems: list[str]


class Inputs(NamedTuple):
    """Input columns, read.

    Attributes:
        columns: of a table, those that are there; {} for any other kind of input.
        problems: what is wrong.
    """

    columns: Mapping[str, Column]
    problems: list[str]


ReadFn = Callable[[Dataset, Any], Inputs]
"""Reads those input columns of a kind's schema that are there."""


class Read(NamedTuple):
    """Records, read.

    Attributes:
        columns: input columns of a table that are there.
        labels: empty where there is no label column.
        problems: what is wrong, one sentence a problem, each with the column, the count and the
            fix.
    """

    columns: Mapping[str, Column]
    labels: Labels
    problems: list[str]


def require_columns(records: Dataset, names: Sequence[str]) -> None:
    """Check that columns exist.

    Raises:
        DataError: naming those that are missing and those that are there.
    """
    missing = [name for name in names if name not in records.column_names]
    if missing:
        raise DataError(missing_columns(missing, records.column_names))


def missing_columns(missing: Sequence[str], present: Sequence[str]) -> str:
    """Say which columns are missing, which are there, and the fix."""
    return (
        f"The records lack column {', '.join(missing)}; they have {', '.join(present)}. "
        "Rename a column of the records or change the task's schema."
    )


def read(records: Dataset, config: TaskConfig) -> Read:
    """Read the columns that are there as the schema says."""
    read_inputs: ReadFn = implementation(TASKS[config.kind].reader)
    inputs = read_inputs(records, config)
    labels = Labels([], [])
    if config.label_column in records.column_names:
        labels = read_labels(records[config.label_column][:], config)
    return Read(inputs.columns, labels, [*inputs.problems, *labels.problems])


def whole_columns(records: Dataset, names: Sequence[str]) -> Mapping[str, pyarrow.ChunkedArray]:
    """Return columns whole, in the order of the records; the names are those of columns."""
    # All at once: `datasets` copies its description of all columns each time it is asked for one
    table = records.with_format("arrow", columns=list(names))[:] if names else pyarrow.table({})
    return {name: table[name] for name in names}


def fold_boolean(text: str) -> str:
    """Write true and false, which databases and spreadsheets capitalise at will, in lower case."""
    folded = text.lower()
    return folded if folded in _BOOLEANS else text


# --- labels


def read_labels(values: Sequence[object], config: TaskConfig) -> Labels:
    """Map the label column to class indices."""
    classes = {name: i for i, name in enumerate(config.labels)}
    # Without a mapping, raw values are class names themselves.
    known = {raw: classes[name] for raw, name in config.label_values.items()} or classes
    folded = {fold_boolean(raw): i for raw, i in known.items()}
    # Each distinct label is looked at once: there are few, in many records
    counts = Counter(values)
    found = []
    nulls = counts.pop(None, 0) + counts.pop("", 0)
    if nulls:
        found.append(
            f"Column {config.label_column}: {nulls} of {len(values)} labels are null; label or"
            " remove these records."
        )
    index_of = {value: folded.get(fold_boolean(str(value))) for value in counts}
    unknown = Counter({value: counts[value] for value in counts if index_of[value] is None})
    if unknown:
        shown = ", ".join(
            f"{str(value)!r} ({count} records)" for value, count in unknown.most_common(_SHOWN)
        )
        found.append(
            f"Column {config.label_column}: unknown label {shown}; the plan knows"
            f" {', '.join(known)}. Correct the records, or add the label to task.labels or"
            " task.label_values."
        )
    return Labels([index_of.get(value) for value in values], found)


def label_counts(labels: Labels, config: TaskConfig) -> dict[str, int]:
    """Count the records of each class; null and unknown labels are left out."""
    counts = Counter(labels.indices)
    return {name: counts[index] for index, name in enumerate(config.labels)}


# --- text


def read_texts(records: Dataset, config: TextClassificationConfig) -> Inputs:
    """Count texts that are null; an empty text is a text."""
    name = config.text_column
    if name not in records.column_names:
        return Inputs({}, [])
    texts = records[name][:]
    nulls = sum(text is None for text in texts)
    problem = f"Column {name}: {nulls} of {len(texts)} texts are null; write or remove them."
    return Inputs({}, [problem] if nulls else [])


# --- tables


def read_table(records: Dataset, config: TabularConfig) -> Inputs:
    """Read numbers and categories."""
    names = [name for name in config.columns if name in records.column_names]
    table = whole_columns(records, names)
    columns = {name: read_column(name, config.columns[name], table[name]) for name in names}
    return Inputs(columns, [problem for column in columns.values() for problem in column.problems])


def read_column(name: str, column: ColumnConfig, values: pyarrow.ChunkedArray) -> Column:
    """Read one input column as the schema says."""
    # Each distinct value is looked at once: columns repeat few values many times
    encoded = values.cast(pyarrow.string()).dictionary_encode().unify_dictionaries()
    encoded = encoded.combine_chunks()
    distinct = [text.strip() for text in encoded.dictionary.to_pylist()]
    # A null's code is -1: it reads what stands last in a table of distinct values
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    absent = {"", *column.missing_values}
    missing = numpy.array([text in absent for text in distinct] + [True])
    read = _read_numbers if column.kind == "numeric" else _read_categories
    return read(name, column, _Distinct(distinct, codes, missing))


class _Distinct(NamedTuple):
    """The distinct values of a column.

    Attributes:
        texts: distinct values, k of them.
        codes: index of each record's value, shape [n]; -1 where it is null.
        missing: whether each stands for a missing value, bool of shape [k + 1]; last, null does.
    """

    texts: list[str]
    codes: numpy.ndarray[Any, Any]
    missing: numpy.ndarray[Any, Any]


def _read_numbers(name: str, column: ColumnConfig, seen: _Distinct) -> Column:
    known = zip(seen.texts, seen.missing, strict=False)
    parsed = [numpy.nan if absent else parse_number(text) for text, absent in known]
    numbers = numpy.array([*parsed, numpy.nan])
    wrong = int((numpy.isnan(numbers) & ~seen.missing)[seen.codes].sum())
    listed = [parse_number(value) for value in column.missing_values]
    # "0.0" in the records where the schema says "0". A NaN equals none, itself included.
    missing = seen.missing | numpy.isin(numbers, listed)
    problem = (
        f"Column {name}: {wrong} of {len(seen.codes)} values are not numbers; correct them or list"
        " them in missing_values."
    )
    numbers[missing] = numpy.nan
    return Column(
        pandas.Series(numbers[seen.codes]),
        pandas.Series(missing[seen.codes]),
        [problem] if wrong else [],
    )


def parse_number(text: str) -> float:
    """Return the finite number a text stands for, or NaN."""
    try:
        number = float(text)
    except ValueError:
        return numpy.nan
    # Python reads 1_000 as a number; nobody else who writes tables means it.
    return number if numpy.isfinite(number) and "_" not in text else numpy.nan


def _read_categories(name: str, column: ColumnConfig, seen: _Distinct) -> Column:
    folded = [fold_boolean(text) for text in seen.texts]
    categories = list(dict.fromkeys(folded))
    position = {text: i for i, text in enumerate(categories)}
    codes = numpy.array([*(position[text] for text in folded), -1])[seen.codes]
    values = pandas.Series(pandas.Categorical.from_codes(codes, categories=categories))
    missing = pandas.Series(seen.missing[seen.codes])
    listed = {fold_boolean(category) for category in column.categories}
    strange = numpy.array([*(text not in listed for text in folded), False]) & ~seen.missing
    if not strange.any():
        return Column(values, missing, [])
    unknown = sorted({text for text, odd in zip(folded, strange, strict=False) if odd})
    written = int(strange[seen.codes].sum())
    problem = (
        f"Column {name}: {len(unknown)} unknown categories in {written} of {len(codes)} values,"
        f" such as {unknown[0]!r}; the schema knows {', '.join(column.categories)}. Correct the"
        " records, or add the category or list it in missing_values."
    )
    return Column(values, missing, [problem])


def count_problems(counts: dict[str, int], *, total: int, minimum: int) -> Iterator[str]:
    """Yield a sentence for each label with too few records."""
    for label, count in counts.items():
        if count < minimum:
            yield (
                f"Label {label}: {count} of {total} records, expected at least"
                f" data.min_per_label={minimum}; bring more, or lower data.min_per_label."
            )


__all__ = [
    "Column",
    "Inputs",
    "Labels",
    "Read",
    "ReadFn",
    "count_problems",
    "fold_boolean",
    "label_counts",
    "missing_columns",
    "parse_number",
    "read",
    "read_column",
    "read_labels",
    "read_table",
    "read_texts",
    "require_columns",
    "whole_columns",
]
