"""Plain records, whose reading takes no longer than their bytes."""

import pytest

from confide.serving.plain_records import read_csv, read_records
from confide.serving.refusal import RefusedError
from confide.serving.signature import Column, Signature

SIGNATURE = Signature(
    inputs=[Column("note", "BYTES")],
    made=(),
    outputs=[Column("prediction", "BYTES")],
    files=frozenset(),
    is_costly=False,
)
MANY = [f"c{number}" for number in range(200_000)]


@pytest.mark.timeout(30)  # of pairs of columns, and not of columns, it takes many minutes
def test_very_many_columns_of_csv_are_told_soon() -> None:
    with pytest.raises(RefusedError, match="has 1 fields, expected the header's 200000"):
        read_csv(f"{','.join(MANY)}\n1\n".encode(), SIGNATURE, most_records=3)


@pytest.mark.timeout(30)
def test_very_many_names_of_json_are_told_soon() -> None:
    names = ",".join(f'"{name}":0' for name in [*MANY, "c9"])
    with pytest.raises(RefusedError, match="'c9' stands twice"):
        read_records(f"[{{{names}}}]".encode(), SIGNATURE, most_records=3)


def test_a_cell_of_csv_may_be_as_long_as_the_body() -> None:
    picture = "x" * 200_000  # a picture in base 64 easily is
    read = read_csv(f"note\n{picture}\n".encode(), SIGNATURE, most_records=3)
    assert read == {"note": [picture]}
