"""The same records in another format are the same records: encodings, units, groups, splits."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from confide.client.records.checked import load_checked_records
from confide.client.records.units import unit_ids
from confide.config.data import DataConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.tasks.tabular import Tabular

BIG = 2**53
TASK = TabularConfig(
    labels=["no", "yes"],
    label_column="y",
    label_values={"0": "no", "1": "yes"},
    columns={
        "number": ColumnConfig(minimum=-1e3, maximum=1e3, indicator=True),
        "grade": ColumnConfig(kind="categorical", categories=["1", "2", "2.5"], indicator=True),
        "flag": ColumnConfig(kind="categorical", categories=["TRUE", "FALSE"], indicator=True),
    },
)


def sqlite(frame: pandas.DataFrame, path: Path) -> DataConfig:
    engine = create_engine(f"sqlite:///{path}")
    frame.to_sql("t", engine, index=False)
    engine.dispose()
    return DataConfig(path=f"sqlite:///{path}", query="SELECT * FROM t")


def file(write: Callable[[pandas.DataFrame, Path], object]) -> Callable[..., DataConfig]:
    def made(frame: pandas.DataFrame, path: Path) -> DataConfig:
        write(frame, path)
        return DataConfig(path=str(path))

    return made


def arrow(frame: pandas.DataFrame, path: Path) -> None:
    table = pyarrow.Table.from_pandas(frame)
    with pyarrow.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def lines(frame: pandas.DataFrame, path: Path) -> None:
    rows = frame.astype("object").where(frame.notna(), None).to_dict("records")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


FORMATS: dict[str, Callable[[pandas.DataFrame, Path], DataConfig]] = {
    "x.csv": file(lambda frame, path: frame.to_csv(path, index=False)),
    "x.tsv": file(lambda frame, path: frame.to_csv(path, index=False, sep="\t")),
    "x.parquet": file(lambda frame, path: frame.to_parquet(path)),
    "x.arrow": file(arrow),
    "x.jsonl": file(lines),
    "x.db": sqlite,
}


def meaning(config: DataConfig, id_column: str | None) -> Any:
    data = DataConfig(
        path=config.path,
        query=config.query,
        id_column=id_column,
        group_column="owner",
        min_per_label=0,
    )
    checked = load_checked_records(data, TASK).records
    ids = unit_ids(
        checked,
        id_column=id_column,
        content_columns=TASK.content_columns,
        group_column="owner",
    )
    encoded = Tabular(TASK).encode(checked)
    return ids, {name: column.tolist() for name, column in encoded.columns.items()}


NUMBERS = st.none() | st.sampled_from([-0.0, 1e-7, 0.1, 63.0]) | st.floats(-2e3, 2e3, width=64)
ROWS = st.lists(
    st.tuples(
        NUMBERS,
        st.none() | st.sampled_from([1.0, 2.0, 2.5]),
        st.none() | st.booleans(),
        st.sampled_from([BIG + 1, BIG + 2, 10**15, 7]),
        st.sampled_from([0, 1]),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("label", ["int64", "float64", "boolean", "string"])
@pytest.mark.parametrize("id_column", ["id", None])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(rows=ROWS)
def test_every_format_gives_the_same_units_and_encodings(
    rows: list[tuple[Any, ...]], id_column: str | None, label: str
) -> None:
    number, grade, flag, owner, y = zip(*rows, strict=True)
    frame = pandas.DataFrame(
        {
            "id": [BIG + i for i in range(len(rows))],
            "number": pandas.array(number, "Float64").astype("float64"),
            "grade": pandas.array(grade, "Float64").astype("float64"),
            "flag": pandas.array(flag, "boolean"),
            "owner": pandas.array(owner, "int64"),
            "y": pandas.array(y, "int64").astype(label),
        }
    )
    with TemporaryDirectory() as folder:
        read = {
            name: meaning(write(frame, Path(folder) / name), id_column)
            for name, write in FORMATS.items()
        }
    assert all(one == read["x.parquet"] for one in read.values()), read


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1, 1.0, "1", "1.0", Decimal("1.00")], {"1"}),
        ([BIG + 1, str(BIG + 1), Decimal(BIG + 1)], {str(BIG + 1)}),
        ([1e20, 10**20, "1e+20", Decimal("1E+20")], {str(10**20)}),
        ([-0.0, 0, "-0", "0.0"], {"0"}),
    ],
)
def test_an_id_is_the_same_whatever_its_type(
    values: list[object], names: set[str], tmp_path: Path
) -> None:
    found = set()
    for value in values:
        rows = [{"id": value, "number": 1.0, "grade": 1, "flag": True, "owner": "a", "y": 0}]
        if isinstance(value, int) and value > 2**63:
            lines(pandas.DataFrame(rows), tmp_path / "x.jsonl")
            path = tmp_path / "x.jsonl"
        else:
            path = tmp_path / "x.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        data = DataConfig(path=str(path), id_column="id", min_per_label=0)
        records = load_checked_records(data, TASK).records
        found |= set(unit_ids(records, id_column="id", content_columns=TASK.content_columns))
    assert found == names
