"""Statistics of what is predicted, by kind of outcome: from a table to figures, page and cost."""

import io
import json
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from rich.console import Console

from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.server.progress.lines import LineProgress
from confide.server.statistics.told import statistics_table
from confide.simulations.statistics import ask_statistics

ROWS = 600
OUTCOMES: dict[str, dict[str, Any]] = {
    "regression": {"kind": "regression", "column": "cost", "minimum": 0, "maximum": 100},
    "multi_label": {"kind": "multi_label", "labels": ["x", "y"]},
    "ordinal": {"kind": "ordinal", "column": "grade", "labels": ["low", "mid", "high"]},
    "survival": {"kind": "survival", "horizon": 20, "intervals": 4},
}
TOLD = {
    "regression": "(cost)",
    "multi_label": "(label)",
    "ordinal": "low",
    "survival": "(time, event)",
}
EXACT = ("privacy=none", "policy.min_cell=1")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    rng = numpy.random.default_rng(0)
    time = rng.exponential(15, ROWS)
    frame = pandas.DataFrame(
        {
            "id": range(ROWS),
            "a": rng.uniform(-1, 1, ROWS),
            "cost": rng.gamma(4, 10, ROWS).clip(0, 100),
            "x": (rng.random(ROWS) < 0.3).astype(int),
            "y": (rng.random(ROWS) < 0.02).astype(int),
            "grade": rng.choice(["low", "mid", "high"], ROWS, p=[0.5, 0.3, 0.2]),
            "time": time.round(3),
            "event": (rng.random(ROWS) < 0.6).astype(int),
        }
    )
    frame.attrs["path"] = tmp_path_factory.mktemp("table") / "table.csv"
    frame.to_csv(frame.attrs["path"], index=False)
    return frame


def ask(
    table: pandas.DataFrame, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str
) -> dict[str, Any]:
    own = folder / "conf" / "task" / "mine.yaml"
    own.parent.mkdir(parents=True)
    columns = {"a": {"minimum": -1, "maximum": 1}}
    own.write_text(json.dumps({"kind": "tabular", "outcome": OUTCOMES[kind], "columns": columns}))
    monkeypatch.chdir(folder)
    data = (f"data.path={table.attrs['path']}", "data.id_column=id", "data.public=true")
    split = ("data.num_clients=3", "data.validation=0", "data.test=0")
    model = ("task=mine", "backbone=logistic", "tuning=full")
    progress = LineProgress(Console(file=io.StringIO()), metric="accuracy")
    with own_configs([*model, *data, *split, *words]) as rest:
        return ask_statistics(compose(rest), folder, progress=progress)


@pytest.mark.parametrize("kind", OUTCOMES)
def test_exact_figures_are_those_of_the_records(
    table: pandas.DataFrame, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ask(table, kind, tmp_path, monkeypatch, *EXACT)
    federation = found["federation"]
    outcome, labels = federation["outcome"], federation["labels"]
    assert outcome["kind"] == kind
    counts = {name: one["value"] for name, one in labels.items()}
    if kind == "regression":
        number, cost = outcome["number"], table["cost"]
        assert number["mean"]["value"] == pytest.approx(cost.mean(), rel=1e-5)
        assert number["deviation"]["value"] == pytest.approx(cost.std(ddof=0), rel=1e-4)
        for share in ("0.05", "0.5", "0.95"):
            quantile = number["quantiles"][share]
            assert quantile["low"] <= cost.quantile(float(share)) <= quantile["high"]
        assert sum(one["value"] for one in number["histogram"]["counts"]) == ROWS
    elif kind == "multi_label":
        assert counts == {"x": table["x"].sum(), "y": table["y"].sum()}
        assert outcome["shares"]["x"]["value"] == pytest.approx(table["x"].mean(), abs=1e-6)
    elif kind == "ordinal":
        assert counts == table["grade"].value_counts().to_dict()
    else:
        happened = (table["event"] == 1) & (table["time"] <= 20)
        assert outcome["events"]["value"] == happened.sum()
        assert outcome["censored"]["value"] == ROWS - happened.sum()
        first = ((table["time"] <= 5) & happened).sum()
        assert outcome["event_times"]["counts"][0]["value"] == first
        later = outcome["censored_times"]
        assert later["edges"] == [0.0, 5.0, 10.0, 15.0, 20.0, 20.0]
        assert later["counts"][-1]["value"] == (table["time"] > 20).sum()
    page = (tmp_path / "statistics.html").read_text()
    assert "What is predicted" in page
    console = Console(file=io.StringIO(), width=200)
    statistics_table(found).show(console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert TOLD[kind] in printed


@pytest.mark.parametrize(
    "kind",
    [
        "regression",
        pytest.param("multi_label", marks=pytest.mark.slow),
        pytest.param("survival", marks=pytest.mark.slow),
    ],
)
def test_noisy_figures_have_intervals_that_hold_the_exact_ones(
    table: pandas.DataFrame, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = ask(table, kind, tmp_path / "exact", monkeypatch, *EXACT)["federation"]
    words = ("privacy=record", "statistics.epsilon=8")
    noisy = ask(table, kind, tmp_path / "noisy", monkeypatch, *words)["federation"]
    pairs = [(noisy["labels"][name], one) for name, one in exact["labels"].items()]
    if kind == "regression":
        pairs += [(noisy["outcome"]["number"][it], exact["outcome"]["number"][it]) for it in MEANS]
    if kind == "survival":
        for name in ("events", "censored"):
            pairs.append((noisy["outcome"][name], exact["outcome"][name]))
    assert pairs
    for interval, figure in pairs:
        middle, half = (interval["high"] + interval["low"]) / 2, interval["high"] - interval["low"]
        assert half > 0
        assert abs(figure["value"] - middle) <= half  # twice as far as 95 % of it lies


MEANS = ("mean", "deviation")


def test_few_events_are_kept_back(
    table: pandas.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("privacy=none", "policy.min_cell=10")
    outcome = ask(table, "multi_label", tmp_path, monkeypatch, *words)["federation"]["outcome"]
    assert outcome["shares"]["x"]["value"] == pytest.approx(table["x"].mean(), abs=1e-6)
    assert outcome["shares"]["y"]["value"] is None
    assert outcome["shares"]["y"]["high"] > table["y"].mean()
