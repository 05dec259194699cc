"""Records on disk without a name, and what is said when the disk is full."""

import errno
import os
import tempfile
from pathlib import Path

import pyarrow
import pytest

from confide.client.records.sources.spool import collect
from confide.errors import DataError

SCHEMA = pyarrow.schema([("x", pyarrow.string())])
BATCHES = [pyarrow.table({"x": [str(i)] * 3}, schema=SCHEMA) for i in range(4)]


@pytest.mark.parametrize("in_memory_mb", [0, 1])
def test_batches_are_joined_in_order(in_memory_mb: int) -> None:
    joined = collect(iter(BATCHES), SCHEMA, in_memory_mb=in_memory_mb)
    assert joined["x"].to_pylist() == [str(i) for i in range(4) for _ in range(3)]


def test_no_batches_are_an_empty_table() -> None:
    assert collect(iter(()), SCHEMA, in_memory_mb=0).num_rows == 0


def test_a_full_disk_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full takes no byte, as a disk that is full."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 - `collect` closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: full)
    message = (
        rf"exceed data\.in_memory_mb, and {tempfile.gettempdir()} cannot take them:"
        rf" .*{os.strerror(errno.ENOSPC)}"
    )
    with pytest.raises(DataError, match=message):
        collect(iter(BATCHES), SCHEMA, in_memory_mb=0)
