"""Which records a model can be asked about: to a check of drift the others are news, no mistake."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import numpy
import pyarrow
import pyarrow.compute
from datasets import Dataset
from numpy.typing import NDArray

from confide.client.drift import sentences
from confide.client.drift.kept import unusable_rows
from confide.client.drift.looking import table_columns
from confide.config.custom import implementation
from confide.config.spelling import nearest
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.held import parse_held
from confide.inference.inputs import input_columns
from confide.inference.misfits import searched
from confide.inference.predictor import Predictor
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.schema import ReadFn

Rows = NDArray[numpy.bool_]
"""One flag a record, shape [n]."""
_SHOWN = 3
"""Labels that are quoted, and their longest length."""
_LONGEST = 24


class Fitting(NamedTuple):
    """What a model can be asked about, of some records.

    Attributes:
        records: those that its schema takes; labels that it does not know are taken out.
        rows: their positions among all.
        absent: columns that the model needs and no record has; then it is asked about none.
        told: sentences about the others.
    """

    records: Dataset
    rows: list[int]
    absent: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def fitting(records: Dataset, predictor: Predictor) -> Fitting:
    """Take the records that a model can be asked about.

    Args:
        records: as text, with the columns that there are of those that the task reads.
        predictor: the model.
    """
    config = predictor.plan.task
    absent = absent_columns(records, predictor)
    if absent:
        return Fitting(records.select([]), [], absent, (sentences.not_asked(absent),))
    refused, unknown = refused_rows(records, config), unknown_labels(records, config)
    told = []
    if refused.any():
        told.append(sentences.refused(int(refused.sum()), len(records)))
    if unknown.any():
        quoted = _quoted(records, config, unknown)
        told.append(sentences.unknown_labels(int(unknown.sum()), len(records), quoted))
    if set(config.target_columns) & set(predictor.task.content_columns()):
        # What is to be predicted is part of what the model reads
        refused |= unknown
    rows = (~refused).nonzero()[0].tolist()
    taken = _without_labels(records, config, unknown).select(rows).flatten_indices()
    return Fitting(taken, rows, (), tuple(told))


def absent_columns(records: Dataset, predictor: Predictor) -> tuple[str, ...]:
    """Name the columns that a model needs and records lack, those of rows where it makes them."""
    config, present = predictor.plan.task, set(records.column_names)
    needed = input_columns(predictor.task, config)
    lacking = [name for name in needed if name not in present]
    if lacking and TASKS[config.kind].maker is not None:
        lacking = [name for name in config.source_columns if name not in present]
    return tuple(lacking)


def refused_rows(records: Dataset, config: TaskConfig) -> Rows:
    """Say which records have a value in an input column that the schema refuses, shape [n]."""
    if config.table_columns:
        refused = numpy.zeros(len(records), dtype=bool)
        for name, column in table_columns(records, config).items():
            refused |= unusable_rows(config.table_columns[name], column)
        return refused
    read_inputs: ReadFn = implementation(TASKS[config.kind].reader)

    def is_refused(start: int, end: int) -> bool:
        return bool(read_inputs(records.select(range(start, end)), config).problems)

    refused = numpy.zeros(len(records), dtype=bool)
    refused[list(searched(is_refused, 0, len(records)))] = True
    return refused


def unknown_labels(records: Dataset, config: TaskConfig) -> Rows:
    """Say which records have a label that the schema does not know, shape [n]."""
    names = config.target_columns
    if not names or not set(names) <= set(records.column_names):
        return numpy.zeros(len(records), dtype=bool)
    outcome, columns = outcome_of(config), {name: records[name][:] for name in names}
    labelled = numpy.array(outcome.labelled(columns), dtype=bool)
    unknown: Rows = labelled & ~outcome.read(columns).known
    return unknown


def near_names(absent: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    """Say which columns that there are may be those that are not."""
    return tuple(why for name in absent if (why := nearest(name, present)) is not None)


def _quoted(records: Dataset, config: TaskConfig, unknown: Rows) -> list[tuple[str, int]]:
    """Return the commonest unknown labels, where they are words in one column."""
    if len(config.target_columns) != 1:
        return []
    values = records.select(unknown.nonzero()[0].tolist())[config.target_columns[0]][:]
    counts = Counter(str(it) for it in values if parse_held(it) is None)
    return [(name, count) for name, count in counts.most_common(_SHOWN) if len(name) <= _LONGEST]


def _without_labels(records: Dataset, config: TaskConfig, rows: Rows) -> Dataset:
    """Take the labels of some records out."""
    if not rows.any():
        return records
    table = records.with_format("arrow")[:]
    for name in config.target_columns:
        column = pyarrow.compute.if_else(pyarrow.array(~rows), table[name], None)
        table = table.set_column(table.column_names.index(name), name, column)
    # Without a fingerprint `datasets` would pickle every record to compute one
    return Dataset(table, fingerprint=uuid4().hex)


__all__ = [
    "Fitting",
    "absent_columns",
    "fitting",
    "near_names",
    "refused_rows",
    "unknown_labels",
]
