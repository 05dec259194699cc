"""Runs on one population: how they compose, and what makes no room."""

from pathlib import Path
from typing import Any

import pytest
from ledger_runs import BUDGET, DELTA, full, opened, rounds_of, terms, train

from confide.client.ledger.file import LedgerFile
from confide.config.privacy import BudgetConfig
from confide.errors import DeniedError, ProtocolError
from confide.privacy.budget import Budget

# --- runs on one population


def test_three_runs_compose_by_the_filter_and_the_one_too_many_is_declined(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    bound = Budget.declare(BUDGET.epsilon or 0.0, DELTA)
    for number in range(1, 20):
        before = ledger.population.committed
        try:
            ledger.admit(terms(f"job-{number}"))
        except DeniedError as error:
            declined = error
            break
        train(ledger, f"job-{number}")
        after = ledger.population
        assert before < after.committed <= BUDGET.epsilon  # type: ignore[operator]
        assert sum(map(bound.cost, after.charges())) <= bound.capacity
    assert number > 3  # three at least fitted in
    assert declined.code == "budget_exhausted"
    assert declined.figures["asked"] > declined.figures["allowed"] == BUDGET.epsilon
    assert declined.figures["committed"] == pytest.approx(ledger.population.committed)
    with pytest.raises(
        DeniedError,
        match=r"has committed epsilon .* of 8 at delta 1e-05; with job late it would be",
    ):
        ledger.reserve(terms("late"), 1, "late/1", key=None)
    assert rounds_of(ledger, "late") == 0


def test_a_run_that_takes_the_whole_budget_is_the_only_one(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=2.0, delta=DELTA))
    train(ledger)
    with pytest.raises(DeniedError, match="has committed epsilon"):
        ledger.admit(terms("tiny", noise_multiplier=200.0, steps=1, max_rounds=1))


@pytest.mark.parametrize(
    "change",
    [
        {"num_units": 101},
        {"num_units": 99},
        {"unit": "group"},
        {"plan": "another"},
        {"epsilon": 1.0},
    ],
)
def test_no_change_of_records_or_plan_makes_room(change: dict[str, Any], tmp_path: Path) -> None:
    full(tmp_path)
    again = opened(tmp_path, budget=BudgetConfig(epsilon=2.0, delta=DELTA))
    again.know_units(["a new patient"])
    with pytest.raises(DeniedError) as caught:
        again.reserve(terms("b", **change), 1, "b/1", key=None)
    assert caught.value.code == "budget_exhausted"


def test_a_policy_that_says_more_than_was_declared_makes_no_room(tmp_path: Path) -> None:
    full(tmp_path)
    with pytest.raises(DeniedError, match="of 2 at delta"):
        opened(tmp_path, budget=BudgetConfig(epsilon=50.0, delta=DELTA)).admit(terms("b"))


def test_a_policy_that_says_less_than_was_declared_counts(tmp_path: Path) -> None:
    train(opened(tmp_path))
    with pytest.raises(DeniedError, match=r"of 2\.1 at delta"):
        opened(tmp_path, budget=BudgetConfig(epsilon=2.1, delta=DELTA)).admit(terms("b"))


def test_a_smaller_delta_of_the_policy_counts(tmp_path: Path) -> None:
    train(opened(tmp_path, budget=BudgetConfig(epsilon=2.5, delta=DELTA)))
    fits = terms("b", noise_multiplier=40.0, steps=1, max_rounds=1)
    with pytest.raises(DeniedError, match="at delta 1e-12"):
        opened(tmp_path, budget=BudgetConfig(epsilon=2.5, delta=1e-12)).admit(fits)


def test_a_known_run_is_admitted_with_its_own_terms_alone(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    ledger.admit(terms())
    with pytest.raises(ProtocolError, match="continues with other terms"):
        ledger.admit(terms(steps=6))


def test_groups_of_a_budget_stay_the_same_people(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=DELTA, unit="group"))
    train(ledger, unit="group", grouped_by="patient")
    ledger.admit(terms("b", unit="group", grouped_by="patient"))
    with pytest.raises(DeniedError, match="was grouped by patient before, and now by visit"):
        ledger.admit(terms("b", unit="group", grouped_by="visit"))


def test_institutions_that_share_a_population_share_its_budget(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger)
    alone = ledger.population.committed
    ledger.reserve(terms(institution="other", num_units=50), 1, "other/1", key=None)
    assert ledger.population.committed > alone
    assert set(ledger.population.runs) == {"ward: a", "other: a"}


def test_a_budget_is_raised_by_declaring_it_and_keeps_its_order(tmp_path: Path) -> None:
    ledger, more = full(tmp_path), BudgetConfig(epsilon=20.0, delta=DELTA)
    order = ledger.population.budget.order
    LedgerFile(tmp_path / "ward.ledger").declare("ward", more)
    again = opened(tmp_path, budget=more)
    again.admit(terms("b"))
    assert again.population.budget.order == order != Budget.declare(20.0, DELTA).order


def test_an_undeclared_population_is_refused_until_it_is_declared(tmp_path: Path) -> None:
    train(opened(tmp_path))
    with pytest.raises(
        DeniedError, match=r"other is not declared in .*, which holds ward.*--declare other"
    ) as caught:
        opened(tmp_path, population="other")
    assert caught.value.code == "undeclared_population"
    LedgerFile(tmp_path / "ward.ledger").declare("other", BUDGET)
    other = opened(tmp_path, population="other")
    train(other)
    assert other.population.committed == opened(tmp_path).population.committed


def test_a_ledger_without_a_budget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="needs a lifetime budget"):
        opened(tmp_path, budget=BudgetConfig()).admit(terms())


def test_the_unit_of_a_budget_never_changes(tmp_path: Path) -> None:
    train(opened(tmp_path))
    group = BudgetConfig(epsilon=8.0, delta=DELTA, unit="group")
    with pytest.raises(DeniedError, match="a budget's unit never changes"):
        opened(tmp_path, budget=group)
    with pytest.raises(DeniedError, match="a budget's unit never changes"):
        LedgerFile(tmp_path / "ward.ledger").declare("ward", group)


def test_the_unit_of_a_budget_may_change_while_nothing_is_charged(tmp_path: Path) -> None:
    opened(tmp_path).know_units(["ann"])
    group = BudgetConfig(epsilon=8.0, delta=DELTA, unit="group")
    ledger = opened(tmp_path, budget=group)
    train(ledger, unit="group", grouped_by="patient")
    assert opened(tmp_path, budget=group).population.unit == "group"


def test_a_record_run_under_a_group_budget_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=DELTA, unit="group"))
    with pytest.raises(DeniedError) as caught:
        ledger.admit(terms())
    assert caught.value.code == "budget_unit"
    ledger.admit(terms(unit="group"))


# --- a lifetime delta is below 1 / n


@pytest.mark.parametrize(
    ("delta", "units", "better"),
    [(1e-2, 5_000_000, 1e-7), (1e-5, 100_000, 1e-6), (1e-2, 100, 1e-3), (0.5, 2, 0.1)],
)
def test_a_lifetime_delta_of_one_in_n_or_more_is_declined_with_the_one_to_write(
    delta: float, units: int, better: float, tmp_path: Path
) -> None:
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=delta))
    with pytest.raises(DeniedError, match=rf"{units} units .* policy.budget.delta={better:g},") as (
        caught
    ):
        ledger.reserve(terms(num_units=units), 1, "a/1", key=None)
    assert caught.value.code == "budget_delta"
    assert caught.value.figures == {"asked": delta, "allowed": better}
    assert rounds_of(ledger, "a") == 0
    mended = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=better))
    train(mended, num_units=units)


def test_a_lifetime_delta_just_below_one_in_n_is_admitted(tmp_path: Path) -> None:
    opened(tmp_path).admit(terms(num_units=99_999))


def test_units_of_several_institutions_of_a_population_are_added_up(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, noise_multiplier=40.0, num_units=60_000)
    # The same institution with fewer units of the population is no news
    ledger.admit(terms("b", noise_multiplier=40.0, num_units=50_000))
    with pytest.raises(DeniedError) as caught:
        ledger.admit(terms("b", institution="another", noise_multiplier=40.0, num_units=50_000))
    assert caught.value.code == "budget_delta"


def test_an_old_ledger_goes_on_with_the_run_it_began_and_is_mended_for_the_next(
    tmp_path: Path,
) -> None:
    # As a release that did not look wrote it
    ledger = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=1e-2))
    train(ledger, rounds=1, num_units=90)
    file = LedgerFile(tmp_path / "ward.ledger")
    with file.transaction() as writing:
        again = {"population": "ward", "unit": "record", "order": 2.0}
        writing.append("budget", {**again, "epsilon": 8.0, "delta": 0.05})
    old = opened(tmp_path, budget=BudgetConfig(epsilon=8.0, delta=0.05))
    old.reserve(terms(num_units=90), 2, "a/2", key=None)
    fits = terms("b", noise_multiplier=40.0, steps=1, max_rounds=1, num_units=90)
    with pytest.raises(DeniedError, match=r"--declare ward --epsilon 8 --delta 0\.01"):
        old.admit(fits)
    file.declare("ward", BudgetConfig(epsilon=8.0, delta=0.01))
    assert file.state.populations["ward"].budget.order == 2.0
    old.admit(fits)


def test_a_delta_that_a_population_is_too_large_for_cannot_be_declared(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1, num_units=5000)
    with pytest.raises(DeniedError, match="5000 units"):
        LedgerFile(tmp_path / "ward.ledger").declare("ward", BudgetConfig(epsilon=8.0, delta=1e-3))
