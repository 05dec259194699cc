"""Speech from WAV files and texts to report: every engine, resumed, partitioned."""

import re
from pathlib import Path

import pandas
import pytest
from small_whisper import make_whisper
from sounds_made import spelling_job, write_spelled
from stopped_run import Simulate, stopped

from confide.server.report.card import model_card
from confide.server.report.read import read_run
from confide.server.report.write import write_report
from confide.simulations.commands.partition import main as partition

PROCESS = ("simulation.engine=process", "simulation.workers=2")


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    return spelling_job(write_spelled(tmp_path / "wards"))


def test_a_resumed_run_ends_with_the_same_model_and_a_report(
    run: Simulate, texts: list[str], tmp_path: Path
) -> None:
    whole = run(*texts, name="whole")
    stopped(run, *texts, after=2)
    assert run(*texts, resume=True)["model_sha256"] == whole["model_sha256"]
    page = re.sub(r"<[^>]+>", "", write_report(tmp_path / "run").read_text())
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "Speech recognition" in page
    assert "Word error rate" in page
    assert f"Word error rate {whole['federated']['wer']:.3f}, Character error rate" in card
    assert "Writes what is said in recordings, in 4 characters" in card
    assert "a CTC network of 2 convolutions of 16 channels over 5 frames each" in card
    assert "automatic-speech-recognition" in card
    assert str(tmp_path / "wards" / "east") not in page + card  # no file is named


@pytest.mark.slow
def test_every_engine_gives_one_model(run: Simulate, texts: list[str]) -> None:
    inline, process = run(*texts), run(*texts, *PROCESS, name="process")
    assert inline["model_sha256"] == process["model_sha256"]
    assert inline["federated"] == process["federated"]


@pytest.mark.slow
def test_rates_of_groups_leave_with_noise(run: Simulate, texts: list[str]) -> None:
    summary = run(
        *(word for word in texts if not word.startswith(("privacy", "server", "data.test"))),
        *("privacy=group", "privacy.epsilon=100", "data.group_column=file", "data.test=0.4"),
        *("privacy.metrics_epsilon=100", "policy.metrics_privacy=noisy", "server.num_rounds=1"),
    )
    assert {"wer_noise", "cer_noise"} <= summary["federated"].keys()


@pytest.mark.slow
def test_without_privacy_spelling_is_learnt(run: Simulate, texts: list[str]) -> None:
    adam = ("client.optimizer.kind=adam", "client.optimizer.learning_rate=0.01")
    changed = [word for word in texts if not word.startswith(("privacy", "server", "client"))]
    steps = ("client.local_steps=10", "client.sampling_rate=0.5", "server.num_rounds=12")
    summary = run(*changed, *adam, *steps, "privacy=none")
    assert summary["federated"]["cer"] <= 0.2


@pytest.mark.slow
def test_a_whisper_that_is_stopped_and_worker_processes_give_one_model(
    run: Simulate, texts: list[str], tmp_path: Path
) -> None:
    left = ("backbone", "tuning", "task.outcome", "task.bands", "task.step_ms")
    whisper = (
        *(word for word in texts if not word.startswith(left)),
        *("task/outcome=text", "task.outcome.column=text", "task.outcome.max_tokens=16"),
        *("backbone=seq2seq", f"backbone.name={make_whisper(tmp_path / 'whisper').name}"),
        "tuning=lora",
    )
    expected = run(*whisper, name="undisturbed")
    stopped(run, *whisper, after=2)
    resumed, spread = run(*whisper, resume=True), run(*whisper, *PROCESS, name="spread")
    assert resumed["model_sha256"] == spread["model_sha256"] == expected["model_sha256"]
    assert resumed["federated"] == spread["federated"] == expected["federated"]
    assert expected["federated"].keys() >= {"wer", "cer", "target_nll"}
    card = model_card(read_run(tmp_path / "spread"))
    assert "automatic-speech-recognition" in card
    assert "may recite" not in card  # under privacy


def test_partitioned_records_come_with_their_files_and_texts(
    texts: list[str], tmp_path: Path
) -> None:
    assert partition([str(tmp_path / "parts"), *texts]) == 0
    east = pandas.read_csv(tmp_path / "parts" / "east.csv")
    assert len(east) == 24
    files = {
        (tmp_path / "parts" / name).read_bytes(): text
        for name, text in zip(east["audio"], east["text"], strict=True)
    }
    wards = tmp_path / "wards" / "east"
    came = {path.read_bytes(): path.with_suffix(".txt").read_text() for path in wards.glob("*.wav")}
    assert {data: text.strip() for data, text in files.items()} == {
        data: text.strip() for data, text in came.items()
    }
