"""Metrics on disk: each once, whatever a killed process left, and a full disk said plainly."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from confide.errors import StorageError
from confide.server.rounds.state import RoundRecord, RunState
from confide.server.run.metrics_log import MetricsSink

FULL = Path("/dev/full")
CLIENTS = {"a": 5, "b": 7}

needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def state(rounds: int) -> RunState:
    history = tuple(
        RoundRecord(
            server_round=r,
            accepted=("a", "b"),
            validation={
                name: {"log_loss": r + 0.5, "num_examples": n} for name, n in CLIENTS.items()
            },
            epsilon={"a": float(r)},
            bytes_up=16,
            bytes_down=8,
            seconds=0.25,
        )
        for r in range(1, rounds + 1)
    )
    return RunState(
        server_round=rounds, params={"w": torch.zeros(1)}, strategy_state={}, history=history
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(path: Path, *, resumed_after: int = 0, rounds: int = 3) -> list[dict[str, Any]]:
    with MetricsSink(path) as sink:
        sink.started(CLIENTS)
        if resumed_after:
            sink.resumed(state(resumed_after))
        for r in range(resumed_after + 1, rounds + 1):
            sink.round_done(state(r))
        sink.evaluated("validation", rounds, {"a": {"log_loss": 9.0, "num_examples": 5}})
        sink.evaluated("test", rounds, {"a": {"log_loss": 8.0, "num_examples": 3}})
    return lines(path)


def test_round_is_written_metric_by_metric(tmp_path: Path) -> None:
    with MetricsSink(tmp_path / "m.jsonl") as sink:
        sink.round_done(state(1))
        written = [
            tuple(line.values()) for line in lines(tmp_path / "m.jsonl")
        ]  # before it is closed
    assert written == [
        (0, "validation", "a", "log_loss", 1.5, 5),
        (0, "validation", "b", "log_loss", 1.5, 7),
        (1, "privacy", "a", "epsilon", 1.0, None),
        (1, "train", None, "bytes_up", 16, None),
        (1, "train", None, "bytes_down", 8, None),
        (1, "train", None, "seconds", 0.25, None),
    ]


@pytest.mark.parametrize("left", ["", "half a li", '{"round": 1, "phase": "train"}\n' * 40])
@pytest.mark.parametrize("resumed_after", [1, 2, 3])
def test_resumed_sink_writes_each_metric_once_whatever_stood_there(
    resumed_after: int, left: str, tmp_path: Path
) -> None:
    undisturbed = run(tmp_path / "undisturbed.jsonl")
    (tmp_path / "m.jsonl").write_text(left)
    resumed = run(tmp_path / "m.jsonl", resumed_after=resumed_after)
    assert resumed == undisturbed
    assert set(Counter(tuple(line.items())[:4] for line in resumed).values()) == {1}


def test_file_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"m\.jsonl cannot be written: .*No such file"):
        MetricsSink(tmp_path / "nowhere" / "m.jsonl")


def write_then_raise(sink: MetricsSink, error: BaseException | None) -> None:
    """Leave a line in the buffer, on its way to a disk that is full, and go."""
    with sink:
        sink._write(0, "train", None, "seconds", 1.0, None)
        if error:
            raise error


@needs_full
def test_full_disk_is_a_storage_error() -> None:
    sink = MetricsSink(FULL)
    with pytest.raises(StorageError, match=r"/dev/full cannot be written: .*No space left"):
        sink.round_done(state(1))
    with pytest.raises(StorageError, match="No space left"):
        sink.__exit__(None, None, None)


@needs_full
@pytest.mark.parametrize("error", [StorageError("the first"), KeyboardInterrupt()])
def test_full_disk_raises_no_second_error_over_the_first(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        write_then_raise(MetricsSink(FULL), error)
    assert caught.value is error


@needs_full
def test_full_disk_that_shows_on_closing_alone_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="No space left"):
        write_then_raise(MetricsSink(FULL), None)


@needs_full
def test_full_disk_is_a_storage_error_however_much_is_written() -> None:
    with pytest.raises(StorageError, match="No space left"), MetricsSink(FULL) as sink:
        sink.started({f"bank-{n}": n for n in range(2000)})
