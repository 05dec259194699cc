"""Slow clients that do fewer steps, in virtual time."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from stopped_run import PRIVATE, metrics_of, stopped

from confide.config.composing.compose import compose
from confide.errors import ConfigError

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=3")
PLAIN = ("privacy=none", "client=table", "client.local_steps=8")
SECONDS = {"Cleveland": 1.0, "Hungary": 4.0, "Switzerland": 2.0, "VA Long Beach": 100.0}
WITHIN = "client.steps_within_s=2"
STEPS = {"Cleveland": 8.0, "Hungary": 4.0, "Switzerland": 8.0, "VA Long Beach": 1.0}


@pytest.fixture
def trace(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "times.csv"
    rows = [f"{name},{seconds}" for name, seconds in SECONDS.items()]
    path.write_text("\n".join(["client,seconds", *rows]) + "\n")
    return ("simulation/delays=trace", f"simulation.delays.path={path}")


def steps_of(run_dir: Path) -> list[Mapping[str, float]]:
    """Return what institutions told: round -> institution -> steps."""
    told: dict[int, dict[str, float]] = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        metric = json.loads(line)
        if metric["name"] == "steps":
            told.setdefault(metric["round"], {})[metric["client"]] = metric["value"]
    return [told[number] for number in sorted(told)]


def test_a_client_does_as_many_steps_as_its_speed_allows(
    run: Simulate, tmp_path: Path, trace: tuple[str, ...]
) -> None:
    summary = run(*HEART, *PLAIN, *trace, WITHIN)
    assert steps_of(tmp_path / "run") == [STEPS] * 3
    # The slowest one takes the time of one step of its eight
    assert summary["virtual"]["seconds"] == 3 * 100.0 / 8


def test_time_for_everything_changes_no_weight(run: Simulate, trace: tuple[str, ...]) -> None:
    expected = run(*HEART, *PLAIN, *trace, name="without")
    enough = run(*HEART, *PLAIN, *trace, "client.steps_within_s=100", name="enough")
    assert enough["model_sha256"] == expected["model_sha256"]
    assert enough["virtual"] == expected["virtual"]
    less = run(*HEART, *PLAIN, *trace, WITHIN, name="less")
    assert less["model_sha256"] != expected["model_sha256"]


def test_engines_agree(run: Simulate, tmp_path: Path, trace: tuple[str, ...]) -> None:
    words = (*HEART, *PLAIN, *trace, WITHIN)
    inline = run(*words, name="inline")
    workers = ("simulation.engine=process", "simulation.workers=2")
    process = run(*words, *workers, name="process")
    vectorised = run(*words, "simulation.engine=vectorised", name="vectorised")
    assert process["model_sha256"] == inline["model_sha256"]
    assert vectorised["virtual"] == inline["virtual"]
    assert vectorised["federated"]["log_loss"] == pytest.approx(
        inline["federated"]["log_loss"], abs=1e-4
    )
    for name in ("process", "vectorised"):
        assert steps_of(tmp_path / name) == steps_of(tmp_path / "inline")


def test_all_steps_are_charged_and_a_stopped_run_goes_on(
    run: Simulate, tmp_path: Path, trace: tuple[str, ...]
) -> None:
    words = (*HEART, *PRIVATE, *trace, "strategy=fedavg", WITHIN)
    expected = run(*words, name="undisturbed")
    whole = run(*words[:-1], name="whole")
    for name, client in expected["clients"].items():
        assert client["epsilon"] == pytest.approx(whole["clients"][name]["epsilon"], rel=1e-9)
    stopped(run, *words, after=1)
    resumed = run(*words, resume=True)
    assert resumed["model_sha256"] == expected["model_sha256"]
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "undisturbed")


def test_an_asynchronous_answer_is_shorter_too(
    run: Simulate, tmp_path: Path, trace: tuple[str, ...]
) -> None:
    words = ("strategy=fedbuff", "strategy.timing.concurrency=4", "strategy.timing.buffer_size=4")
    summary = run(*HEART, *PLAIN, *trace, *words, WITHIN, "strategy.timing.most_answers=20")
    told = {name: steps for steps in steps_of(tmp_path / "run") for name, steps in steps.items()}
    assert told == {name: STEPS[name] for name in told}
    assert summary["virtual"]["seconds"] < 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (PLAIN, r"client\.steps_within_s=2: without delays steps take no time"),
        (
            ("simulation/delays=uniform", "client=private_table"),
            r"strategy\.objective\.kind=gradient_sum takes all its steps",
        ),
    ],
)
def test_contradictions_are_told(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", *words, WITHIN])
