"""Published figures: records as their authors made them, and runs that are not done twice."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("published")


def test_hospitals_have_flambys_records_and_inputs(benchmark: ModuleType) -> None:
    heart = benchmark.heart
    table = heart.records()
    assert len(table) == 740
    sizes = table.groupby("hospital").train.agg(["sum", "count"]).to_numpy().tolist()
    assert sizes == [[199, 303], [172, 261], [30, 46], [85, 130]]
    assert len(heart.columns(table)) == 13
    own = heart.by_hospital(table)
    for _, part in own[own.train].groupby("hospital"):
        values = part[heart.columns(own)].to_numpy(dtype=float)
        numpy.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-6)


def test_columns_of_a_raw_task_reach_the_model_as_they_are(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    words = [*benchmark.ROWS["heart-fedavg"].words, "server.num_rounds=1", "client.local_steps=1"]
    figures = benchmark.heart.measure(words, 42, tmp_path)
    assert set(figures) >= {"mean of clients", "pooled", "hospital 0", "hospital 3"}
    assert all(0 <= value <= 100 for value in figures.values())


def test_a_run_that_is_kept_is_not_done_again_unless_its_settings_changed(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    kept = importlib.import_module("kept")
    path, done = tmp_path / "row" / "seed-1.json", []

    def measure() -> dict[str, float]:
        done.append(1)
        return {"accuracy": 10.0 * len(done)}

    assert kept.measured(path, ["a=1"], measure) == {"accuracy": 10.0}
    assert kept.measured(path, ["a=1"], measure) == {"accuracy": 10.0}
    assert kept.kept_figures(path, ["a=2"]) is None
    assert kept.measured(path, ["a=2"], measure) == {"accuracy": 20.0}
    assert [one.name for one in path.parent.iterdir()] == ["seed-1.json"]


def test_a_figure_agrees_within_one_published_deviation(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    row = benchmark.ROWS["heart-fedavg"]
    for seed, clients in zip(row.seeds, [66.0, 67.0, 68.0, 69.0, 70.0], strict=True):
        path = tmp_path / "heart-fedavg" / f"seed-{seed}.json"
        path.parent.mkdir(exist_ok=True)
        figures = {"mean of clients": clients, "pooled": 70.0}
        path.write_text(json.dumps({"settings": list(row.words), "figures": figures}))
    mean, pooled = benchmark.lines("heart-fedavg", row, tmp_path)
    assert mean == "| heart-fedavg | mean of clients | 68.5 ± 2.8 | 68.0 ± 1.6 | 5 | -0.5, yes |"
    assert pooled.endswith("| 74.8 ± 2.7 | 70.0 ± 0.0 | 5 | -4.8, no |")


def test_a_row_of_a_strategy_that_is_not_there_is_refused(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = benchmark.ROWS["garments-dirichlet-fedavg"]
    absent = type(row)(**(vars(row) | {"needs": "no_such_strategy"}))
    benchmark.run_row("absent", absent, tmp_path)
    assert "there is no strategy=no_such_strategy in this version" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
