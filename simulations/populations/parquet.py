"""Populations in Parquet, of which the records of one institution are read at a time.

Partitioned by institution (``records/client=17/part-0.parquet``), where its records are
files of their own, or one file sorted by it, where they are rows behind each other. Of others no
record is kept: only names, and where each one's records are.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from datasets import Dataset

from confide.client.records.sources.by_client.partitioned import (
    PartitionedFile,
    is_partitioned,
    open_part,
    partitioned_files,
)
from confide.client.records.sources.formats import as_text
from confide.client.records.sources.opened import Opened
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.sources import join, source_file
from confide.config.data import DataConfig
from confide.config.spelling import canonical_name
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.tasks.values import text_column

_ROWS = 65_536
_MOST_TOLD = 200


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """A population in Parquet; a :class:`~confide.simulations.populations.source.RecordSource`.

    Attributes:
        names: of institutions, sorted.
        size_fn: number of an institution -> how many records it has.
        read_fn: number of an institution -> its records.
    """

    names: Sequence[str]
    size_fn: Callable[[int], int]
    read_fn: Callable[[int], Dataset]

    @property
    def num_institutions(self) -> int:
        """Number of institutions."""
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the name of an institution, by its number from 0."""
        return self.names[index]

    def index(self, name: str) -> int:
        """Return the number of an institution, from 0.

        Raises:
            KeyError: if nobody has that name.
        """
        index = bisect_left(self.names, name)
        if index == len(self.names) or self.names[index] != name:
            raise KeyError(name)
        return index

    def num_records(self, index: int) -> int:
        """Return how many records an institution has, without reading them."""
        return self.size_fn(index)

    def records(self, index: int) -> Dataset:
        """Read the records of an institution.

        Raises:
            DataError: if they cannot be read.
        """
        try:
            return self.read_fn(index)
        except (OSError, pyarrow.ArrowException) as error:  # the file has changed, or is damaged
            raise DataError(
                f"The records of {self.names[index]} cannot be read: {_told(error)}; write them"
                " anew."
            ) from None


def parquet_source(config: DataConfig, task: TaskConfig) -> ParquetSource | None:
    """Open Parquet that is partitioned by institution, or sorted by it.

    Args:
        config: settings of the records.
        task: what they must fit; its columns are read and no others.

    Returns:
        The population; None where records are elsewhere, in another order, or not partitioned
        by a column alone.

    Raises:
        DataError: if there are files that cannot be read, or records of nobody.
    """
    by = config.partition_by
    if config.partitioner != "natural" or by is None or config.partition_values:
        return None
    place = source_file(config.path) if config._target_ is None and config.path else None
    if place is None or config.max_records is not None:
        return None
    named = (config.id_column, config.group_column, by)
    wanted = (*task.record_columns, *(name for name in named if name is not None))
    columns, reading = tuple(dict.fromkeys(wanted)), Reading(files=task.files)
    if place.is_dir():
        return _of_folder(place, config, columns, reading) if is_partitioned(place) else None
    if place.suffix.lower() != ".parquet" or not place.is_file():
        return None
    return _of_file(place, config, columns, reading)


def _of_folder(
    folder: Path, config: DataConfig, columns: Sequence[str], reading: Reading
) -> ParquetSource | None:
    by = str(config.partition_by)
    files: dict[str, list[PartitionedFile]] = {}
    for file in partitioned_files(folder):
        if by not in file.values:
            return None
        value = file.values[by]
        if not value:
            raise DataError(
                f"data.path={folder}: {file.path.relative_to(folder)} is nobody's ({by} is null);"
                " name its institution, or move it elsewhere."
            )
        files.setdefault(canonical_name(value), []).append(file)
    names = sorted(files)

    def size(index: int) -> int:
        return sum(_num_rows(file.path) for file in files[names[index]])

    def read(index: int) -> Dataset:
        parts = [open_part(file, columns, reading) for file in files[names[index]]]
        _refuse_unlike(parts, [file.path for file in files[names[index]]])
        found = Opened(
            columns=parts[0].columns,
            batches=(batch for part in parts for batch in part.batches),
        )
        return _joined(found, columns, config, names[index])

    return ParquetSource(names=names, size_fn=size, read_fn=read)


def _of_file(
    path: Path, config: DataConfig, columns: Sequence[str], reading: Reading
) -> ParquetSource | None:
    by = str(config.partition_by)
    with pyarrow.parquet.ParquetFile(path) as file:
        if by not in file.schema_arrow.names:
            return None
        present = [name for name in file.schema_arrow.names if name in columns]
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        places = _runs(file, by)
    if places is None:
        return None
    names = sorted(places)

    def size(index: int) -> int:
        return len(places[names[index]])

    def read(index: int) -> Dataset:
        table = _rows(path, groups, places[names[index]], present)
        found = Opened(
            columns=tuple(present), batches=as_text(iter([table]), present, reading.files)
        )
        return _joined(found, columns, config, names[index])

    return ParquetSource(names=names, size_fn=size, read_fn=read)


def _runs(file: pyarrow.parquet.ParquetFile, by: str) -> dict[str, range] | None:
    """Return whose rows are where; None where somebody's are not behind each other."""
    places: dict[str, range] = {}
    start, last = 0, None
    for batch in file.iter_batches(batch_size=_ROWS, columns=[by]):
        runs = pyarrow.compute.run_end_encode(text_column(by, batch[by]))
        begin = start
        for value, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            name, stop = canonical_name(value or ""), start + end
            if not name or (name in places and name != last):
                return None
            places[name] = range(places[name].start if name == last else begin, stop)
            begin, last = stop, name
        start += len(batch)
    return places


def _rows(path: Path, groups: Sequence[int], rows: range, columns: Sequence[str]) -> pyarrow.Table:
    """Read some rows, and no more of the file than the row groups that hold them."""
    held: list[int] = []
    start = first = 0
    for number, count in enumerate(groups):
        if start < rows.stop and start + count > rows.start:
            first = first if held else start
            held.append(number)
        start += count
    with pyarrow.parquet.ParquetFile(path) as file:
        table = file.read_row_groups(held, columns=list(columns))
    return table.slice(rows.start - first, len(rows))


def _joined(opened: Opened, columns: Sequence[str], config: DataConfig, name: str) -> Dataset:
    found = join(
        {"": opened},
        columns,
        shown=f"data.path={config.path}: {name}",
        files=(),
        in_memory_mb=config.in_memory_mb,
    )
    if found.problems:
        raise DataError([f"{name}: {problem}" for problem in found.problems])
    return found.records


def _refuse_unlike(parts: Sequence[Opened], paths: Sequence[Path]) -> None:
    """Check that an institution's files have the same columns, of those that are read.

    Raises:
        DataError: naming the first file that has others.
    """
    for part, path in zip(parts, paths, strict=True):
        if set(part.columns) != set(parts[0].columns):
            unlike = sorted(set(part.columns) ^ set(parts[0].columns))
            raise DataError(
                f"{path} and {paths[0].name} beside it have other columns: {', '.join(unlike)};"
                " write both with the same ones."
            )


def _num_rows(path: Path) -> int:
    try:
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as Parquet: {_told(error)}; write it anew."
        ) from None


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:_MOST_TOLD]


__all__ = ["ParquetSource", "parquet_source"]
