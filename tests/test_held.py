"""Cells of files in words."""

import pytest

from confide.held import ARRAY, BYTES, FILE, Held, array_place, shown

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
