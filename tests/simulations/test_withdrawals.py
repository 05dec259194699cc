"""A run goes on without an institution that withdrew: by name, for good, and nobody pays again."""

from pathlib import Path

import pytest
import torch
from stopped_run import (
    HEART,
    KINDS,
    PRIVATE,
    Simulate,
    StopAfter,
    Stopped,
    confide_simulate,
    metrics_of,
    stopped,
)

from confide.errors import ConfigError, UnreadableError
from confide.server.report.write import write_report_or_warn
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.run.closing import closing_lines
from confide.server.run.withdrawal import withdraw, withdrawals

GONE, OTHERS = "Hungary", ("Cleveland", "Switzerland", "VA Long Beach")


def latest(folder: Path) -> Checkpoint:
    reached = CheckpointStore(folder / "checkpoints", kept=3).latest()
    assert reached is not None
    return reached


@pytest.mark.parametrize("kind", ["fedavg", "fedadam", "scaffold", "feddyn"])
def test_a_run_goes_on_without_and_says_what_stays(
    run: Simulate, tmp_path: Path, kind: str
) -> None:
    overrides = (*HEART, *KINDS[kind])
    undisturbed = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=2)
    plan = (tmp_path / "run" / "plan.json").read_bytes()
    before = latest(tmp_path / "run").state.params
    summary = run(*overrides, resume=True, without=[GONE])

    stays = {
        "scaffold": " and its last part of the server's control variate",
        "feddyn": " and its part of the server's correction",
    }
    gone = summary["withdrawn"][GONE]
    assert gone["stays"] == "its updates of 2 rounds" + stays.get(kind, "")
    assert (gone["after_round"], gone["rounds"]) == (2, 2)
    assert summary["rounds"] == 6
    assert summary["failures"] == {}
    assert sorted(summary["clients"]) == sorted(OTHERS)
    lines = metrics_of(tmp_path / "run")
    assert {line["round"] for line in lines if line.get("client") == GONE} <= {0, 1, 2}
    # The same question for the others, to the letter
    assert (tmp_path / "run" / "plan.json").read_bytes() == plan
    # What it gave is in what the others go on from; their rounds are others than with it
    assert any(not torch.equal(before[name], last) for name, last in params_of(tmp_path).items())
    assert summary["model_sha256"] != undisturbed["model_sha256"]


def params_of(folder: Path) -> dict[str, torch.Tensor]:
    return latest(folder / "run").state.params


def test_rounds_after_are_means_over_those_who_are_left(run: Simulate, tmp_path: Path) -> None:
    # One round after the withdrawal, against a run in which it never answers that round
    overrides = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=2")
    silent = f"simulation.faults=[{{kind: raises, client: {GONE}, rounds: [2]}}]"
    stopped(run, *overrides, after=1)
    without = run(*overrides, resume=True, without=[GONE])
    missing = run(*overrides, silent, name="silent")
    assert without["model_sha256"] == missing["model_sha256"]


def test_a_withdrawal_is_remembered_and_reported(run: Simulate, tmp_path: Path) -> None:
    overrides, folder = (*HEART, *PRIVATE), tmp_path / "run"
    stopped(run, *overrides, after=2)
    withdraw(folder, [GONE], least=1)  # and the process dies before anybody is asked
    stopped(run, *overrides, after=4, resume=True)
    assert GONE not in latest(folder).clients
    summary = run(*overrides, resume=True, without=[GONE])  # named again: no news
    gone = summary["withdrawn"][GONE]
    assert gone["after_round"] == 2
    assert 0 < gone["epsilon"] < summary["clients"]["Cleveland"]["epsilon"] <= 3
    write_report_or_warn(folder)
    told = "withdrew after round 2 and was not asked again; of it stays in the run: its updates of"
    assert all(told in (folder / name).read_text() for name in ("report.html", "model_card.md"))
    assert any(line.startswith(f"{GONE} withdrew") for line in closing_lines(summary, folder))


def test_others_are_not_charged_again(run: Simulate, tmp_path: Path) -> None:
    ledgers = (f"client.ledger={tmp_path / 'ledgers'}", "policy.budget.epsilon=8", "job=trial")
    overrides = (*HEART, *PRIVATE, *ledgers)
    stopped(run, *overrides, after=3)
    summary = run(*overrides, resume=True, without=[GONE])
    for name in OTHERS:
        budget = summary["clients"][name]["budget"]
        # One run of six rounds, spent to the end and committed once
        assert budget["spent"] == pytest.approx(budget["committed"])
        assert budget["committed"] < 3.5


def test_several_withdraw_one_after_the_other(run: Simulate) -> None:
    stopped(run, *HEART, after=1)
    with pytest.raises(Stopped):
        run(*HEART, resume=True, without=[GONE], progress=StopAfter(3))
    summary = run(*HEART, resume=True, without=["Switzerland"])
    assert list(summary["clients"]) == ["Cleveland", "VA Long Beach"]
    rounds = {name: it["after_round"] for name, it in summary["withdrawn"].items()}
    assert rounds == {GONE: 1, "Switzerland": 3}


@pytest.mark.parametrize(
    ("names", "least", "told"),
    [
        (["Huntary"], 1, "Huntary does not take part in .*; those who do are Cleveland, Hungary"),
        ([GONE], 4, r"3 of 4 institutions would be left, server.min_clients=4 are needed; lower"),
        ([GONE, *OTHERS], 1, "0 of 4 institutions would be left"),
    ],
)
def test_a_withdrawal_that_cannot_be_is_refused_and_not_remembered(
    run: Simulate, tmp_path: Path, names: list[str], least: int, told: str
) -> None:
    stopped(run, *HEART, after=1)
    with pytest.raises(ConfigError, match=told):
        withdraw(tmp_path / "run", names, least=least)
    assert withdrawals(tmp_path / "run") == {}


def test_without_a_run_nobody_can_withdraw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint yet; start the run without them"):
        withdraw(tmp_path, [GONE], least=1)


def test_a_damaged_note_asks_nobody(run: Simulate, tmp_path: Path) -> None:
    stopped(run, *HEART, after=1)
    (tmp_path / "run" / "checkpoints" / "withdrawn.json").write_text("{")
    with pytest.raises(UnreadableError, match="says who withdrew"):
        run(*HEART, resume=True)


def test_a_new_run_in_the_same_folder_asks_everybody(run: Simulate, tmp_path: Path) -> None:
    stopped(run, *HEART, after=1)
    run(*HEART, resume=True, without=[GONE])
    assert GONE in run(*HEART)["clients"]


def test_the_minimum_may_be_lowered_for_the_resume(run: Simulate) -> None:
    stopped(run, *HEART, "server.min_clients=4", after=1)
    with pytest.raises(ConfigError, match=r"server\.min_clients=4 are needed"):
        run(*HEART, "server.min_clients=4", resume=True, without=[GONE])
    summary = run(*HEART, "server.min_clients=3", resume=True, without=[GONE])
    assert summary["rounds"] == 6


@pytest.mark.slow
def test_the_command_goes_on_without(run: Simulate, tmp_path: Path) -> None:
    stops = "simulation.faults=[{kind: raises, rounds: [3]}]"
    folder = tmp_path / "a run"
    first = confide_simulate(*HEART, stops, f"hydra.run.dir='{folder}'")
    assert "round 3: 0 institutions answered" in first.stderr
    refused = confide_simulate(f"resume={folder}", "--without", "nobody")
    assert refused.returncode == 2
    assert "nobody does not take part" in refused.stderr
    again = confide_simulate(f"resume={folder}", "--without", "VA Long Beach")
    assert "round 3: 0 institutions answered" in again.stderr
    assert list(withdrawals(folder)) == ["VA Long Beach"]
