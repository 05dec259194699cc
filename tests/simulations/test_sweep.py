"""Sweeps: what their jobs leave, read again."""

import json
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from confide.simulations.sweep import sweep_runs, sweep_table

COMPLETED = {
    "status": "completed",
    "primary_metric": "accuracy",
    "federated": {"accuracy": 0.71},
    "federated_validation": {"accuracy": 0.69},
    "privacy": {"unit": "record", "epsilon": 3.0},
    "seconds": 1.26,
}
DECLINED = {"status": "failed", "failures": {"enrol": {"bank-1": "budget_exhausted: asked 8, allowed 4"}}}


def job(folder: Path, overrides: list[str], summary: dict[str, Any] | None) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def test_jobs_of_a_sweep_come_in_the_order_of_their_numbers_with_what_differs(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        job(tmp_path / str(number), ["experiment=heart_disease", f"data.alpha={number}"], COMPLETED)
    runs = sweep_runs(tmp_path)
    assert [run.overrides for run in runs] == [["data.alpha=2"], ["data.alpha=9"], ["data.alpha=10"]]
    assert [run.run_dir.name for run in runs] == ["2", "9", "10"]
    assert runs[0].summary == COMPLETED


def test_a_single_job_shows_all_its_overrides(tmp_path: Path) -> None:
    job(tmp_path / "0", ["strategy=fedadam"], COMPLETED)
    assert sweep_runs(tmp_path)[0].overrides == ["strategy=fedadam"]


def test_jobs_without_a_model_say_why(tmp_path: Path) -> None:
    for name, summary in {"0": DECLINED, "1": {"status": "failed", "failures": {}}, "2": None, "3": COMPLETED}.items():
        job(tmp_path / name, [f"simulation.seed={name}"], summary)
    runs = sweep_runs(tmp_path)
    assert [run.status for run in runs] == ["declined", "failed", "unfinished", "completed"]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(sweep_table(runs, tmp_path))
    lines = capture.get().splitlines()
    assert "declined" in lines[5]
    assert all(word in lines[8] for word in ("completed", "0.690", "0.710", "3", "1.3"))


def test_an_empty_sweep_has_no_jobs(tmp_path: Path) -> None:
    assert sweep_runs(tmp_path) == []
