"""Parquet partitioned by client: one source, whose folders' names are a column."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from confide.client.records.sources.sources import load_records, shared_columns
from confide.errors import DataError

COLUMNS = ("client", "a", "label")


def write(folder: Path, where: str, **columns: list[object]) -> Path:
    path = folder / where
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    write(folder, "client=007/part-0.parquet", a=[1.0, 2.0], label=["no", "yes"])
    write(folder, "client=007/part-1.parquet", a=[3.0], label=["no"])
    write(folder, "client=St.%20Anne/part-0.parquet", a=[4.5], label=["yes"])
    (folder / "_SUCCESS").touch()
    return folder


def rows(folder: Path) -> list[dict[str, object]]:
    return load_records(str(folder), COLUMNS, in_memory_mb=64).records.to_list()


def test_names_of_folders_are_a_column_of_text_as_it_stands(records: Path) -> None:
    assert [(row["client"], row["a"]) for row in rows(records)] == [
        ("007", "1"),
        ("007", "2"),
        ("007", "3"),
        ("St. Anne", "4.5"),
    ]
    assert shared_columns(str(records)) == ("a", "label", "client")


def test_it_is_what_a_partitioning_writer_writes(tmp_path: Path) -> None:
    table = pyarrow.table({"client": ["b", "a", "b"], "a": [1, 2, 3], "label": ["x", "y", "x"]})
    pyarrow.parquet.write_to_dataset(table, tmp_path / "t", partition_cols=["client"])
    assert sorted((row["client"], row["a"]) for row in rows(tmp_path / "t")) == [
        ("a", "2"),
        ("b", "1"),
        ("b", "3"),
    ]


def test_folders_may_be_nested(tmp_path: Path) -> None:
    write(tmp_path, "r/client=1/year=2020/p.parquet", a=[1], label=["no"])
    write(tmp_path, "r/client=1/year=2021/p.parquet", a=[2], label=["no"])
    assert shared_columns(str(tmp_path / "r")) == ("a", "label", "client", "year")
    assert [row["a"] for row in rows(tmp_path / "r")] == ["1", "2"]


def test_nobody_is_null(tmp_path: Path) -> None:
    write(tmp_path, "r/client=__HIVE_DEFAULT_PARTITION__/p.parquet", a=[1], label=["no"])
    assert rows(tmp_path / "r")[0]["client"] is None


def test_files_with_other_columns_are_named(records: Path) -> None:
    write(records, "client=9/part-0.parquet", b=[1.0], label=["no"])
    with pytest.raises(DataError, match=r"client=9/part-0\.parquet has no column a, which client="):
        rows(records)


def test_a_column_that_is_said_twice_is_refused(records: Path) -> None:
    write(records, "client=007/part-0.parquet", a=[1.0], label=["no"], client=["8"])
    with pytest.raises(DataError, match="has a column client, which its folder's name says"):
        rows(records)


def test_strangers_and_other_layouts_are_named(records: Path) -> None:
    stray = records / "client=007" / "notes.txt"
    stray.write_text("hello")
    with pytest.raises(DataError, match=r"move client=007/notes\.txt elsewhere"):
        rows(records)
    stray.unlink()
    write(records, "client=9/year=1/p.parquet", a=[1.0], label=["no"])
    with pytest.raises(DataError, match="lies under client, year, and other files under client"):
        rows(records)


def test_a_linked_folder_is_told(records: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/part-0.parquet", a=[1.0], label=["no"])
    (records / "client=8").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="client=8 is a link to a folder elsewhere"):
        rows(records)


def test_folders_without_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "r" / "client=1").mkdir(parents=True)
    with pytest.raises(DataError, match=r"there is no \.parquet file"):
        rows(tmp_path / "r")


def test_a_damaged_file_is_named(records: Path) -> None:
    (records / "client=007" / "part-1.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"part-1\.parquet: cannot be read"):
        rows(records)


def test_what_is_left_out_is_told(records: Path) -> None:
    assert not load_records(str(records), COLUMNS, in_memory_mb=64).notes
    write(records, "client=007/.part-9.parquet", a=[9.0], label=["no"])
    (records / "client=007" / ".part-0.parquet.crc").touch()  # of writers, and no records
    write(records, "client=St.%20Anne/part-1.parquet", a=[5.0], label=["no"], b=[1])
    found = load_records(str(records), COLUMNS, in_memory_mb=64)
    assert len(found.records) == 5
    assert list(found.notes) == [
        "1 hidden files and folders are left out, such as client=007/.part-9.parquet; rename what"
        " is to be read.",
        "Columns that client=007/part-0.parquet lacks are left out: b, in"
        " client=St.%20Anne/part-1.parquet for one.",
    ]
    # Whoever asks for some columns does not miss others
    assert len(load_records(str(records), COLUMNS[:2], in_memory_mb=64).notes) == 1
