"""Epsilon with honest peers in whole runs: beside epsilon, or spent, as accountants say."""

import json
import math
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from stopped_run import Simulate

import confide.cli
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.with_peers import committed_with_peers
from confide.server.report.guarantee import guarantee
from confide.server.report.read import read_run

RATE, ROUNDS, DELTA = 0.25, 3, 1e-5
SIX = (
    "experiment=synthetic_logistic",
    "data.num_clients=6",
    "privacy=record",
    "privacy.epsilon=3",
    "strategy=fedavg",
    "client=table",
    "client.local_steps=1",
    f"client.sampling_rate={RATE}",
    f"server.num_rounds={ROUNDS}",
    "simulation.baselines=[]",
    "aggregation=secure",
)
REAL = "aggregation.simulated=real"
COUNTING = ("privacy.trust=peers", "privacy.honest_peers=3")
HONEST = 3
"""Of six, four open a sum, and one of the six may collude."""


def independent(sigma: float) -> float:
    accountant = PLDAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL,
        value_discretization_interval=1e-4,
    )
    step = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(sigma))
    accountant.compose(step, ROUNDS)
    return float(accountant.get_epsilon(DELTA))


def least_noise(target: float) -> float:
    low, high = 0.3, 30.0
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if independent(middle) > target else (low, middle)
    return high


def figures(summary: dict[str, Any]) -> dict[str, tuple[float, float, int]]:
    return {
        name: (line["epsilon"], line["epsilon_with_peers"], line["honest_peers"])
        for name, line in summary["clients"].items()
    }


def test_what_others_hide_is_told_beside_epsilon(run: Simulate, tmp_path: Path) -> None:
    masked, open_ = run(*SIX, REAL, name="masked"), run(*SIX, name="open")
    assert figures(masked) == figures(open_)
    assert masked["privacy"]["with_peers"] == open_["privacy"]["with_peers"]
    expected = independent(least_noise(3.0) * math.sqrt(HONEST))
    for alone, among, honest in figures(masked).values():
        assert (alone, honest) == (pytest.approx(3.0, rel=1e-3), HONEST)
        assert among == pytest.approx(expected, rel=1e-3)
    assert masked["privacy"]["with_peers"]["sentence"] == (
        f"epsilon 3 against anybody; {expected:.3g} against the coordinator if 3 of the"
        " institutions in each sum are honest, nominally"
    )
    metrics = (tmp_path / "masked/metrics.jsonl").read_text().splitlines()
    told = [line for line in map(json.loads, metrics) if line["name"] == "epsilon_with_peers"]
    assert len(told) == 6 * ROUNDS
    assert {line["phase"] for line in told} == {"privacy"}


def test_noise_that_counts_on_others_keeps_epsilon_with_them_alone(
    run: Simulate, tmp_path: Path
) -> None:
    summary = run(*SIX, REAL, *COUNTING, name="masked")
    expected = independent(least_noise(3.0) / math.sqrt(HONEST))
    for alone, among, honest in figures(summary).values():
        assert (among, honest) == (pytest.approx(3.0, rel=1e-3), HONEST)
        assert among <= 3.0
        assert alone == pytest.approx(expected, rel=1e-3)
    assert "if 3 of the institutions in each of them are honest" in summary["privacy"]["guarantee"]
    told = guarantee(read_run(tmp_path / "masked"))
    assert f"epsilon {expected:.3g} against anybody; 3 against the coordinator" in told


def test_more_than_one_step_a_round_gains_nothing_and_says_why(run: Simulate) -> None:
    summary = run(*SIX, "client.local_steps=2", name="two")
    assert not any("epsilon_with_peers" in line for line in summary["clients"].values())
    sentence = summary["privacy"]["with_peers"]["sentence"]
    assert sentence.startswith("others' noise hides no record, and epsilon is as without sums")
    assert "0.313" in sentence


def test_without_sums_nothing_is_said(run: Simulate) -> None:
    assert "with_peers" not in run(*SIX, "aggregation=plain", name="plain")["privacy"]


def test_ledgers_charge_both_budgets_in_a_run_of_ones_own_noise(
    run: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        *(*SIX, REAL, "simulation.seed=null", f"client.ledger={tmp_path / 'ledgers'}"),
        *("policy.budget.epsilon=10", "policy.budget.epsilon_with_peers=2.5", "job=first"),
    )
    summary = run(*words, name="first")
    expected = independent(least_noise(3.0) * math.sqrt(HONEST))
    for name, line in summary["clients"].items():
        assert line["epsilon_with_peers"] == pytest.approx(expected, rel=1e-3)
        population = LedgerFile(tmp_path / f"ledgers/{name}.ledger").state.populations[name]
        assert population.committed == pytest.approx(3.0, rel=1e-3)
        assert committed_with_peers(population) == pytest.approx(expected, rel=1e-3)
    assert confide.cli.main(["ledger", "show", str(tmp_path / "ledgers")]) == 0
    assert "sees sums alone" in capsys.readouterr().out


def test_a_seed_leaves_ledgers_nothing_to_count_on(run: Simulate, tmp_path: Path) -> None:
    words = (f"client.ledger={tmp_path / 'ledgers'}", "policy.budget.epsilon=10", "job=first")
    summary = run(*SIX, REAL, *words, name="seeded")
    assert summary["privacy"]["with_peers"] == {
        "sentence": "others' noise counts nowhere: whoever has the seed can remove it"
    }
