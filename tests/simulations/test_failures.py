"""Whole runs with clients that fail: who is left out, in how long, and what the summary says."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfigError, RunFailedError

Simulate = Callable[..., dict[str, Any]]
DEADLINE_S = 2.0
QUICK = (
    "experiment=heart_disease",
    "simulation.baselines=[]",
    "server.num_rounds=3",
    f"server.round_timeout_s={DEADLINE_S}",
    "privacy=record",
    "privacy.epsilon=3",
)
ENGINES = {"inline": (), "process": ("simulation.engine=process", "simulation.workers=2")}
CODES = {"raises": "error_reply", "hangs": "no_reply", "late": "no_reply", "nan": "tensor_values"}


def fault(kind: str, **more: object) -> str:
    words = ", ".join(f"{key}: {value}" for key, value in {"kind": kind, **more}.items())
    return f"simulation.faults=[{{{words}}}]"


@pytest.mark.parametrize(
    "kind",
    ["raises", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hangs", "late")), "nan"],
)
def test_a_round_goes_on_without_the_client_that_fails(run: Simulate, kind: str) -> None:
    summaries = {
        name: run(*QUICK, *engine, fault(kind, client="Hungary", rounds="[2]"), name=name)
        for name, engine in ENGINES.items()
    }
    for summary in summaries.values():
        assert summary["status"] == "completed"
        assert summary["failures"] == {"2": {"Hungary": CODES[kind]}}
        assert {name: client["rounds"] for name, client in summary["clients"].items()} == {
            "Cleveland": 3,
            "Hungary": 2,
            "Switzerland": 3,
            "VA Long Beach": 3,
        }
    assert summaries["inline"]["model_sha256"] == summaries["process"]["model_sha256"]
    assert (
        summaries["inline"]["clients"] == summaries["process"]["clients"]
    )  # what was spent among it


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hangs", "late"])
def test_clients_that_keep_something_fail_alike_in_every_engine(run: Simulate, kind: str) -> None:
    overrides = (*QUICK, "strategy=feddyn", fault(kind, client="Hungary", rounds="[2]"))
    digests = {
        run(*overrides, *engine, name=name)["model_sha256"] for name, engine in ENGINES.items()
    }
    assert len(digests) == 1


@pytest.mark.parametrize("engine", ["inline", pytest.param("process", marks=pytest.mark.slow)])
def test_as_many_silent_clients_as_workers_keep_nobody_else(run: Simulate, engine: str) -> None:
    two = (
        "simulation.faults=[{kind: hangs, client: Hungary, rounds: [2]}, {kind: late, client:"
        " Cleveland, rounds: [2]}]"
    )
    summary = run(*QUICK, *ENGINES[engine], two)
    assert summary["failures"] == {"2": {"Cleveland": "no_reply", "Hungary": "no_reply"}}


def test_faults_leave_baselines_in_peace(run: Simulate) -> None:
    undisturbed = ("experiment=heart_disease", "server.num_rounds=2", "trainer.feature_cache=null")
    summary = run(*undisturbed, fault("raises", client="Hungary", rounds="[2]"))
    assert summary["baselines"] == run(*undisturbed, name="undisturbed")["baselines"]
    assert summary["failures"] == {"2": {"Hungary": "error_reply"}}
    assert set(summary["baselines"]["local"]) == {
        "Cleveland",
        "Hungary",
        "Switzerland",
        "VA Long Beach",
    }


@pytest.mark.parametrize(
    ("kind", "spends"),
    [
        pytest.param("hangs", False, marks=pytest.mark.slow),
        pytest.param("late", True, marks=pytest.mark.slow),
        ("nan", True),
    ],
)
def test_what_was_spent_on_an_update_that_did_not_go_in_is_told(
    run: Simulate, kind: str, spends: bool
) -> None:
    for name, engine in ENGINES.items():
        clients = run(*QUICK, *engine, fault(kind, client="Hungary", rounds="[3]"), name=name)[
            "clients"
        ]
        assert (clients["Hungary"]["epsilon"] == clients["Cleveland"]["epsilon"]) == spends, name


@pytest.mark.parametrize("engine", ["inline", pytest.param("process", marks=pytest.mark.slow)])
def test_an_answer_that_arrives_twice_counts_once(run: Simulate, engine: str) -> None:
    expected = run(*QUICK, name="undisturbed")
    summary = run(*QUICK, *ENGINES[engine], fault("twice"))
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["failures"] == {}


@pytest.mark.parametrize("engine", ["inline", pytest.param("process", marks=pytest.mark.slow)])
def test_an_answer_that_is_late_but_in_time_counts(run: Simulate, engine: str) -> None:
    patient = "server.round_timeout_s=30"
    expected = run(*QUICK, patient, name="undisturbed")
    summary = run(*QUICK, patient, *ENGINES[engine], fault("late", delay_s=0.2, client="Hungary"))
    assert summary["failures"] == {}
    assert summary["clients"] == expected["clients"]


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("raises", "inline"),
        pytest.param("hangs", "inline", marks=pytest.mark.slow),
        ("hangs", "process"),
        pytest.param("nan", "process", marks=pytest.mark.slow),
    ],
)
def test_below_min_clients_a_run_ends_and_its_summary_says_who_was_missing(
    run: Simulate, tmp_path: Path, kind: str, engine: str
) -> None:
    started = time.monotonic()
    with pytest.raises(
        RunFailedError, match=r"round 2: 0 institutions answered, server.min_clients=1 are needed"
    ):
        run(*QUICK, *ENGINES[engine], fault(kind, rounds="[2]"))
    assert time.monotonic() - started < 60  # bounded: three deadlines and the start of workers
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["rounds"] == 1
    assert summary["failures"]["2"] == dict.fromkeys(
        ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"], CODES[kind]
    )


def test_a_run_that_failed_goes_on_when_its_clients_are_back(run: Simulate, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError):
        run(*QUICK, "server.min_clients=4", fault("raises", client="Hungary", rounds="[2]"))
    with pytest.raises(RunFailedError, match="round 2: 3 institutions answered"):
        run(
            *QUICK,
            "server.min_clients=4",
            fault("raises", client="Hungary", rounds="[2]"),
            resume=True,
        )
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"] == 1


def test_a_fault_of_an_unknown_client_is_named(run: Simulate) -> None:
    with pytest.raises(
        ConfigError, match=r"simulation.faults names Budapest; the clients are Cleveland, Hungary"
    ):
        run(*QUICK, fault("nan", client="Budapest"))
