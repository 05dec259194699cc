"""Records that do not fit into memory: an Arrow file without a name, mapped into memory.

The file is unlinked from the start and readable only by its owner: when the process ends, however
it ends, nothing is left.
"""

import contextlib
import mmap
import tempfile
from collections.abc import Iterable
from typing import IO

import pyarrow

from confide.errors import DataError


def collect(
    batches: Iterable[pyarrow.Table], schema: pyarrow.Schema, *, in_memory_mb: int
) -> pyarrow.Table:
    """Join batches in memory, or beyond a limit in an unlinked file.

    Args:
        batches: batches of this schema.
        schema: schema of the result, even if there are no batches.
        in_memory_mb: MiB that may stay in memory.

    Raises:
        DataError: if the disk is full.
    """
    held: list[pyarrow.Table] = []
    size, writer = 0, None
    with contextlib.ExitStack() as stack:
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size <= in_memory_mb << 20:
                continue
            if writer is None:
                file = stack.enter_context(tempfile.TemporaryFile(prefix="confide-"))
                writer = pyarrow.ipc.new_file(file, schema)
            _write(writer, held)
            held = []
        if writer is None:
            return pyarrow.concat_tables([schema.empty_table(), *held])
        _write(writer, held)
        return _map(writer, file)


def _write(writer: pyarrow.ipc.RecordBatchFileWriter, tables: Iterable[pyarrow.Table]) -> None:
    try:
        for table in tables:
            writer.write_table(table)
    except OSError as error:
        raise _full(error) from None


def _map(writer: pyarrow.ipc.RecordBatchFileWriter, file: IO[bytes]) -> pyarrow.Table:
    try:
        writer.close()
        file.flush()
    except OSError as error:
        raise _full(error) from None
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # outlives the descriptor
    return pyarrow.ipc.open_file(pyarrow.py_buffer(mapped)).read_all()


def _full(error: OSError) -> DataError:
    folder = tempfile.gettempdir()
    return DataError(
        f"The records exceed data.in_memory_mb, and {folder} cannot take them: {error}. "
        "Free space there, choose another folder with TMPDIR, or raise data.in_memory_mb."
    )


__all__ = ["collect"]
