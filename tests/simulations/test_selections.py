"""Whole simulations whose rounds draw by chance, presence or turns."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stopped_run import kill_when, metrics_of, newest, started, stopped

from confide.server.rounds.checkpoint import CheckpointStore

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "strategy=fedavg", "simulation.baselines=[]")
POISSON = ("strategy/selection=poisson", "strategy.selection.probability=0.3")
ROBIN = ("strategy/selection=round_robin", "strategy.selection.clients_per_round=1")
AVAILABLE = (
    "strategy/selection=available",
    "strategy.selection.clients_per_round=2",
    "simulation/delays=uniform",
    "simulation.delays.availability.on_s=20",
    "simulation.delays.availability.off_s=20",
)
KINDS = {"poisson": POISSON, "round_robin": ROBIN, "available": AVAILABLE}
PRIVATE = ("privacy=record", "privacy.epsilon=8")
POPULATION = (
    "experiment=synthetic_logistic",
    "strategy=fedavg",
    "data.num_clients=30",
    "data.generator.num_records=150",
    "server.num_rounds=6",
)


def cohorts(folder: Path) -> list[tuple[str, ...]]:
    found = CheckpointStore(folder / "checkpoints", kept=3).latest()
    assert found is not None
    return [record.accepted for record in found.state.history]


@pytest.mark.parametrize("kind", KINDS)
def test_engines_agree_and_a_run_that_stopped_goes_on(
    run: Simulate, tmp_path: Path, kind: str
) -> None:
    words = (*HEART, *KINDS[kind], *PRIVATE, "server.num_rounds=6")
    whole = run(*words, name="whole")
    process = run(*words, "simulation.engine=process", "simulation.workers=2", name="process")
    assert process["model_sha256"] == whole["model_sha256"]
    assert cohorts(tmp_path / "process") == cohorts(tmp_path / "whole")
    stopped(run, *words, after=3, name="stopped")
    resumed = run(*words, name="stopped", resume=True)
    assert resumed["model_sha256"] == whole["model_sha256"]
    assert metrics_of(tmp_path / "stopped") == metrics_of(tmp_path / "whole")


def test_poisson_of_everybody_is_fedavg_to_the_last_bit(run: Simulate) -> None:
    words = (*HEART, "server.num_rounds=3", "strategy.aggregator.weighting=uniform")
    expected = run(*words, name="all")["model_sha256"]
    for denominator in ("accepted", "expected"):
        drawn = (*POISSON[:1], "strategy.selection.probability=1")
        divided = f"strategy.selection.denominator={denominator}"
        assert run(*words, *drawn, divided, name=denominator)["model_sha256"] == expected


def test_a_run_with_empty_rounds_leaves_all_that_a_run_leaves(
    run: Simulate, tmp_path: Path
) -> None:
    rarely = "strategy.selection.probability=0.15"
    summary = run(*HEART, *POISSON, rarely, *PRIVATE, "server.num_rounds=6", name="run")
    taken = Counter(name for names in cohorts(tmp_path / "run") for name in names)
    assert () in cohorts(tmp_path / "run")
    assert summary["rounds"] == 6
    # Charged are the rounds that an institution took part in, and no others
    assert {name: line["rounds"] for name, line in summary["clients"].items()} == {
        name: taken[name] for name in summary["clients"]
    }
    spent = sorted((line["rounds"], line["epsilon"]) for line in summary["clients"].values())
    assert spent[0][1] < spent[-1][1]
    assert {line["round"] for line in metrics_of(tmp_path / "run")} >= {1, 6}


@pytest.mark.parametrize("engine", ["inline", "vectorised"])
@pytest.mark.parametrize("kind", KINDS)
def test_on_demand_the_same_are_drawn_as_of_the_list(
    run: Simulate, tmp_path: Path, kind: str, engine: str
) -> None:
    words = (*POPULATION, *KINDS[kind], f"simulation.engine={engine}")
    if kind == "poisson":
        words = (*words, "strategy.selection.probability=0.05")  # mostly one of thirty, or nobody
    lists = ("simulation.on_demand=false", "simulation.baselines=[]")
    listed = run(*words, *lists, name="listed")
    asked = run(*words, "simulation.on_demand=true", name="asked")
    assert asked["model_sha256"] == listed["model_sha256"]
    assert cohorts(tmp_path / "asked") == cohorts(tmp_path / "listed")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_is_gone_on_from_to_the_same_weights(tmp_path: Path, kind: str) -> None:
    words = (*HEART, *KINDS[kind], "server.num_rounds=8")
    folder, whole = tmp_path / "run", tmp_path / "whole"
    with started(*words, f"hydra.run.dir={whole}") as process:
        process.join(120)
        assert process.exitcode == 0
    with started(*words, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: any(folder.glob("checkpoints/round-00003*")))
        assert process.exitcode == -signal.SIGKILL
    assert newest(folder).exists()
    with started(f"resume={folder}") as process:
        process.join(120)
        assert process.exitcode == 0
    found, expected = (
        json.loads((one / "summary.json").read_text())["model_sha256"] for one in (folder, whole)
    )
    assert found == expected
