"""Series from readings to report: blocks as units, on every engine, resumed, predicted."""

from pathlib import Path

import pandas
import pytest
from stopped_run import Simulate, stopped

from confide.config.composing.compose import compose
from confide.errors import DataError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.server.report.page import report_page
from confide.server.report.read import read_run
from confide.simulations.datasets.stations import loads

SMALL = (
    "experiment=stations",
    "data.kwargs={days: 20}",
    "task.block=60",
    "task.lookback=8",
    "task.season=8",
    "server.num_rounds=3",
    "client.local_steps=2",
    "tracking=none",
)
BLOCK = ("privacy=group", "privacy.epsilon=8")
PATCHES = ("backbone=patches", "backbone.width=8", "backbone.heads=2", "backbone.layers=1")


def test_a_run_is_scored_beside_the_last_value(run: Simulate, tmp_path: Path) -> None:
    summary = run(*SMALL)
    assert set(summary["references"]) == {"last value", "last season"}
    metrics = {"forecast_mae", "forecast_smape", "pinball", "coverage_error"}
    assert metrics <= set(summary["federated"])
    assert "last season" in report_page(read_run(tmp_path / "run"))


def test_blocks_are_units_and_windows_are_told_to_flatter(run: Simulate) -> None:
    assert not compose([*SMALL, *BLOCK]).task.unit_note("group")
    told = run(*SMALL, *BLOCK, "privacy=record", name="window")["privacy"]["flatters"]
    assert "a value lies in up to 9 of them" in told
    assert "data.group_column=block" in told
    with pytest.raises(DataError, match=r"set data\.group_column=block or station"):
        run(*SMALL, "data.group_column=null", name="none")


@pytest.mark.parametrize("more", [BLOCK, pytest.param(PATCHES, marks=pytest.mark.slow)])
def test_a_run_stopped_ends_as_the_undisturbed_one(run: Simulate, more: tuple[str, ...]) -> None:
    expected = run(*SMALL, *more, name="undisturbed")
    stopped(run, *SMALL, *more, after=1)
    summary = run(*SMALL, *more, resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["federated"] == expected["federated"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [BLOCK, (*BLOCK, *PATCHES)])
def test_processes_give_the_same_weights(run: Simulate, more: tuple[str, ...]) -> None:
    inline = run(*SMALL, *more, name="inline")
    process = run(*SMALL, *more, "simulation.engine=process", "simulation.workers=2")
    assert process["model_sha256"] == inline["model_sha256"]


@pytest.mark.parametrize(
    ("more", "form"), [((), "hf"), pytest.param(PATCHES, "onnx", marks=pytest.mark.slow)]
)
def test_exported_models_foresee_the_same(
    run: Simulate, tmp_path: Path, more: tuple[str, ...], form: str
) -> None:
    run(*SMALL, *more)
    assert export(tmp_path / "run", form).exact
    made = predict(tmp_path / "run", loads(days=2))
    assert made["station"].tolist() == [f"station-{number}" for number in range(1, 5)]
    other = predict(tmp_path / "run" / "export" / form, loads(days=2))
    pandas.testing.assert_frame_equal(made, other, atol=1e-3)


def test_faults_are_detected_by_the_last_row(run: Simulate, tmp_path: Path) -> None:
    words = ("task=overloads", "task.lookback=8", "task.block=60")
    others = [word for word in SMALL if not word.startswith("task.")]
    summary = run(*others, *words)
    assert {"accuracy", "auc"} <= set(summary["federated"])
    assert "references" not in summary
    # Whether it is one is what nobody knows of new rows
    known = predict(tmp_path / "run", loads(days=2))
    pandas.testing.assert_frame_equal(
        known, predict(tmp_path / "run", loads(days=2).drop(columns="overload"))
    )
