"""Records from a database: the rows of one query, read through a server-side cursor."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from sqlalchemy import CursorResult, create_engine
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from confide.client.records.sources.files import with_files
from confide.client.records.sources.json_lines import json_table, table_of
from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.reading import Reading
from confide.errors import DataError
from confide.security.redaction import HIDDEN, redact

_INSTALL = {
    "psycopg": "confide[postgresql]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "cx_Oracle": "oracledb",
}
_CONNECT_TIMEOUT_S = 10
# Drivers that take this argument; SQLAlchemy has no setting of its own for it
_TIMED = frozenset({"postgresql", "postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"})


@contextlib.contextmanager
def open_query(
    address: str, query: str, columns: Sequence[str], reading: Reading
) -> Iterator[Opened]:
    """Run a query, and keep the connection open while its rows are read.

    Nothing is committed, so that a query that changes rows has no effect.

    Args:
        address: SQLAlchemy URL of the database.
        query: SQL query, sent unchanged.
        columns: names of the columns to keep.
        reading: how rows are read.

    Raises:
        DataError: if the URL, the driver, the server or the query is wrong; the message never
            holds the password.
    """
    engine = _engine(address)
    # stream_results: otherwise drivers fetch all rows at once, more than memory may hold.
    # no_parameters: otherwise a percent sign in the query would begin a parameter.
    options = {"stream_results": True, "max_row_buffer": BATCH, "no_parameters": True}
    try:
        with (
            engine.connect().execution_options(**options) as connection,
            contextlib.closing(connection.exec_driver_sql(query)) as result,
        ):
            # An UPDATE, say; it was run, and is rolled back when the connection closes
            if not result.returns_rows:
                raise DataError("data.query returns no rows; expected SELECT ...")
            yield _opened(result, columns, reading)
    except SQLAlchemyError as error:
        # What the database said, without SQLAlchemy's frame around it, which repeats the query
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        password = make_url(address).password
        if password:
            text = text.replace(str(password), HIDDEN)
        raise DataError(f"data.path={redact(address)}: {text}") from None
    finally:
        engine.dispose()


def _opened(result: CursorResult[Any], columns: Sequence[str], reading: Reading) -> Opened:
    names = tuple(result.keys())
    for name in columns:
        if names.count(name) > 1:
            raise DataError(
                f"data.query: {names.count(name)} columns of its result are called {name}; rename"
                " all but one."
            )
    kept = [name for name in names if name in columns]
    positions = [names.index(name) for name in kept]
    files = [] if reading.files is None else [one.column for one in reading.files.each]
    table = json_table if reading.whole else functools.partial(table_of, as_is=files)
    batches: Iterator[pyarrow.Table] = (
        table([[row[position] for row in batch] for position in positions], kept)
        for batch in result.partitions(BATCH)
    )
    if reading.files is not None and not reading.whole:
        batches = with_files(batches, reading.files, None)
    return Opened(columns=names, batches=batches, is_json=reading.whole)


def _engine(address: str) -> Engine:
    shown = f"data.path={redact(address)}"
    try:
        url = make_url(address)
        if url.get_backend_name() == "sqlite":
            # SQLite makes a missing file when it connects, and the query would find no tables
            file = url.database or ":"
            if file.startswith((":", "file:")):
                raise DataError(
                    f"{shown}: expected the path of a SQLite file, as in sqlite:////data/ward.db."
                )
            if not Path(file).is_file():
                raise DataError(f"{shown}: no such file.")
        timed = url.drivername in _TIMED and "connect_timeout" not in url.query
        patience = {"connect_timeout": _CONNECT_TIMEOUT_S} if timed else {}
        return create_engine(url, connect_args=patience)
    except NoSuchModuleError:
        raise DataError(
            f"{shown}: SQLAlchemy knows no database {url.drivername}; check the part before ://."
        ) from None
    except (ArgumentError, ValueError):
        raise DataError(
            f"{shown}: not a database's URL; expected DIALECT+DRIVER://USER@HOST:PORT/DATABASE."
        ) from None
    except ImportError as error:
        package = _INSTALL.get(error.name or "", error.name)
        raise DataError(
            f"{shown}: its driver {error.name} is not installed; `pip install '{package}'`"
            " brings it."
        ) from None


__all__ = ["open_query"]
