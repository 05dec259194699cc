"""Summaries of many institutions: quantiles, the few worst, and the rows in a file beside."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from rich.console import Console

from confide.server.run.closing import closing_lines, closing_table
from confide.server.run.many import MANY, condensed, distribution, few_named, table_of

COUNT = 1000


def summary_of(count: int = COUNT) -> dict[str, Any]:
    """A private run of clients c0000, c0001, ..., of which each has accuracy of its number."""
    clients = {
        f"c{i:04}": {
            "num_examples": i + 1,
            "records": 2 * i + 2,
            "labels": {"no": i, "yes": i + 2},
            "epsilon": 1.0 + i / count,
            "delta": 1e-5,
            "budget": {"epsilon": 8.0, "committed": 2.0},
            **({"accuracy": i / count} if i != 7 else {}),
            "test_examples": 0 if i == 7 else 5,
            "rounds": i % 3,
        }
        for i in range(count)
    }
    local = {name: {"accuracy": 0.25, "own_test": {"accuracy": 0.5}} for name in list(clients)[::2]}
    return {
        "primary_metric": "accuracy",
        "rounds": 3,
        "seconds": 1.0,
        "model_sha256": "ab" * 32,
        "federated": {"accuracy": 0.5, "test_examples": 5 * count},
        "privacy": {"unit": "record", "epsilon": 3.0, "delta": 1e-5, "guarantee": "nominal"},
        "baselines": {
            "local": local,
            "pooled": {"accuracy": 0.6, "own_test": {name: {"accuracy": 0.6} for name in clients}},
        },
        "clients": clients,
        "failures": {},
        "evaluation": {"clients": {name: {} for name in clients}, "counted": list(clients)},
    }


def test_few_keep_their_rows_and_leave_no_file(tmp_path: Path) -> None:
    summary = summary_of(MANY)
    assert few_named(summary, tmp_path) is summary
    assert list(tmp_path.iterdir()) == []


def test_the_rows_of_many_are_in_a_file(tmp_path: Path) -> None:
    few_named(summary_of(), tmp_path)
    rows = pandas.read_parquet(tmp_path / "institutions.parquet").set_index("institution")
    assert len(rows) == COUNT
    assert rows.loc["c0012"].dropna().to_dict() == {
        "num_examples": 13,
        "records": 26,
        "epsilon": 1.012,
        "delta": 1e-5,
        "accuracy": 0.012,
        "test_examples": 5,
        "rounds": 0,
        "budget.epsilon": 8.0,
        "budget.committed": 2.0,
        "local.accuracy": 0.25,
        "local_own.accuracy": 0.5,
        "pooled_own.accuracy": 0.6,
        "labels.no": 12,
        "labels.yes": 14,
    }
    assert numpy.isnan(rows.loc["c0007", "accuracy"])
    assert numpy.isnan(rows.loc["c0013", "local.accuracy"])


def test_a_summary_does_not_grow_with_the_number_of_institutions(tmp_path: Path) -> None:
    sizes = [len(json.dumps(few_named(summary_of(n), tmp_path))) for n in (MANY + 1, 20 * MANY)]
    assert abs(sizes[0] - sizes[1]) < 500


def test_the_worst_and_the_largest_are_named() -> None:
    summary = summary_of()
    told = condensed(summary, table_of(summary))
    assert told["institutions"]["worst"] == ["c0000", "c0001", "c0002", "c0003", "c0004"]
    assert told["institutions"]["largest"] == "c0999"
    assert list(told["clients"]) == [*told["institutions"]["worst"], "c0999"]
    assert told["clients"]["c0999"] == summary["clients"]["c0999"]
    assert list(told["baselines"]["local"]) == ["c0000", "c0002", "c0004"]
    assert told["baselines"]["pooled"]["accuracy"] == 0.6
    assert told["evaluation"] == {"clients": {}, "counted": COUNT}
    assert told["institutions"]["num_examples"] == COUNT * (COUNT + 1) // 2


def test_of_a_loss_the_largest_is_the_worst() -> None:
    summary = summary_of()
    for name, line in summary["clients"].items():
        line["log_loss"] = float(name[1:])
    summary["primary_metric"] = "log_loss"
    told = condensed(summary, table_of(summary))
    assert told["institutions"]["worst"] == ["c0999", "c0998", "c0997", "c0996", "c0995"]


def test_a_metric_that_nobody_tells_has_no_worst() -> None:
    summary = summary_of()
    for line in summary["clients"].values():
        line.pop("accuracy", None)
    told = condensed(summary, table_of(summary))
    assert told["institutions"]["worst"] == []
    assert "accuracy" not in told["institutions"]["figures"]


def test_quantiles_are_those_of_the_institutions_that_tell_a_figure() -> None:
    summary = summary_of()
    figures = condensed(summary, table_of(summary))["institutions"]["figures"]
    assert figures["accuracy"]["institutions"] == COUNT - 1  # one has no test records
    assert figures["num_examples"] == {
        "institutions": COUNT,
        "mean": 500.5,
        "min": 1.0,
        "5 %": pytest.approx(50.95),
        "25 %": 250.75,
        "median": 500.5,
        "75 %": 750.25,
        "95 %": pytest.approx(950.05),
        "max": 1000.0,
    }
    assert distribution(numpy.array([3]))["5 %"] == 3.0


def test_the_terminal_says_quantiles_and_who_is_weakest(tmp_path: Path) -> None:
    told = few_named(summary_of(), tmp_path)
    console = Console(file=io.StringIO(), width=200)
    console.print(closing_table(told))
    file = console.file
    assert isinstance(file, io.StringIO)
    shown = file.getvalue()
    assert "1,000 institutions" in shown
    assert re.search(r"training records .* 1000 .* 1 .* 51 .* 251 .* 500 .* 750 .* 950", shown)
    assert "epsilon" in shown
    assert "c0500" not in shown
    lines = "\n".join(closing_lines(told, tmp_path))
    assert "Weakest on their own test records: c0000 0.000, c0001 0.001" in lines
    assert "all 1,000 institutions in institutions.parquet" in lines
    assert len(lines) < 2000
