"""Runs that predict something other than classes, from records to predictions."""

import json
from pathlib import Path

import numpy
import pandas
import pytest

import confide
from confide.inference.export import export
from confide.inference.prediction import predict

ROWS = 900
QUIET = ("tracking=none", "simulation.baselines=[]", "tuning=full", "backbone=logistic")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = numpy.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, ROWS))
    cost = 50 + 20 * a - 12 * b + rng.normal(0, 6, ROWS)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    pandas.DataFrame(
        {
            "id": range(ROWS),
            "a": a,
            "b": b,
            "cost": cost.clip(0, 100),
            "x": (a + rng.normal(0, 0.3, ROWS) > 0).astype(int),
            "y": (b + rng.normal(0, 0.3, ROWS) > 0.5).astype(int),
            "grade": numpy.array(["low", "mid", "high"])[numpy.digitize(cost, [40, 60])],
        }
    ).to_csv(path, index=False)
    return path


OUTCOMES = {
    "regression": {"kind": "regression", "column": "cost", "minimum": 0, "maximum": 100},
    "multi_label": {"kind": "multi_label", "labels": ["x", "y"]},
    "ordinal": {"kind": "ordinal", "column": "grade", "labels": ["low", "mid", "high"]},
}

SECTIONS = {
    "regression": "Predicted and actual numbers",
    "multi_label": "Each label",
    "ordinal": "Confusion at the median label",
}

TITLES = {
    "regression": "Regression",
    "multi_label": "Several labels",
    "ordinal": "Labels in order",
}


def run_of(
    table: Path, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str
) -> confide.Result:
    settings = {
        "kind": "tabular",
        "numeric": {"encoding": "linear"},
        "outcome": OUTCOMES[kind],
        "columns": {name: {"minimum": -1, "maximum": 1} for name in "ab"},
    }
    own = folder / "conf" / "task" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(settings))
    monkeypatch.chdir(folder)
    where = (f"data.path={table}", "data.public=true", "data.id_column=id")
    how = ("task=mine", "data.num_clients=3", "data.partitioner=dirichlet")
    return confide.simulate([*how, *where, *QUIET, *words], run_dir=folder / "run")


@pytest.mark.parametrize(
    ("kind", "metric", "least"),
    [("regression", "r2", 0.75), ("multi_label", "auc", 0.9), ("ordinal", "weighted_kappa", 0.6)],
)
def test_a_run_learns_predicts_and_exports(
    table: Path,
    kind: str,
    metric: str,
    least: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("privacy=none", "client=table", "client.optimizer.learning_rate=0.5")
    result = run_of(table, kind, tmp_path, monkeypatch, *words)
    assert result.summary["federated"][metric] > least
    records = pandas.read_csv(table)
    predicted = result.predict(records)
    assert export(result.run_dir, "hf", tmp_path / "hf").exact
    pandas.testing.assert_frame_equal(predict(tmp_path / "hf", records), predicted, rtol=1e-4)
    page, card = result.report.read_text(), (result.run_dir / "model_card.md").read_text()
    assert f"{TITLES[kind]}, rows of a table, trained by 3 institutions" in page
    assert result.summary["clients"]["institution-1"]["labels"]
    evaluation = result.summary["evaluation"]
    assert evaluation["kind"] == kind
    assert evaluation["metrics"][metric]["interval"]
    assert SECTIONS[kind] in page
    assert "How far the model can be relied on" in page
    assert evaluation["clients"]["institution-1"]["metrics"][metric]["value"] is not None
    assert ("pipeline_tag: tabular-regression" in card) == (kind == "regression")
    if kind == "regression":
        ones = numpy.c_[records[["a", "b"]], numpy.ones(ROWS)]
        fitted = ones @ numpy.linalg.lstsq(ones, records["cost"], rcond=None)[0]
        apart = fitted - predicted["prediction"]
        assert float((apart**2).mean()) < 0.02 * records["cost"].var()


def test_a_private_run_releases_noisy_metrics_of_a_number(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("privacy=record", "privacy.epsilon=8", "client=private_table", "server.num_rounds=10")
    noisy = ("policy.metrics_privacy=noisy", "privacy.metrics_every=10")
    summary = run_of(table, "regression", tmp_path, monkeypatch, *words, *noisy).summary
    federated, evaluation = summary["federated"], summary["evaluation"]
    assert evaluation["noise"] > 0
    assert evaluation["groups"]
    assert federated["measured"].endswith("r2 from the sums of all")
    assert federated["r2"] > 0.3
    assert {"r2_noise", "mae_noise", "rmse_noise"} <= set(federated)
    assert 0 < federated["mae"] < federated["rmse"] < 30
