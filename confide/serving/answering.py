"""Predictions on the records of several requests at once, each as if it were alone.

What does not fit in one request is that request's own: the others are answered.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast
from uuid import uuid4

import pandas
import pyarrow
from datasets import Dataset

from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.held import file_cells, opener_of
from confide.inference.inputs import kept_of, made_to_predict, read_inputs
from confide.inference.prediction import check_writing, predict_in_parts
from confide.inference.predictor import Predictor
from confide.models.language.writing import WritingOptions
from confide.serving.datatypes import Cells, Files
from confide.tasks.ranges import outside_notes
from confide.tasks.reading import number_of

_MOST_EXTENT = 100_000_000
"""Pixels or samples of all files of a request: a picture of the most pixels, or many small ones. A
few bytes may stand for 89 million pixels, which take seconds to decode."""
_TOO_MUCH = (
    "Column {name}: the files of this request hold more than 100 million pixels or samples"
    " together; send fewer at once."
)

Columns = dict[str, Cells | Files]
"""Columns of records, all of one length."""


@dataclass(frozen=True)
class Asked:
    """Records of one request, ready to be checked and computed with others.

    Attributes:
        cells: the columns that came, as canonical text; at least one.
        kept: what is told again of made records, such as whose they are; None where none is made.
        warnings: sentences about values that fit and may be wrong all the same.
    """

    cells: Mapping[str, Cells]
    kept: pyarrow.Table | None = None
    warnings: Sequence[str] = ()

    def __len__(self) -> int:
        return len(next(iter(self.cells.values())))


Answer: TypeAlias = "pandas.DataFrame | Exception"
"""Predictions on the records of one request, or why there are none."""


class Answerer:
    """Predicts.

    Args:
        predictor: the model.
        writing: how a model that writes does so.

    Raises:
        ConfigError: if a model that writes the likeliest words alone is asked for others.
    """

    def __init__(self, predictor: Predictor, writing: WritingOptions) -> None:
        check_writing(predictor, writing)
        self._predictor = predictor
        # Without it nothing is checked and told again with each batch
        self._writing = None if predictor.writer is None else writing

    @property
    def takes_together(self) -> bool:
        """Whether requests are computed together; texts that are written take one after another."""
        return self._predictor.writer is None

    def asked(self, columns: Columns) -> Asked:
        """Take the columns of a request; files are decoded, and records made of rows, here.

        Raises:
            DataError: if rows make no records, or files would take very long to decode.
        """
        schema = self._predictor.plan.task
        cells: dict[str, Cells] = {}
        extent = 0
        for name, values in columns.items():
            reading = None if schema.files is None else schema.files.of(name)
            if reading is None:
                cells[name] = cast(Cells, values)
            else:
                # As bytes: a text would name a file of this machine
                opened = opener_of(reading)
                extent += sum(opened.extent(cast(bytes, one)) for one in values if one)
                if extent > _MOST_EXTENT:
                    raise DataError(_TOO_MUCH.format(name=name))
                files = pyarrow.array(values, pyarrow.binary())
                cells[name] = file_cells(files, reading, opened=opened).to_pylist()
        if TASKS[schema.kind].maker is None:
            return Asked(cells, warnings=_warnings(cells, schema))
        made = made_to_predict(_dataset(cells), schema)
        if made is None:
            return Asked(cells)
        told = made.select_columns(kept_of(made, self._predictor)).data.table
        content = [name for name in made.column_names if name not in told.column_names]
        return Asked(made.with_format("arrow", columns=content)[:].to_pydict(), told)

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Predict on the records of several requests; each has its answer or its problems."""
        answers: list[Answer] = [pandas.DataFrame()] * len(asked)
        for places in _alike(asked):
            found = self._together([asked[place] for place in places])
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    def _together(self, asked: Sequence[Asked]) -> Iterator[Answer]:
        try:
            names = asked[0].cells
            frame = self._predicted(
                {name: [cell for one in asked for cell in one.cells[name]] for name in names}
            )
        except Exception as error:
            if len(asked) == 1:
                yield error
                return
            # One of them does not fit, or gives no finite numbers; the others may
            for one in asked:
                yield from self._together([one])
            return
        start = 0
        for one in asked:
            part = frame.iloc[start : start + len(one)].reset_index(drop=True)
            start += len(one)
            yield part if one.kept is None else pandas.concat([one.kept.to_pandas(), part], axis=1)

    def _predicted(self, cells: Mapping[str, Cells]) -> pandas.DataFrame:
        inputs = read_inputs(self._predictor, _dataset(cells), with_labels=False)
        parts = predict_in_parts(self._predictor, inputs, self._writing)
        return pandas.concat([part.frame for part in parts], ignore_index=True)


def _dataset(cells: Mapping[str, Cells]) -> Dataset:
    table = pyarrow.table(
        {name: pyarrow.array(values, pyarrow.string()) for name, values in cells.items()}
    )
    # Without a fingerprint `datasets` would pickle every record to make one
    return Dataset(table, fingerprint=uuid4().hex)


def _warnings(cells: Mapping[str, Cells], schema: TaskConfig) -> list[str]:
    """List what :func:`outside_notes` says, of the columns that it may say something of."""
    suspect = {}
    for name, column in schema.table_columns.items():
        if column.minimum is None or column.maximum is None or name not in cells:
            continue
        # Columns are read again for their words alone: of a few records that takes most of the time
        numbers = [number_of(cell.strip()) for cell in cells[name] if cell]
        if any(number < column.minimum or number > column.maximum for number in numbers):
            suspect[name] = cells[name]
    return list(outside_notes(suspect, schema))


def _alike(asked: Sequence[Asked]) -> list[list[int]]:
    """Group requests by the columns that they bring."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault(tuple(one.cells), []).append(place)
    return list(groups.values())


__all__ = ["Answer", "Answerer", "Asked"]
