"""Records against a task's schema: what fits, what does not, and how the text of a column is read.

Needs no torch.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy
import pandas
import pyarrow
from datasets import Dataset

from confide.config.custom import implementation
from confide.config.spelling import canonical_name, name_index, nearest, written
from confide.config.task import (
    TASKS,
    ColumnConfig,
    TabularConfig,
    TaskConfig,
    TextClassificationConfig,
)
from confide.errors import DataError

_SHOWN = 5
_BOOLEANS = {"true": 1.0, "false": 0.0}
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+", re.ASCII)


class Problem(NamedTuple):
    """What is wrong with records.

    Attributes:
        text: a sentence with the column, the count and the fix.
        record: position of the first record that it is found in, from 0; None if in none alone.
    """

    text: str
    record: int | None = None


class Labels(NamedTuple):
    """A label column, read.

    Attributes:
        indices: class indices; None where the label is null or unknown.
        problems: what is wrong.
    """

    indices: list[int | None]
    problems: list[Problem]


class Column(NamedTuple):
    """A column of a table, read.

    Attributes:
        values: float64 numbers (NaN where missing), or positions among the schema's categories
            (-1 where missing or unknown).
        missing: where the value is missing.
        problems: what is wrong.
    """

    values: pandas.Series
    missing: pandas.Series
    problems: list[Problem]


class Inputs(NamedTuple):
    """Input columns, read.

    Attributes:
        columns: of a table, those that are there; {} for any other kind of input.
        problems: what is wrong.
    """

    columns: Mapping[str, Column]
    problems: list[Problem]


ReadFn = Callable[[Dataset, Any], Inputs]
"""Reads those input columns of a kind's schema that are there."""


class Read(NamedTuple):
    """Records, read.

    Attributes:
        columns: input columns of a table that are there.
        labels: empty where there is no label column.
        problems: what is wrong, in the order of the schema's columns.
    """

    columns: Mapping[str, Column]
    labels: Labels
    problems: list[Problem]


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
    seen = ", ".join(name if written(name) == f"'{name}'" else written(name) for name in present)
    near = [why for name in missing if (why := nearest(name, present))]
    return (
        f"The records lack column {', '.join(missing)}; they have {seen}. "
        + "".join(f"{why}. " for why in near)
        + "Rename a column of the records or change the task's schema."
    )


def read(records: Dataset, config: TaskConfig) -> Read:
    """Read the columns that are there as the schema says."""
    read_inputs: ReadFn = implementation(TASKS[config.kind].reader)
    inputs = read_inputs(records, config)
    labels = Labels([], [])
    if config.label_column in records.column_names:
        labels = read_labels(records[config.label_column][:], config)
    return Read(inputs.columns, labels, [*inputs.problems, *labels.problems])


def fold_boolean(text: str) -> str:
    """Write true and false, which databases and spreadsheets capitalise at will, in lower case."""
    folded = text.lower()
    return folded if folded in _BOOLEANS else text


# --- labels


def whole_columns(records: Dataset, names: Sequence[str]) -> Mapping[str, pyarrow.ChunkedArray]:
    """Return columns whole, in the order of the records; the names are those of columns."""
    # All at once: `datasets` copies its description of all columns each time it is asked for one
    table = records.with_format("arrow", columns=list(names))[:] if names else pyarrow.table({})
    return {name: table[name] for name in names}


def read_labels(values: Sequence[object], config: TaskConfig) -> Labels:
    """Map the label column to class indices."""
    classes = {name: i for i, name in enumerate(config.labels)}
    # Without a mapping, raw values are class names themselves.
    known = {raw: classes[name] for raw, name in config.label_values.items()} or classes
    numbers = list(known.values())
    index = {name: numbers[i] for name, i in name_index(list(known)).items()}
    codes, distinct = _distinct(values)
    raw = [str(value) for value in distinct]
    found: list[int | None] = [*(index.get(canonical_name(text)) for text in raw), None]
    # A null has the code -1, which is the last element.
    null = numpy.array([*(text == "" for text in raw), True])
    unknown = numpy.array([number is None for number in found]) & ~null
    problems = []
    if null[codes].any():
        problems.append(
            Problem(
                f"Column {config.label_column}: {null[codes].sum()} of {len(codes)} labels are"
                " null; label or remove these records.",
                _first(null[codes]),
            )
        )
    if unknown[codes].any():
        counts = Counter(
            {raw[code]: int(n) for code, n in enumerate(_counts(codes, len(raw))) if unknown[code]}
        )
        text = _unknown_labels(config.label_column, counts, list(known))
        problems.append(Problem(text, _first(unknown[codes])))
    return Labels([found[code] for code in codes.tolist()], problems)


def _unknown_labels(name: str, unknown: Counter[str], known: Sequence[str]) -> str:
    shown = ", ".join(
        f"{written(value)} ({count} records)" for value, count in unknown.most_common(_SHOWN)
    )
    near = [why for value, _ in unknown.most_common(_SHOWN) if (why := nearest(value, known))]
    return (
        f"Column {name}: unknown label {shown}; the plan knows {', '.join(known)}. "
        + "".join(f"{why}. " for why in near)
        + "Correct the records, or add the label to task.labels or task.label_values."
    )


def _distinct(values: Sequence[object]) -> tuple[Any, Sequence[object]]:
    """Return the code of each value, -1 where null, and the value of each code."""
    listed = numpy.empty(len(values), dtype=object)
    listed[:] = list(values)
    codes, distinct = pandas.factorize(listed)
    return codes, distinct


def _counts(codes: Any, number: int) -> Any:
    return numpy.bincount(codes[codes >= 0], minlength=number)


def _first(where: Any) -> int:
    return int(numpy.argmax(where))


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
    null = numpy.array([text is None for text in texts])
    if not null.any():
        return Inputs({}, [])
    problem = f"Column {name}: {null.sum()} of {len(texts)} texts are null; write or remove them."
    return Inputs({}, [Problem(problem, _first(null))])


# --- tables


def read_table(records: Dataset, config: TabularConfig) -> Inputs:
    """Read numbers and categories."""
    names = [name for name in config.columns if name in records.column_names]
    table = whole_columns(records, names)
    columns = {
        name: read_column(name, config.columns[name], table[name].to_pylist()) for name in names
    }
    return Inputs(columns, [problem for column in columns.values() for problem in column.problems])


def read_column(name: str, column: ColumnConfig, values: Sequence[object]) -> Column:
    """Read one input column as the schema says.

    Empty is missing, and so is what the schema lists; no other word is.
    """
    codes, distinct = _distinct(values)
    # Each distinct value is read once, since columns repeat few values
    text = [str(value).strip() for value in distinct]
    read = _read_numbers if column.kind == "numeric" else _read_categories
    return read(name, column, text, codes)


def _read_numbers(
    name: str, column: ColumnConfig, text: Sequence[str], codes: numpy.ndarray
) -> Column:
    numbers = numpy.array([*map(_number, text), numpy.nan])
    listed = {value.strip() for value in column.missing_values}
    # "0.0" in the records where the schema says "0".
    as_numbers = {_number(value) for value in listed} - {numpy.nan}
    missing = numpy.array(
        [
            *(
                value == "" or value in listed or number in as_numbers
                for value, number in zip(text, numbers, strict=False)
            ),
            True,
        ]
    )
    wrong = (numpy.isnan(numbers) & ~missing)[codes]
    problems = []
    if wrong.any():
        commas = numpy.array([*(bool(_DECIMAL_COMMA.fullmatch(v)) for v in text), False])[codes]
        hint = (
            f" {commas.sum()} have a decimal comma where a point belongs." if commas.any() else ""
        )
        problems.append(
            Problem(
                f"Column {name}: {wrong.sum()} of {len(codes)} values are not numbers; correct them"
                f" or list them in missing_values.{hint}",
                _first(wrong),
            )
        )
    numbers[missing] = numpy.nan
    return Column(pandas.Series(numbers[codes]), pandas.Series(missing[codes]), problems)


def _number(text: str) -> float:
    """Return the number of a text; that of a truth value is 1 or 0, as in databases."""
    truth = _BOOLEANS.get(text.lower())
    return parse_number(text) if truth is None else truth


def parse_number(text: str) -> float:
    """Return the finite number a text stands for, or NaN."""
    try:
        number = float(text)
    except ValueError:
        return numpy.nan
    # Python reads 1_000 as a number; nobody else who writes tables means it.
    return number if numpy.isfinite(number) and "_" not in text else numpy.nan


def _read_categories(
    name: str, column: ColumnConfig, text: Sequence[str], codes: numpy.ndarray
) -> Column:
    index = name_index(column.categories)
    listed = {canonical_name(value.strip()) for value in column.missing_values}
    names = [canonical_name(value) for value in text]
    missing = numpy.array([*(value == "" or value in listed for value in names), True])
    found = numpy.array([*(index.get(value, -1) for value in names), -1])
    found[missing] = -1
    unknown = (found < 0) & ~missing
    # The schema may have a rule for all that it does not name.
    if column.unseen == "other":
        found[unknown] = len(column.categories)
    if column.unseen == "missing":
        missing |= unknown
    if column.unseen != "error":
        unknown[:] = False
    seen = pandas.Series(found[codes]), pandas.Series(missing[codes])
    if not unknown[codes].any():
        return Column(*seen, [])
    strangers = sorted(value for value, wrong in zip(text, unknown, strict=False) if wrong)
    near = nearest(strangers[0], column.categories)
    problem = (
        f"Column {name}: {len(strangers)} unknown categories in {unknown[codes].sum()} of"
        f" {len(codes)} values, such as {written(strangers[0])}; the schema knows"
        f" {', '.join(column.categories)}. {f'{near}. ' if near else ''}Correct the"
        " records, or add the category or list it in missing_values; unseen=other or unseen=missing"
        " makes a rule for all such."
    )
    return Column(*seen, [Problem(problem, _first(unknown[codes]))])


def count_problems(counts: Mapping[str, int], *, total: int, minimum: int) -> Iterator[str]:
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
    "Problem",
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
