"""Folders that hold something already: a finished run, the jobs of a sweep, somebody at work."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

import confide
import confide.cli
from confide.errors import ConfigError
from confide.server.new_folders import new_folder
from confide.simulations.sweeps.sweep import sweep_runs
from confide.storage.files import locked

HEART = ("experiment=heart_disease", "server.num_rounds=1", "simulation.baselines=[]")
FINISHED = {"status": "completed", "model_sha256": "ab" * 32}


def held(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(FINISHED))
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number in range(2):
        folder = tmp_path / "sweep" / str(number)
        (folder / ".hydra").mkdir(parents=True)
        command = {"overrides": [f"strategy=fed{number}"], "cwd": "/", "program": "simulate"}
        (folder / "command.yaml").write_text(yaml.safe_dump(command))
        (folder / ".hydra" / "overrides.yaml").write_text("[strategy=another]\n")
    return tmp_path / "sweep"


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert confide.cli.main(["simulate", *words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("word", ["hydra.run.dir={}", "hydra.run.dir='{}'", "++hydra.run.dir={}"])
def test_a_finished_run_is_not_overwritten(
    finished: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = held(finished)
    told = refused([*HEART, word.format(finished)], capsys)
    assert "holds a finished run (model abababababab), which would be lost" in told
    assert "Choose another hydra.run.dir, or say --overwrite." in told
    assert held(finished) == before  # Hydra has not written into it either


def test_a_finished_run_is_not_overwritten_from_python(finished: Path) -> None:
    before = held(finished)
    with pytest.raises(ConfigError, match="resume=True returns it, overwrite=True starts anew"):
        confide.simulate(HEART, run_dir=finished)
    assert held(finished) == before
    again = confide.simulate(HEART, run_dir=finished, overwrite=True)
    assert again.summary["model_sha256"] != FINISHED["model_sha256"]


def test_a_run_that_failed_may_be_begun_again(finished: Path) -> None:
    (finished / "summary.json").write_text(json.dumps({"status": "failed"}))
    assert confide.simulate(HEART, run_dir=finished).summary["status"] == "completed"


def test_an_audits_simulation_overwrites_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", *HEART, "privacy=record", "--output", str(finished)]
    assert confide.cli.main(words) == 2
    assert "holds a finished run" in capsys.readouterr().err


def test_a_sweep_is_not_mixed_with_another(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = held(sweep)
    words = ["-m", *HEART, "client.local_steps=1,2", f"hydra.sweep.dir={sweep}"]
    told = refused(words, capsys)
    assert "holds 2 jobs of a sweep, whose results would be mixed with new ones" in told
    assert {path for path in held(sweep) if not path.endswith(".lock")} == set(before)


def test_two_sweeps_at_once_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", *HEART, "simulation.seed=1,2", f"hydra.sweep.dir={tmp_path / 'new'}"]
    (tmp_path / "new").mkdir()
    with locked(tmp_path / "new" / ".lock", otherwise=""):
        told = refused(words, capsys)
    assert "Another sweep is at work" in told


def test_jobs_are_labelled_by_what_they_were_started_with(sweep: Path) -> None:
    (sweep / "2" / ".hydra").mkdir(parents=True)  # one that got no further than Hydra
    (sweep / "2" / ".hydra" / "overrides.yaml").write_text("[strategy=lost]\n")
    runs = sweep_runs(sweep)
    assert [run.overrides for run in runs] == [
        ["strategy=fed0"],
        ["strategy=fed1"],
        ["strategy=lost"],
    ]


def test_folders_are_made_for_one_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_folder(tmp_path / "12-00-00"), range(24)))
    assert len(set(made)) == 24
    assert sorted(path.name for path in made)[:2] == ["12-00-00", "12-00-00-10"]
