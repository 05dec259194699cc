"""Cells of files in words."""

import pyarrow
import pytest
from pictures_made import GREY

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
