"""What a served model takes and gives: a tensor a column of its task's own schema."""

import contextlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy

from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.inference.inputs import input_columns, row_columns
from confide.inference.predictor import Predictor
from confide.serving.datatypes import BYTES, datatype_of
from confide.tasks.outcomes.outcome import Outcome


class Column(NamedTuple):
    """One input or output.

    Attributes:
        name: of the column.
        datatype: that it is told as.
    """

    name: str
    datatype: str

    def described(self) -> dict[str, object]:
        """Return it as a model's metadata lists it: any number of values."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1]}


class Signature(NamedTuple):
    """What a model takes and gives.

    Attributes:
        inputs: columns that a request has to bring.
        made: columns that it may bring instead, where records are made of rows: records that are
            made already; () where none are.
        outputs: columns of an answer; those of made records, such as whose they are, come first.
        files: inputs that hold the bytes of files.
        is_costly: whether reading a request takes its time: files are decoded, or records made.
    """

    inputs: Sequence[Column]
    made: Sequence[Column]
    outputs: Sequence[Column]
    files: frozenset[str]
    is_costly: bool

    def expected(self, present: Collection[str]) -> Sequence[Column]:
        """Return the columns that a request has to bring, by those that it brings."""
        brings_made = any(column.name in present for column in self.made)
        return self.made if brings_made else self.inputs


def signature_of(predictor: Predictor) -> Signature:
    """Return what a model takes and gives."""
    schema = predictor.plan.task
    names = input_columns(predictor.task, schema)
    is_made = TASKS[schema.kind].maker is not None  # of rows, such as one interaction each
    columns = [Column(name, _taken(schema, name)) for name in names]
    rows = [Column(name, _taken(schema, name)) for name in row_columns(schema)]
    kept = [name for name in schema.owner_columns if is_made and name not in schema.made_columns]
    media = () if schema.files is None else schema.files.each
    return Signature(
        inputs=rows if is_made else columns,
        made=columns if is_made else (),
        outputs=[*(Column(name, BYTES) for name in kept), *_outputs(predictor.outcome)],
        files=frozenset(one.column for one in media) & set(names),
        is_costly=is_made or bool(media),
    )


def _taken(schema: TaskConfig, name: str) -> str:
    return "FP64" if name in schema.number_columns else BYTES


def _outputs(outcome: Outcome) -> list[Column]:
    """Name the columns of predictions; numbers are what predictions for any scores are."""
    told = {}
    # Where predictions do not follow from scores, as those of texts, they are texts
    with contextlib.suppress(IndexError, TypeError, ValueError):
        nothing = numpy.zeros((1, *(max(size, 1) for size in outcome.score_shape)), numpy.float32)
        told = {
            name: datatype_of(numpy.asarray(values))
            for name, values in outcome.predictions(nothing).items()
        }
    return [Column(name, told.get(name, BYTES)) for name in outcome.prediction_columns()]


__all__ = ["Column", "Signature", "signature_of"]
