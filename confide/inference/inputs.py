"""Records to predict on: rows made into records, columns that a task needs, what does not fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from uuid import uuid4

import pandas
import pyarrow
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.held import file_cells
from confide.inference.misfits import misfits_of, told_problems
from confide.inference.predictor import Predictor
from confide.tasks.made.making import to_predict
from confide.tasks.outcomes.outcome import FilledOutcome
from confide.tasks.schema import LACKING
from confide.tasks.task import Task
from confide.tasks.values import text_column


class Inputs(NamedTuple):
    """Records that fit, ready to predict on.

    Attributes:
        records: the columns the task needs, as text; where a label is missing, any label stands.
        labelled: bool, shape [n]; whether the label is the record's own.
        misfits: position among the records that were given of each that was left out, as it does
            not fit -> what is wrong with it; in ascending order.
    """

    records: Dataset
    labelled: Tensor
    misfits: Mapping[int, str] = MappingProxyType({})

    @property
    def given(self) -> Sequence[int]:
        """Return where each record was among those that were given, ascending."""
        total = len(self.records) + len(self.misfits)
        if not self.misfits:
            return range(total)
        return [place for place in range(total) if place not in self.misfits]


def made_to_predict(records: Dataset | pandas.DataFrame, task: TaskConfig) -> Dataset | None:
    """Make records of rows, such as a user's interactions; None where records are there already.

    Raises:
        DataError: naming what is wrong with the rows.
    """
    names, needed = set(_names(records)), row_columns(task)
    is_made = TASKS[task.kind].maker is None or set(task.content_columns) <= names
    if is_made or not set(needed) <= names or not len(records):
        return None
    rows = _only(records, needed)
    table = pyarrow.table({name: _as_text(rows, name) for name in needed})
    made = to_predict(Dataset(table, fingerprint=uuid4().hex), task)
    if made.problems:
        raise DataError([problem.text for problem in made.problems])
    return made.records


def row_columns(task: TaskConfig) -> list[str]:
    """Name the columns of rows that records to predict on are made of: what follows is unknown."""
    return [name for name in task.source_columns if name not in task.target_columns]


def kept_of(made: Dataset, predictor: Predictor) -> list[str]:
    """Name the columns of made records that say whose they are."""
    content = predictor.task.content_columns()
    return [name for name in made.column_names if name not in content]


def read_inputs(
    predictor: Predictor,
    records: Dataset | pandas.DataFrame,
    *,
    with_labels: bool = True,
    places: Sequence[str] = (),
    skip: bool = False,
) -> Inputs:
    """Take the columns that the task needs, and check them.

    Args:
        predictor: whose task.
        records: with a label column or without; a label may be missing.
        with_labels: whether to read labels where there are some.
        places: where each record is, for problems; empty: they are known by their numbers.
        skip: whether to leave out records that do not fit, where some do.

    Raises:
        DataError: naming everything that does not fit: each problem with the records it is found
            in.
    """
    task, config = predictor.task, predictor.plan.task
    _refuse_odd(records, [*task.content_columns(), *config.target_columns])
    needed, present = input_columns(task, config), _names(records)
    names = [name for name in needed if name in present]
    targets = [name for name in config.target_columns if with_labels and name in present]
    records = _only(records, [*names, *targets])
    columns = {name: _as_cells(records, name, config) for name in names}
    labels = {name: _as_cells(records, name, config).to_pylist() for name in targets}
    labelled = predictor.outcome.labelled(labels) or [False] * len(records)
    # A schema wants a label in each record; where there is none any will do, and is not looked at.
    for name, any_label in predictor.outcome.placeholder().items():
        known = labels.get(name, labelled)
        columns[name] = pyarrow.array(
            [
                label if is_known else any_label
                for label, is_known in zip(known, labelled, strict=True)
            ],
            pyarrow.string(),
        )
    if isinstance(predictor.outcome, FilledOutcome):
        whole = {name: column.to_pylist() for name, column in columns.items()}
        for name, values in predictor.outcome.completed(whole).items():
            columns[name] = pyarrow.array(values, pyarrow.string())
    # Without a fingerprint `datasets` would pickle every record to make one.
    taken = Dataset(pyarrow.table(columns), fingerprint=uuid4().hex)
    known = torch.tensor(labelled, dtype=torch.bool)
    missing = _lacking(needed, present)
    problems = [*missing, *told_problems(task, config, taken, places)]
    if problems and skip and not missing:
        return _fitting(task, config, Inputs(taken, known), problems)
    if problems:
        raise DataError(problems)
    return Inputs(taken, known)


def _fitting(task: Task, config: TaskConfig, inputs: Inputs, problems: Sequence[str]) -> Inputs:
    """Leave out the records that do not fit.

    Raises:
        DataError: if none is left, or something is wrong that no single record shows.
    """
    reasons, general = misfits_of(task, config, inputs.records)
    left = [place for place in range(len(inputs.records)) if place not in reasons]
    if general or not left:
        raise DataError(general or problems)
    # As if the others had never been there: a selection alone would be looked up with each access
    records = inputs.records.select(left).flatten_indices()
    return Inputs(records, inputs.labelled[left], MappingProxyType(dict(reasons)))


def input_columns(task: Task, config: TaskConfig) -> list[str]:
    """Name the columns that a prediction takes.

    An answer belongs to what a conversation is, and is what is to be predicted of it; where it is
    in one column with what was asked, that is taken.
    """
    content = list(task.content_columns())
    return [name for name in content if name not in config.target_columns] or content


def _refuse_odd(records: Dataset | pandas.DataFrame, needed: Sequence[str]) -> None:
    """Refuse what has no records, or a column twice: a frame can."""
    if not len(records):
        raise DataError(
            "Expected at least one record; got 0, with columns"
            f" {', '.join(map(str, _names(records))) or 'none'}."
        )
    names = _names(records)
    twice = [name for name in needed if names.count(name) > 1]
    if twice:
        raise DataError(
            f"The records have column {', '.join(twice)} more than once; leave one of each."
        )


def _names(records: Dataset | pandas.DataFrame) -> list[str]:
    return (
        list(records.columns)
        if isinstance(records, pandas.DataFrame)
        else list(records.column_names)
    )


def _only(
    records: Dataset | pandas.DataFrame, names: Sequence[str]
) -> pyarrow.Table | pandas.DataFrame:
    """Return columns of records, all at once: `datasets` takes its time for each question."""
    if isinstance(records, pandas.DataFrame):
        return records
    kept = list(dict.fromkeys(names))
    return records.with_format("arrow", columns=kept)[:] if kept else pyarrow.table({})


def _as_cells(
    records: pyarrow.Table | pandas.DataFrame, name: str, config: TaskConfig
) -> pyarrow.Array:
    """Look at files: paths from the current folder on, bytes of files, or cells."""
    files = None if config.files is None else config.files.of(name)
    if files is None:
        return _as_text(records, name)
    values = (
        records[name]
        if isinstance(records, pyarrow.Table)
        else pyarrow.array(records[name], from_pandas=True)
    )
    return file_cells(values, files, Path(), looked=True)


def _as_text(records: pyarrow.Table | pandas.DataFrame, name: str) -> pyarrow.Array:
    if isinstance(records, pyarrow.Table):
        return text_column(name, records[name])
    try:
        return text_column(name, pyarrow.array(records[name], from_pandas=True))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise DataError(
            f"Column {name} holds values of several types ({error}); write them all as text."
        ) from None


def _lacking(needed: Sequence[str], present: Sequence[str]) -> list[str]:
    missing = [name for name in needed if name not in present]
    if not missing:
        return []
    return [
        f"{LACKING} {', '.join(missing)}; they have {', '.join(map(str, present))}. "
        "Rename a column of the records: the model was trained on these."
    ]


__all__ = ["Inputs", "input_columns", "kept_of", "made_to_predict", "read_inputs", "row_columns"]
