"""Records of one's own: all of them, under their own names, and every one left out is counted."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from clinics import CLINICS, RECORDS, TASK, write_clinics

import confide.cli
from confide.client.records.tally import LOUD, REASONS, Tally
from confide.config.composing.folders import own_configs
from confide.errors import ConfigError, DataError

Simulate = Callable[..., dict[str, Any]]
BASE = ("backbone=logistic", "tuning=full", "simulation.baselines=[]", "data.public=true")
THYROID = (
    "task=thyroid",
    "data.path=thyroid.csv",
    "data.partition_by=clinic",
    *BASE,
    "server.num_rounds=1",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "thyroid.yaml").write_text(TASK)
    return tmp_path


def told(summary: dict[str, Any]) -> tuple[int, int, dict[str, int]]:
    data = summary["data"]
    return data["records"], data["used"], data["left_out"]


def test_a_table_of_six_clinics_is_used_whole_under_their_names(here: Path, run: Simulate) -> None:
    assert write_clinics(here / "thyroid.csv") == RECORDS == 9172
    with own_configs(THYROID) as words:
        summary = run(*words, "privacy=record")
    assert {name: one["records"] for name, one in summary["clients"].items()} == CLINICS
    assert told(summary) == (RECORDS, RECORDS, {})
    assert summary["data"]["partitioner"] == "natural"


@pytest.mark.parametrize("count", [4, 7])
def test_another_number_of_institutions_is_told_before_anything_is_encoded(
    here: Path, run: Simulate, count: int
) -> None:
    write_clinics(here / "thyroid.csv", share=0.1)
    (here / "conf" / "task" / "thyroid.yaml").write_text(TASK.replace("[F, M]", "[X]"))
    with (
        own_configs([*THYROID, f"data.num_clients={count}"]) as words,
        pytest.raises(ConfigError, match=rf"num_clients={count}, but column clinic names 6: STMW"),
    ):
        run(*words)


def test_settings_that_six_institutions_contradict_are_told(here: Path, run: Simulate) -> None:
    write_clinics(here / "thyroid.csv", share=0.1)
    with (
        own_configs([*THYROID, "server.min_clients=7"]) as words,
        pytest.raises(ConfigError, match=r"server\.min_clients=7 exceeds the 6 there"),
    ):
        run(*words)


# --- read = used + left out, for each reason


def settings(path: Path, **columns: str) -> tuple[str, ...]:
    """Describe a table of one number, x, and the label y."""
    named = [f"data.{key}={value}" for key, value in columns.items()]
    return ("task=tiny", f"data.path={path}", *BASE, "server.num_rounds=1", *named)


TINY = "kind: tabular\nlabels: [a, b]\nlabel_column: y\ncolumns: {x: {minimum: 0, maximum: 1000}}\n"


def write(here: Path, rows: list[tuple[object, ...]], header: str = "id,x,y") -> Path:
    (here / "conf" / "task" / "tiny.yaml").write_text(TINY)
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    (here / "tiny.csv").write_text("\n".join(lines) + "\n")
    return here / "tiny.csv"


def rows(count: int) -> list[tuple[object, ...]]:
    draw = random.Random(1)
    return [(i, draw.randint(0, 1000), "ab"[i % 2]) for i in range(count)]


ROWS = rows(200)
LEFT_OUT: dict[str, tuple[list[tuple[object, ...]], tuple[str, ...], dict[str, int]]] = {
    "none": (ROWS, (), {}),
    "repeated": ([*ROWS, *ROWS[:5]], (), {"repeated": 5}),
    "tied": ([*ROWS, (0, 7, "b")], (), {"conflicting": 2}),
    "outvoted": ([*ROWS, (0, 7, "b"), (0, 8, "b")], (), {"conflicting": 1, "repeated": 1}),
    "max_records": (ROWS, ("data.max_records=150",), {"max_records": 50}),
    "both": ([*ROWS, ROWS[0]], ("data.max_records=150",), {"repeated": 1, "max_records": 50}),
    "partitioner": (
        ROWS,
        ("data.partitioner=size", "data.partitioner_args={partition_sizes: [90, 60]}"),
        {"partitioner": 50},
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_counts_of_each_reason_add_up(here: Path, run: Simulate, name: str) -> None:
    given, words, left_out = LEFT_OUT[name]
    with own_configs([*settings(write(here, given), id_column="id"), *words]) as composed:
        summary = run(*composed, "privacy=none")
    assert told(summary) == (len(given), len(given) - sum(left_out.values()), left_out)
    used = sum(client["records"] for client in summary["clients"].values())
    assert used == summary["data"]["used"]
    assert bool(summary["data"]["notes"]) == bool(left_out)


def test_records_beyond_an_owners_limit_are_counted(here: Path, run: Simulate) -> None:
    given = [(i, i % 1000, "ab"[i % 2], i // 10, "cd"[i // 10 % 2]) for i in range(400)]
    path = write(here, given, "id,x,y,owner,ward")
    words = settings(path, id_column="id", group_column="owner", partition_by="ward")
    with own_configs([*words, "privacy=group", "privacy.max_records_per_group=4"]) as composed:
        summary = run(*composed, "data.validation=0", "data.test=0.5")
    left = summary["data"]["left_out"]["max_records_per_group"]
    trained = sum(client["num_examples"] for client in summary["clients"].values())
    assert left == 6 * trained  # of ten records of each owner who is trained on, a unit
    assert summary["data"]["used"] + left == summary["data"]["records"] == 400


def test_check_counts_what_a_simulation_leaves_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, words, left_out = LEFT_OUT["both"]
    command = ["data", "check", *settings(write(here, given), id_column="id"), *words, "--json"]
    assert confide.cli.main(command) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["source"]["records"] == 201
    assert {"max_records": 50, **read["source"]["left_out"]} == left_out
    assert "150 of 201 records are used, 25.4% are left out: 1 repeat a unit" in read["notes"][0]


def test_a_table_without_ids_keeps_rows_that_agree(here: Path, run: Simulate) -> None:
    given = [(i % 4, "ab"[(i % 7) // 4]) for i in range(300)]
    with own_configs(settings(write(here, given, "x,y"))) as words:
        summary = run(*words, "privacy=none")
    assert told(summary) == (300, 300, {})
    labels = [client["labels"] for client in summary["clients"].values()]
    assert sum(one["a"] for one in labels) == sum(label == "a" for _, label in given)


def test_the_same_rows_in_another_order_give_the_same_model(here: Path, run: Simulate) -> None:
    given = [(i % 4, "ab"[(i % 7) // 4]) for i in range(300)]
    models = []
    for order in (given, given[::-1]):
        with own_configs(settings(write(here, order, "x,y"))) as words:
            models.append(run(*words, "privacy=none", name=str(len(models)))["model_sha256"])
    assert models[0] == models[1]


def test_labels_are_counted_after_units(here: Path, run: Simulate) -> None:
    given = [(i, i, "a") for i in range(50)] + [(i, i, "b") for i in range(50)]
    with (
        own_configs(settings(write(here, given), id_column="id")) as words,
        pytest.raises(DataError, match=r"(?s)Label a: 0 of 0 .*MANY RECORDS ARE LEFT OUT"),
    ):
        run(*words, "privacy=none")


def test_many_lost_records_are_loud_and_a_few_are_not() -> None:
    few = Tally(read=1000).without("repeated", round(1000 * LOUD))
    many = few.without("conflicting", 1)
    asked = Tally(read=1000).without("max_records", 900)
    assert [tally.is_loud for tally in (few, many, asked)] == [False, True, False]
    assert next(many.sentences()).startswith("MANY RECORDS")
    assert many.used + sum(many.left_out.values()) == 1000


@pytest.mark.parametrize("left_out", [{"repeated": 11}, {"luck": 1}, {"repeated": 0}])
def test_counts_that_cannot_be_are_refused(left_out: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"expected counts of {', '.join(REASONS)}"):
        Tally(read=10, left_out=left_out)


# --- whose institutions


def test_a_folder_names_its_institutions(here: Path, run: Simulate) -> None:
    frame = pandas.DataFrame(ROWS, columns=["id", "x", "y"])
    write(here, ROWS)
    (here / "wards").mkdir()
    for name in ("east", "north", "south"):
        frame.to_csv(here / "wards" / f"{name}.csv", index=False)
    words = settings(here / "wards", id_column="id")
    with own_configs(words) as composed:
        summary = run(*composed, "privacy=none")
        assert {name: one["records"] for name, one in summary["clients"].items()} == dict.fromkeys(
            ("east", "north", "south"), 200
        )
        with pytest.raises(ConfigError, match=r"num_clients=4, but folder .*wards holds 3 files"):
            run(*composed, "data.num_clients=4")


def test_ids_belong_to_the_institution_that_a_column_names(here: Path, run: Simulate) -> None:
    given = [(*row, ward) for ward in "cd" for row in ROWS]
    path = write(here, given, "id,x,y,ward")
    with own_configs(settings(path, id_column="id", partition_by="ward")) as words:
        assert told(run(*words, "privacy=none")) == (400, 400, {})
