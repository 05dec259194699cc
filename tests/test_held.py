"""Cells of files in words."""

import os
from pathlib import Path

import pyarrow
import pytest
from pictures_made import GREY, drawn, file_of

from confide.errors import DataError
from confide.held import (
    ARRAY,
    BYTES,
    FILE,
    Held,
    array_place,
    file_cells,
    parse_held,
    same_held,
    shown,
)

HASH = "0123456789abcdef"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a text", "a text"),
        (None, "None"),
        (Held(HASH, (), FILE, "/home/someone/scans/7.png").text, "7.png"),
        (
            Held(HASH, (), ARRAY, array_place(["/home/x/all.npz", "train", 3])).text,
            "all.npz train 3",
        ),
        (Held(HASH, (), BYTES, "aGVsbG8=").text, "file 0123456789ab"),
    ],
)
def test_a_cell_is_told_without_its_folder_and_content(cell: object, expected: str) -> None:
    assert shown(cell) == expected


@pytest.mark.parametrize("text", ["\0held\0", "\0held\0x", f"\0held\0{HASH}\0flat\0file", "\0held"])
def test_a_text_that_only_begins_as_a_cell_is_none(text: str) -> None:
    assert parse_held(text) is None
    assert same_held(text) is None
    assert shown(text) == text


@pytest.mark.parametrize(
    "values",
    [
        [Held(HASH, (), FILE, "/etc/hostname").text],
        ["\0held\0"],
        [{"bytes": None, "path": Held(HASH, (), BYTES, "").text}],
    ],
)
def test_a_column_of_paths_says_nothing_of_what_its_files_hold(values: list[object]) -> None:
    with pytest.raises(DataError, match="Column image: 1 texts begin with a null character"):
        file_cells(pyarrow.array(values), GREY)


def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # whoever opens it waits
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        (found,) = map(parse_held, file_cells(pyarrow.array([str(path)]), GREY).to_pylist())
        assert found is not None
        assert found.findings == ("no_file",)


def test_a_path_that_begins_with_a_tilde_may_be_a_files_own(tmp_path: Path) -> None:
    (tmp_path / "~nobody-is-called-so").mkdir()
    path = tmp_path / "~nobody-is-called-so" / "1.png"
    path.write_bytes(file_of(drawn()))
    named = pyarrow.array([path.relative_to(tmp_path).as_posix()])
    (found,) = map(parse_held, file_cells(named, GREY, tmp_path).to_pylist())
    assert found is not None
    assert found.sha256
