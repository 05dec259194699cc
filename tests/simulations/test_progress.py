"""What a run shows while it goes on, in each mode, and when it ends; of real runs."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from confide.server.progress.json_lines import JsonProgress
from confide.server.progress.lines import LineProgress
from confide.server.progress.live import LiveProgress, RoundTable
from confide.server.progress.make import make_progress
from confide.server.progress.view import figures
from confide.server.rounds.state import RunState

Simulate = Callable[..., dict[str, Any]]
RUN = (
    "experiment=heart_disease",
    "privacy=record",
    "privacy.epsilon=3",
    "server.num_rounds=4",
    "simulation.baselines=[]",
    (
        "simulation.faults=[{kind: nan, client: Hungary, rounds: [2]},{kind: raises, client:"
        " Cleveland, rounds: [3]}]"
    ),
)


class Keep(LineProgress):
    """Keeps the states of a run."""

    def __init__(self, *, stop_after: int = 99) -> None:
        super().__init__(Console(file=io.StringIO()), metric="accuracy")
        self.states: list[RunState] = []
        self._stop_after = stop_after

    def round_done(self, state: RunState) -> None:
        self.states.append(state)
        if len(self.states) == self._stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def states(run: Simulate) -> list[RunState]:
    keep = Keep()
    run(*RUN, progress=keep)
    return keep.states


def table_of(states: list[RunState], width: int) -> list[str]:
    table = RoundTable("accuracy")
    table.epsilon_budget = 3.0
    table.rows.extend(figures(state, metric="accuracy", total=4) for state in states)
    console = Console(file=io.StringIO(), width=width, height=24, record=True)
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_table_tells_everything_where_there_is_room_and_never_wraps(
    states: list[RunState],
) -> None:
    for width in (120, 80):
        lines = table_of(states, width)
        assert len(lines) == 2 + 4
        assert lines[1].split() == [
            "round",
            "at",
            "start",
            "(round)",
            "of",
            "3",
            "in",
            "failed",
            "refused",
            "seconds",
            "left",
        ]
        cells = r"%d +0\.\d{3} +0\.\d{3} \(\d\) +\d\.\d\d +%s +%d +%d +\d+\.\d +0:00:\d\d"
        for line, expected in zip(
            lines[2:],
            [(1, "4/4", 0, 0), (2, "3/4", 0, 1), (3, "3/4", 1, 0), (4, "4/4", 0, 0)],
            strict=True,
        ):
            assert re.fullmatch(cells % expected, line.strip()), line
    for width in (60, 40, 20):
        lines = table_of(states, width)
        assert len(lines) == 2 + 4, lines
        assert "round" in lines[1]
        assert "at start" in lines[1]
        assert max(map(len, lines)) <= width


def test_live_shows_table_bars_and_who_is_missing(run: Simulate) -> None:
    console = Console(file=io.StringIO(), width=80, height=40, force_terminal=True, record=True)
    with pytest.raises(KeyboardInterrupt):
        run(*RUN, progress=Keep(stop_after=2))
    run(*RUN, progress=LiveProgress(console, metric="accuracy"), resume=True)
    last = console.export_text()[-2000:]
    assert re.search(r"federated +━+ 4/4", last)
    rows = [line.split()[0] for line in last.splitlines() if re.match(r" +[1-4] +0\.", line)]
    assert rows[-4:] == ["1", "2", "3", "4"]
    assert re.search(r"accuracy 0\.\d{3} on test records, after round 4", last)


def test_json_is_one_event_a_line_and_one_a_round(run: Simulate, tmp_path: Path) -> None:
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        run(*RUN, progress=Keep(stop_after=1))
    view = JsonProgress(out, metric="accuracy")
    view.finished(run(*RUN, progress=view, resume=True), tmp_path / "run")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "phase",
        "phase",
        "started",
        "resumed",
        *["round"] * 3,
        *["evaluated"] * 2,
        "finished",
    ]
    rounds = [event for event in events if event["event"] == "round"]
    assert [(event["round"], event["rounds"], event["clients"]) for event in rounds] == [
        (2, 4, 3),
        (3, 4, 3),
        (4, 4, 4),
    ]
    assert [(event["failed"], event["refused"]) for event in rounds[:2]] == [
        ({}, {"Hungary": "tensor_values"}),
        ({"Cleveland": "error_reply"}, {}),
    ]
    assert 0 < rounds[0]["epsilon"] < rounds[2]["epsilon"] <= rounds[2]["epsilon_budget"] == 3
    assert rounds[2]["best"] >= rounds[2]["value"]
    assert rounds[2]["seconds_left"] == 0
    assert (
        json.loads(Path(events[-1]["summary"]).read_text())["model_sha256"]
        == events[-1]["model_sha256"]
    )


def test_quiet_prints_where_the_model_is_and_nothing_else(
    run: Simulate, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    view = make_progress("quiet", "accuracy")
    view.finished(run(*RUN, progress=view), tmp_path / "run")
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"4 rounds in [\d.]+ s; model [0-9a-f]{12}, report.html and all else in"
        rf" {tmp_path}/run\n",
        out,
    )


def simulate(run_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return confide_simulate(
        *RUN, "trainer.feature_cache=null", f"hydra.run.dir={run_dir}", *overrides
    )


def confide_simulate(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "confide.cli", "simulate", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_the_quiet_command_says_one_line_in_all(tmp_path: Path) -> None:
    done = simulate(tmp_path / "run", "server.progress=quiet", "simulation.faults=[]")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert done.stderr == ""


@pytest.mark.slow
def test_json_says_on_stdout_that_a_run_failed(tmp_path: Path) -> None:
    done = simulate(tmp_path / "run", "server.progress=json", "server.min_clients=4")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [event["event"] for event in events][-2:] == ["round", "failed"]
    assert "round 2: 3 institutions answered" in events[-1]["error"]
    assert events[-1]["error"] in done.stderr


@pytest.mark.slow
def test_a_resumed_run_may_show_and_track_otherwise(tmp_path: Path) -> None:
    """A group's choice on the command line replaces the one that the run began with."""
    run_dir = tmp_path / "run"
    failed = simulate(run_dir, "server.progress=quiet", "tracking=csv", "server.min_clients=4")
    assert (failed.returncode, failed.stdout) == (1, "")
    words = [
        f"resume={run_dir}",
        "server.progress=json",
        "tracking=tensorboard",
        "simulation.faults=[]",
    ]
    refused = confide_simulate(*words)
    assert refused.returncode == 2
    assert "simulation.faults" in refused.stderr
    assert "tracking" not in refused.stderr
    resumed = confide_simulate(*words[:3])
    assert json.loads(resumed.stdout.splitlines()[0])["event"] == "phase"
    assert len(list((run_dir / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("auto", "LineProgress"), ("live", "LiveProgress"), ("plain", "LineProgress")],
)
def test_auto_is_plain_where_nobody_watches(mode: str, kind: str) -> None:
    assert type(make_progress(mode, "accuracy")).__name__ == kind
