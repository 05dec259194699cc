"""Sounds from WAV files to report: every engine, resumed, partitioned."""

import re
from pathlib import Path

import pandas
import pytest
from sounds_made import job, write_tones
from stopped_run import Simulate, stopped

from confide.server.report.write import write_report
from confide.simulations.commands.partition import main as partition

PROCESS = ("simulation.engine=process", "simulation.workers=2")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return job(write_tones(tmp_path / "tones"))


def test_a_resumed_run_ends_with_the_same_model_and_a_report(
    run: Simulate, words: list[str], tmp_path: Path
) -> None:
    whole = run(*words, name="whole")
    stopped(run, *words, after=2)
    assert run(*words, resume=True)["model_sha256"] == whole["model_sha256"]
    page = re.sub(r"<[^>]+>", "", write_report(tmp_path / "run").read_text())
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "Classification of sounds" in page
    assert "Classifies sounds as “low” and “high”" in card
    assert "a convolutional network with blocks of 4 and 8 channels" in card
    assert "audio-classification" in card
    assert str(tmp_path / "tones" / "east") not in page + card  # no file is named


@pytest.mark.slow
def test_every_engine_gives_one_model(run: Simulate, words: list[str]) -> None:
    inline, process = run(*words), run(*words, *PROCESS, name="process")
    assert inline["model_sha256"] == process["model_sha256"]
    assert inline["federated"] == process["federated"]


def test_without_privacy_tones_are_told_apart(run: Simulate, words: list[str]) -> None:
    adam = ("client.optimizer.kind=adam", "client.optimizer.learning_rate=0.01")
    changed = [word for word in words if not word.startswith(("privacy", "server", "client"))]
    summary = run(*changed, *adam, "privacy=none", "server.num_rounds=8")
    assert summary["federated"]["accuracy"] >= 0.95


def test_partitioned_records_come_with_their_files(words: list[str], tmp_path: Path) -> None:
    assert partition([str(tmp_path / "parts"), *words]) == 0
    east = pandas.read_csv(tmp_path / "parts" / "east.csv")
    assert len(east) == 24
    files = [tmp_path / "parts" / name for name in east["audio"]]
    came = {path.read_bytes() for path in (tmp_path / "tones" / "east").rglob("*.wav")}
    assert {path.read_bytes() for path in files} == came
