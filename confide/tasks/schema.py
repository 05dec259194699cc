"""Records against a task's schema: what fits, what does not, and what the text of a column means.

Needs no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy
import pandas
import pyarrow
from datasets import Dataset

from confide.config.custom import implementation
from confide.config.spelling import canonical_name, name_index, nearest, written
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.table import TASKS
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import DataError
from confide.held import opener_of, parse_held
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import Targets
from confide.tasks.reading import Problem, decimal_commas, distinct_of, first, number_of


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
        targets: what is to be predicted; none where a column of it is missing.
        problems: what is wrong, in the order of the schema's columns.
    """

    columns: Mapping[str, Column]
    targets: Targets
    problems: list[Problem]


LACKING = "The records lack column"
"""How the problem begins that names columns that are missing."""


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
        f"{LACKING} {', '.join(missing)}; they have {seen}. "
        + "".join(f"{why}. " for why in near)
        + "Rename a column of the records or change the task's schema."
    )


def read(records: Dataset, config: TaskConfig) -> Read:
    """Read the columns that are there as the schema says."""
    read_inputs: ReadFn = implementation(TASKS[config.kind].reader)
    inputs = read_inputs(records, config)
    targets = read_targets(records, config)
    return Read(inputs.columns, targets, [*inputs.problems, *targets.problems])


def read_targets(records: Dataset, config: TaskConfig) -> Targets:
    """Read what is to be predicted as the schema says; nothing where a column of it is missing."""
    names = config.target_columns
    there = set(names) <= set(records.column_names)
    return outcome_of(config).read(
        {name: records[name][:] if there else [] for name in names},
    )


def whole_columns(records: Dataset, names: Sequence[str]) -> Mapping[str, pyarrow.ChunkedArray]:
    """Return columns whole, in the order of the records; the names are those of columns."""
    # All at once: `datasets` copies its description of all columns each time it is asked for one
    table = records.with_format("arrow", columns=list(names))[:] if names else pyarrow.table({})
    return {name: table[name] for name in names}


# --- text


def plain_texts(config: TaskConfig, values: Sequence[str]) -> Sequence[str]:
    """Return values of a column of texts as people read them, and as a tokenizer takes them."""
    path = TASKS[config.kind].texts
    if path is None:
        return values
    texts: Sequence[str] = implementation(path)(config, values)
    return texts


def read_texts(records: Dataset, config: TextClassificationConfig) -> Inputs:
    """Count texts that are null; an empty text is a text."""
    problems = []
    for name in config.content_columns:
        if name not in records.column_names:
            continue
        texts = records[name][:]
        null = numpy.array([text is None for text in texts])
        if null.any():
            problem = (
                f"Column {name}: {null.sum()} of {len(texts)} texts are null; write or remove them."
            )
            problems.append(Problem(problem, first(null), null, "null"))
    return Inputs({}, problems)


# --- pictures and sounds


def read_files(records: Dataset, config: TaskConfig) -> Inputs:
    """Count files that cannot be used, by what is wrong with them."""
    assert config.files is not None
    name, problems_of = config.files.column, opener_of(config.files).problems
    if name not in records.column_names:
        return Inputs({}, [])
    files = [parse_held(cell) for cell in records[name]]
    unusable = [
        "missing" if one is None else "" if one.sha256 else one.findings[0] for one in files
    ]
    problems = [
        Problem(
            f"Column {name}: {unusable.count(why)} of {len(unusable)} {config.files.what}"
            f" {problems_of[why]}.",
            unusable.index(why),
        )
        for why in problems_of
        if why in unusable
    ]
    return Inputs({}, problems)


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
    codes, distinct = distinct_of(values)
    # Each distinct value is read once, since columns repeat few values
    text = [str(value).strip() for value in distinct]
    read = _read_numbers if column.kind == "numeric" else _read_categories
    return read(name, column, text, codes)


def _read_numbers(
    name: str, column: ColumnConfig, text: Sequence[str], codes: numpy.ndarray
) -> Column:
    numbers = numpy.array([*map(number_of, text), numpy.nan])
    listed = {value.strip() for value in column.missing_values}
    # "0.0" in the records where the schema says "0".
    as_numbers = {number_of(value) for value in listed} - {numpy.nan}
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
        hint = decimal_commas(text, codes)
        problems.append(
            Problem(
                f"Column {name}: {wrong.sum()} of {len(codes)} values are not numbers; correct them"
                f" or list them in missing_values.{hint}",
                first(wrong),
                wrong,
                "not a number",
            )
        )
    numbers[missing] = numpy.nan
    return Column(pandas.Series(numbers[codes]), pandas.Series(missing[codes]), problems)


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
    what = "category" if len(strangers) == 1 else "categories"
    problem = (
        f"Column {name}: {len(strangers)} unknown {what} in {unknown[codes].sum()} of"
        f" {len(codes)} values, such as {written(strangers[0])}; the schema knows"
        f" {', '.join(column.categories)}. {f'{near}. ' if near else ''}Correct the"
        " records, or add the category or list it in missing_values; unseen=other or unseen=missing"
        " makes a rule for all such."
    )
    where = unknown[codes]
    return Column(*seen, [Problem(problem, first(where), where, "unknown category")])


__all__ = [
    "LACKING",
    "Column",
    "Inputs",
    "Read",
    "ReadFn",
    "missing_columns",
    "plain_texts",
    "read",
    "read_column",
    "read_files",
    "read_table",
    "read_targets",
    "read_texts",
    "require_columns",
    "whole_columns",
]
