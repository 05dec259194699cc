"""Records that a custom function returns, named by its dotted path.

Only for simulations: an institution's kit has no such setting. Whatever the function returns
becomes the same canonical text as a file's, so that the same records give the same model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas
import pyarrow
from datasets import Dataset

from confide.client.records.sources.files import with_files
from confide.client.records.sources.formats import as_text
from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.sources import (
    SourceRecords,
    join,
    refuse_cells,
)
from confide.config.custom import find_part, make_part
from confide.config.data import DataConfig
from confide.config.tasks.media.files import FileReading
from confide.errors import ConfigError, DataError

_KEY = "data"
_EXPECTED = "a pandas DataFrame, a datasets.Dataset, or a mapping institution -> one of these"


def check_custom_records(config: DataConfig) -> None:
    """Check that the custom function exists, before anything heavy is loaded.

    Raises:
        ConfigError: if it cannot be imported or called.
    """
    if config._target_ is not None:
        find_part(config._target_, key=_KEY)


def load_custom_records(
    config: DataConfig,
    columns: Sequence[str],
    *,
    by_name: bool,
    reading: FileReading | None = None,
) -> SourceRecords:
    """Call the custom function, and read what it returns.

    Args:
        config: settings that name the function and its arguments.
        columns: names of the columns to keep.
        reading: how pictures or sounds are read; None where the task has none.
        by_name: whether the names in a returned mapping are the names of institutions.

    Raises:
        ConfigError: if it cannot be imported, raises, or returns something other than records.
        DataError: if it returns no records, or a column holds anything but text, numbers, truth
            values or dates.
    """
    shown = f"{_KEY}._target_={config._target_}"
    made = make_part(str(config._target_), key=_KEY, kwargs=config.kwargs)
    several = isinstance(made, Mapping)
    if by_name and not several:
        raise ConfigError(
            f"{shown} returns one table, and data.partitioner=natural partitions by institution;"
            " return a mapping institution -> records, or name the column in data.partition_by."
        )
    named = {str(name): part for name, part in made.items()} if several else {"": made}
    if not named:
        raise DataError(f"{shown} returns an empty mapping; expected at least one institution.")
    sources = {name: _opened(part, columns, shown, reading) for name, part in named.items()}
    files = tuple(named) if several else ()
    joined = join(sources, columns, shown=shown, files=files, in_memory_mb=config.in_memory_mb)
    refuse_cells(joined.records, reading)
    return joined


def _opened(part: Any, columns: Sequence[str], shown: str, reading: FileReading | None) -> Opened:
    if isinstance(part, Dataset):
        names, batches = part.column_names, part.with_format("arrow").iter(batch_size=BATCH)
    elif isinstance(part, pandas.DataFrame):
        names, batches = [str(name) for name in part.columns], _batches(part, columns)
    else:
        raise ConfigError(f"{shown} returns {type(part).__name__}, expected {_EXPECTED}.")
    kept = [name for name in names if name in columns]
    text = as_text(batches, kept, reading)
    if reading is not None:
        text = with_files(text, reading, None)
    return Opened(columns=tuple(names), batches=text)


def _batches(frame: pandas.DataFrame, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
    kept = {str(name): values for name, values in frame.items() if str(name) in columns}
    for start in range(0, len(frame), BATCH):
        arrays = {}
        for name, values in kept.items():
            try:
                # from_pandas: NaN is how pandas writes a missing value, and becomes null
                arrays[name] = pyarrow.array(values.iloc[start : start + BATCH], from_pandas=True)
            except pyarrow.ArrowException as error:
                reason = str(error).splitlines()[0]
                raise DataError(
                    f"Column {name} holds values of more than one type ({reason}); make them one,"
                    " such as text."
                ) from None
        yield pyarrow.table(arrays)


__all__ = ["check_custom_records", "load_custom_records"]
