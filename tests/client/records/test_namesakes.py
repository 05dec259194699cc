"""Two columns of one name: told in every format, before one of them is taken."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from confide.client.records.sources.formats import EXTENSIONS, open_file
from confide.errors import DataError


def _write_text(separator: str, path: Path) -> None:
    path.write_text("\n".join(separator.join(row) for row in (("age", "age"), ("1", "2"))) + "\n")


def _write_json(path: Path) -> None:
    path.write_text('{"age": 1, "age": 2}\n')


TABLE = pyarrow.Table.from_arrays([pyarrow.array(["1"]), pyarrow.array(["2"])], ["age", "age"])


def _write_arrow(path: Path) -> None:
    with pyarrow.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


WRITERS = {
    ".csv": lambda path: _write_text(",", path),
    ".tsv": lambda path: _write_text("\t", path),
    ".jsonl": _write_json,
    ".ndjson": _write_json,
    ".json": lambda path: path.write_text('[{"age": 1, "age": 2}]'),
    ".parquet": lambda path: pyarrow.parquet.write_table(TABLE, path),
    ".arrow": _write_arrow,
}


# A file with a word a line names no columns, nor do arrays.
WITHOUT_NAMES = {".conll", ".bio", ".iob", ".iob2", ".bioes", ".bmes", ".txt", ".npz"}


@pytest.mark.parametrize("extension", sorted(set(EXTENSIONS) - WITHOUT_NAMES))
def test_namesakes_are_refused(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"records{extension}"
    WRITERS[extension](path)
    told = "2 columns are called age; rename all but one|names age twice; leave one of them"
    with pytest.raises(DataError, match=told):
        list(open_file(path, ["age"]).batches)
