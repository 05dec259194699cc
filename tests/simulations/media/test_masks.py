"""Masks from files to report: resumed, in every engine, with sums that leave with noise."""

import re
from pathlib import Path

import pytest
from masks_made import job, write_squares
from stopped_run import Simulate, stopped

from confide.server.report.write import write_report

PROCESS = ("simulation.engine=process", "simulation.workers=2")
NOISY = ("policy.metrics_privacy=noisy", "policy.min_support=1")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return job(write_squares(tmp_path / "squares", count=60))


def test_a_resumed_run_ends_with_the_same_model_and_a_report(
    run: Simulate, words: list[str], tmp_path: Path
) -> None:
    whole = run(*words, name="whole")
    stopped(run, *words, after=2)
    assert run(*words, resume=True)["model_sha256"] == whole["model_sha256"]
    assert set(whole["federated"]) == {"iou", "dice", "pixel_accuracy", "test_examples"}
    page = re.sub(r"<[^>]+>", "", write_report(tmp_path / "run").read_text())
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "Segmentation" in page
    assert "Finds where “square” is in pictures" in card
    assert "a U-Net with 4, 8 channels" in card


def test_metrics_leave_with_noise(run: Simulate, tmp_path: Path) -> None:
    words = job(write_squares(tmp_path / "more", count=300))
    summary = run(*words, *NOISY, "privacy.epsilon=60", "server.num_rounds=1")
    assert 0 <= summary["federated"]["iou"] <= 1
    assert {"iou_noise", "dice_noise"} <= set(summary["federated"])


@pytest.mark.slow
def test_every_engine_gives_one_model(run: Simulate, words: list[str]) -> None:
    inline, process = run(*words), run(*words, *PROCESS, name="process")
    assert inline["model_sha256"] == process["model_sha256"]
    assert inline["federated"] == process["federated"]


def test_without_privacy_squares_are_found(run: Simulate, words: list[str]) -> None:
    changed = [word for word in words if not word.startswith(("privacy", "server", "client"))]
    adam = ("client.optimizer.kind=adam", "client.optimizer.learning_rate=0.02", "privacy=none")
    assert run(*changed, *adam, "server.num_rounds=6")["federated"]["iou"] >= 0.8
