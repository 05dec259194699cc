"""The second budget: what coordinators learn that see sums alone, beside the first and never less.

Each of its rules, what a round with less noise changes, and what is left after reopening.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_runs import BUDGET, DELTA, RATE, ROUNDS, SIGMA, STEPS, name, opened, terms, train

import confide.cli
from confide.client.commands.ledger import main
from confide.client.ledger.export import export, export_problems
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.merge import merge_ledgers
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.with_peers import committed_with_peers, noise_with_peers
from confide.errors import ConfigError, DeniedError
from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.budget import Budget, Charge
from confide.privacy.peers import PeerNoise

PROMISED = replace(BUDGET, epsilon_with_peers=1.5)


def among(honest: int) -> PeerNoise:
    return PeerNoise(honest=honest, noise_multiplier=SIGMA * math.sqrt(honest))


def schedule(sigma: float, rounds: int = ROUNDS) -> Schedule:
    return Schedule(noise_multiplier=sigma, sampling_rate=RATE, steps=STEPS * rounds)


def reserve(ledger: PersistentLedger, number: int, noise: PeerNoise | None, job: str = "a") -> None:
    ledger.reserve(terms(job), number, f"{job}/{number}", key=None, with_peers=noise)


def committed(ledger: PersistentLedger) -> float:
    found = committed_with_peers(ledger.population)
    assert found is not None
    return found


def test_a_run_is_charged_whole_to_both_budgets(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=PROMISED)
    reserve(ledger, 1, among(3))
    alone, peers = (
        Budget.declare(bound, DELTA).spent([Charge(schedule=schedule(sigma))])
        for bound, sigma in ((8.0, SIGMA), (1.5, SIGMA * math.sqrt(3)))
    )
    assert (ledger.population.committed, committed(ledger)) == (alone, peers)
    assert peers < 1.5 < alone == pytest.approx(2.0, abs=1e-3)


def test_a_run_that_others_do_not_hide_costs_the_same_twice(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=replace(BUDGET, epsilon_with_peers=2.5))
    train(ledger, rounds=1)
    assert committed(ledger) == pytest.approx(ledger.population.committed)
    assert ledger.spent(name("a")).with_peers is None


def test_a_run_beyond_the_second_budget_is_refused_with_the_figures(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=PROMISED)
    with pytest.raises(DeniedError, match=r"promises epsilon 1\.5") as caught:
        reserve(ledger, 1, None)
    assert (caught.value.code, caught.value.figures["allowed"]) == ("budget_with_peers", 1.5)
    assert caught.value.figures["asked"] == pytest.approx(2.0, abs=1e-3)
    assert not ledger.population.runs  # nothing was charged


def test_the_first_budget_goes_on_bounding_what_anybody_learns(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=replace(PROMISED, epsilon=1.9))
    with pytest.raises(DeniedError, match=r"committed epsilon 0 of 1\.9"):
        reserve(ledger, 1, among(10))


def test_runs_add_up_in_the_second_budgets_filter(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=replace(BUDGET, epsilon=100.0, epsilon_with_peers=1.5))
    filtered = Budget.declare(1.5, DELTA)
    one = filtered.cost(Charge(schedule=schedule(SIGMA * math.sqrt(20))))
    count = math.floor(filtered.capacity / one)
    assert count > 1
    for number in range(count):
        reserve(ledger, 1, among(20), job=f"job {number}")
    with pytest.raises(DeniedError, match="promises epsilon"):
        reserve(ledger, 1, among(20), job="one more")


def test_a_cohort_with_less_noise_raises_the_charge_of_the_whole_run(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=replace(BUDGET, epsilon_with_peers=1.6))
    noises = (among(5), among(2), among(3))
    charged = []
    for number, noise in enumerate(noises, start=1):
        reserve(ledger, number, noise)
        charged.append(committed(ledger))
    assert charged[0] < charged[1] == charged[2]
    # The most honest that one of them counts on, and the least noise
    expected = PeerNoise(honest=5, noise_multiplier=SIGMA * math.sqrt(2))
    assert ledger.spent(name("a")).with_peers == expected


def test_a_cohort_with_too_little_noise_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=PROMISED)
    reserve(ledger, 1, among(3))
    before = committed(ledger)
    for noise in (None, PeerNoise(honest=1, noise_multiplier=SIGMA)):
        with pytest.raises(DeniedError, match="promises epsilon"):
            ledger.admit_round(terms(), noise)
        with pytest.raises(DeniedError, match="promises epsilon"):
            reserve(ledger, 2, noise)
    assert (committed(ledger), ledger.spent(name("a")).count) == (before, 1)
    reserve(ledger, 2, among(3))


def test_one_round_without_others_noise_leaves_the_run_its_own_alone(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=replace(BUDGET, epsilon_with_peers=4.0))
    reserve(ledger, 1, among(3))
    reserve(ledger, 2, None)
    assert ledger.spent(name("a")).with_peers is None
    assert committed(ledger) == Budget.declare(4.0, DELTA).spent([Charge(schedule=schedule(SIGMA))])


def test_a_later_cohort_does_not_choose_the_rule_that_admits_a_run(tmp_path: Path) -> None:
    """The first round fits the filter, which then is the rule, though the run alone would fit."""
    weak = SIGMA * 1.5
    alone = epsilon(schedule(weak), delta=DELTA)
    budget = Budget.declare(alone * 1.01, DELTA)
    assert not budget.holds([Charge(schedule=schedule(weak))])
    first = opened(tmp_path / "x", budget=replace(BUDGET, epsilon_with_peers=budget.epsilon))
    reserve(first, 1, PeerNoise(honest=2, noise_multiplier=weak))
    second = opened(tmp_path / "y", budget=replace(BUDGET, epsilon_with_peers=budget.epsilon))
    reserve(second, 1, among(10))
    with pytest.raises(DeniedError, match="promises epsilon"):
        reserve(second, 2, PeerNoise(honest=2, noise_multiplier=weak))


def test_a_ledger_that_is_opened_again_knows_both(tmp_path: Path) -> None:
    before = opened(tmp_path, budget=PROMISED)
    reserve(before, 1, among(4))
    reserve(before, 2, among(3))
    again = opened(tmp_path, budget=PROMISED)
    assert committed(again) == committed(before)
    assert again.spent(name("a")) == before.spent(name("a"))
    run = again.population.runs[name("a")]
    assert noise_with_peers(run) == PeerNoise(honest=4, noise_multiplier=among(3).noise_multiplier)
    with pytest.raises(DeniedError, match="promises epsilon"):
        reserve(again, 3, None)


def test_a_round_that_is_asked_again_is_charged_once(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=PROMISED)
    reserve(ledger, 1, among(3))
    before = committed(ledger)
    reserve(ledger, 1, among(3))
    assert (committed(ledger), ledger.spent(name("a")).count) == (before, 1)


# --- promising


def test_a_promise_comes_before_the_first_run_or_not_at_all(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    late = opened(tmp_path, budget=PROMISED)
    with pytest.raises(DeniedError, match="it was charged before") as caught:
        reserve(late, 2, among(3))
    assert caught.value.code == "budget_with_peers"
    with pytest.raises(DeniedError, match="it was charged before"):
        LedgerFile(tmp_path / "ward.ledger").declare("ward", PROMISED)


def test_a_policy_lowers_a_promise_and_does_not_raise_it(tmp_path: Path) -> None:
    opened(tmp_path, budget=PROMISED).know_units(["unit"])  # declares
    for asked, allowed in ((0.9, 0.9), (7.0, 1.5)):
        ledger = opened(tmp_path, budget=replace(BUDGET, epsilon_with_peers=asked))
        with pytest.raises(DeniedError, match="promises epsilon") as caught:
            reserve(ledger, 1, None)
        assert caught.value.figures["allowed"] == allowed


def test_a_budget_without_a_promise_has_no_second_figure(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    assert committed_with_peers(ledger.population) is None
    assert "with_peers" not in json.dumps(
        [dict(event.content) for event in LedgerFile(tmp_path / "ward.ledger").log.events]
    )


def test_people_declare_it_and_keep_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "ward.ledger")
    words = ["ledger", "budget", path, "--declare", "ward", "--epsilon"]
    assert confide.cli.main([*words, "8", "--epsilon-with-peers", "1.5"]) == 0
    assert confide.cli.main([*words, "9"]) == 0
    population = LedgerFile(tmp_path / "ward.ledger").state.populations["ward"]
    assert population.budget_with_peers == Budget.declare(1.5, population.budget.delta)
    assert confide.cli.main(["ledger", "show", path]) == 0
    assert "sees sums alone" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="only lowers"):
        main([*words[1:], "1"])


def test_an_export_says_what_was_promised(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=PROMISED)
    reserve(ledger, 1, among(3))
    told = json.loads(json.dumps(export(LedgerFile(tmp_path / "ward.ledger"))))
    assert not export_problems(told)
    totals = told["totals"]["ward"]
    assert (totals["epsilon_with_peers"], totals["committed_with_peers"]) == (
        1.5,
        committed(ledger),
    )


def test_a_merged_run_keeps_its_noise(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        ledger = opened(tmp_path / folder, budget=replace(PROMISED, epsilon_with_peers=3.0))
        reserve(ledger, 1, among(3), job=folder)
    files = [LedgerFile(tmp_path / folder / "ward.ledger") for folder in ("old", "new")]
    merge_ledgers(files[0], files[1], by="somebody")
    runs = files[1].read_again().populations["ward"].runs.values()
    assert [noise_with_peers(run) for run in runs] == [among(3), among(3)]
