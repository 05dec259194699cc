"""A population's budget: by hand, against numerical integration, and never looser than it says."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import get_privacy_spent
from scipy import stats

from confide.errors import DeniedError
from confide.privacy.accounting import Schedule, calibrate, epsilon, renyi
from confide.privacy.budget import Budget, Charge, conversion, suitable_delta, suits

DELTA = 1e-5
BUDGET = Budget.declare(8.0, DELTA)
RATES, SIGMAS = [0.001, 0.03, 0.2, 1.0], [0.7, 1.0, 2.0, 5.0]
SCHEDULES = st.builds(
    Schedule,
    noise_multiplier=st.sampled_from(SIGMAS),
    sampling_rate=st.sampled_from(RATES),
    steps=st.integers(0, 300),
)
CHARGES = st.builds(Charge, schedule=SCHEDULES, group_under_record_budget=st.booleans())


def make(
    sigma: float, rate: float, steps: int, *, group_under_record_budget: bool = False
) -> Charge:
    return Charge(
        schedule=Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=steps),
        group_under_record_budget=group_under_record_budget,
    )


# --- conversion and orders


def test_conversion_equals_a_hand_computation() -> None:
    # ln(1 - 1/2) - (ln 0.01 + ln 2) / (2 - 1) = ln(1/2 * 50) = ln 25
    assert conversion(2.0, 0.01) == pytest.approx(math.log(25))


@pytest.mark.parametrize("order", [1.05, 2.0, 18.0, 64.0, 512.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
def test_conversion_equals_that_of_opacus(order: float, delta: float) -> None:
    reference, _ = get_privacy_spent(
        orders=[order / 2 + 0.5, order, 2 * order], rdp=[math.inf, 0.7, math.inf], delta=delta
    )
    assert 0.7 + conversion(order, delta) == pytest.approx(reference)


@pytest.mark.parametrize("target", [0.1, 0.3, 1, 3, 8, 30, 100, 1000])
@pytest.mark.parametrize("delta", [1e-12, 1e-8, 1e-5, 1e-3])
def test_declared_order_leaves_room(target: float, delta: float) -> None:
    budget = Budget.declare(target, delta)
    assert budget.capacity > 0.3 * target
    assert budget.order > 1


def test_declared_order_has_the_most_room_for_a_gaussian() -> None:
    chosen = BUDGET.capacity / BUDGET.order
    others = [
        Budget(epsilon=8.0, delta=DELTA, order=order) for order in (2.0, 3.0, 5.0, 10.0, 30.0)
    ]
    assert all(other.capacity / other.order < chosen for other in others)


# --- what runs cost


def test_unsampled_gaussian_costs_what_the_paper_says() -> None:
    """Mironov 2017, corollary 3: alpha / (2 sigma^2) a step."""
    assert BUDGET.cost(make(3.0, 1.0, 7)) == pytest.approx(7 * BUDGET.order / (2 * 3.0**2))


def test_run_without_noise_costs_infinity_and_is_refused() -> None:
    assert BUDGET.cost(make(0.0, 0.1, 1)) == math.inf
    assert not BUDGET.admits([], make(0.0, 0.1, 1))


def test_cost_that_overflows_is_not_free() -> None:
    run = make(1.0, 0.1, 10)
    assert renyi(run.schedule, order=2047.0) == math.inf
    assert Budget(epsilon=8.0, delta=DELTA, order=2047.0).spent([run, run]) == math.inf


@pytest.mark.parametrize("group_under_record_budget", [False, True])
@pytest.mark.parametrize("target", [0.05, 1000.0])
def test_no_declared_order_overflows(target: float, group_under_record_budget: bool) -> None:
    budget = Budget.declare(target, 1e-12)
    assert budget.order == {0.05: 512.0, 1000.0: 1.2}[target]
    assert all(
        0
        < budget.cost(make(sigma, rate, 1, group_under_record_budget=group_under_record_budget))
        < math.inf
        for sigma in SIGMAS
        for rate in RATES
    )


def test_spent_by_one_small_run_is_its_own_epsilon_and_by_more_that_of_the_filter() -> None:
    run = make(2.0, 0.03, 100)
    assert BUDGET.spent([run]) == epsilon(run.schedule, delta=DELTA)
    assert BUDGET.spent([run, run]) == pytest.approx(
        2 * BUDGET.cost(run) + conversion(BUDGET.order, DELTA)
    )


@pytest.mark.parametrize(
    "charges", [[], [make(1.0, 0.1, 0)], [make(0.0, 1.0, 0), make(1.0, 0.1, 0)]]
)
def test_nothing_done_costs_nothing(charges: list[Charge]) -> None:
    assert BUDGET.spent(charges) == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(charges=st.lists(CHARGES, min_size=2, max_size=4))
def test_costs_add_up_whatever_the_order(charges: list[Charge]) -> None:
    together = sum(BUDGET.cost(charge) for charge in charges) + conversion(BUDGET.order, DELTA)
    if sum(charge.schedule.steps > 0 for charge in charges) > 1:
        assert all(
            BUDGET.spent(order) == pytest.approx(max(0.0, together))
            for order in itertools.permutations(charges)
        )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(charges=st.lists(CHARGES, max_size=4), more=CHARGES)
def test_spent_never_falls(charges: list[Charge], more: Charge) -> None:
    assert BUDGET.spent([*charges, more]) >= BUDGET.spent(charges)


@pytest.mark.parametrize(("sigma", "rate"), [(0.7, 0.2), (1.0, 0.03), (2.0, 1.0)])
def test_steps_in_one_run_cost_what_they_cost_in_several(sigma: float, rate: float) -> None:
    whole, parts = (
        BUDGET.cost(make(sigma, rate, 90)),
        [BUDGET.cost(make(sigma, rate, steps)) for steps in (20, 70)],
    )
    assert sum(parts) == pytest.approx(whole)


# --- who is admitted


def test_run_that_needs_the_whole_budget_is_admitted_first_and_nothing_after_it() -> None:
    sigma = calibrate(target_epsilon=8.0, delta=DELTA, sampling_rate=0.03, steps=500)
    run = make(sigma, 0.03, 500)
    budget = Budget.declare(epsilon(run.schedule, delta=DELTA), DELTA)
    assert budget.cost(run) > budget.capacity  # by the filter it would not fit
    assert budget.admits([], run)
    assert budget.spent([run]) == budget.epsilon
    assert not budget.admits([run], make(100.0, 0.001, 1))


def test_run_that_needs_more_than_the_budget_is_refused() -> None:
    run = make(1.0, 0.03, 500)
    assert not Budget.declare(0.999 * epsilon(run.schedule, delta=DELTA), DELTA).admits([], run)


def test_run_admitted_by_its_own_epsilon_must_be_the_first() -> None:
    run, tiny = (
        make(calibrate(target_epsilon=8.0, delta=DELTA, sampling_rate=0.03, steps=500), 0.03, 500),
        make(100, 0.001, 1),
    )
    assert BUDGET.admits([], run)
    assert BUDGET.admits([], tiny)
    assert not BUDGET.admits([tiny], run)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    asked=st.lists(CHARGES, min_size=1, max_size=8), target=st.sampled_from([0.5, 3.0, 8.0, 50.0])
)
def test_filter_is_never_looser_than_its_capacity(asked: list[Charge], target: float) -> None:
    budget, admitted = Budget.declare(target, DELTA), list[Charge]()
    for charge in asked:
        if budget.admits(admitted, charge):
            admitted.append(charge)
    assert budget.spent(admitted) <= budget.epsilon * (1 + 1e-12)
    if len([charge for charge in admitted if charge.schedule.steps]) > 1:
        assert sum(map(budget.cost, admitted)) <= budget.capacity


@pytest.mark.parametrize("group_under_record_budget", [False, True])
def test_filter_admits_as_many_runs_as_fit(group_under_record_budget: bool) -> None:
    run, admitted = (
        make(2.0, 0.2, 5, group_under_record_budget=group_under_record_budget),
        list[Charge](),
    )
    while BUDGET.admits(admitted, run):
        admitted.append(run)
    assert len(admitted) == math.floor(BUDGET.capacity / BUDGET.cost(run)) > 2


# --- a group's run under a budget of records


def divergence(sigma: float, rate: float, order: float) -> float:
    """Integrate the Renyi divergence of one step when a record turns its group's clipped gradient
    from C to -C.
    """
    x = np.linspace(-60 * sigma, 60 * sigma, 400_001)
    with np.errstate(divide="ignore"):  # nobody is left out at a rate of 1
        out = np.log(1 - rate) + stats.norm.logpdf(x, 0, sigma)
    one, other = (
        np.logaddexp(out, np.log(rate) + stats.norm.logpdf(x, mean, sigma)) for mean in (1, -1)
    )
    logs = order * one + (1 - order) * other
    top = logs.max()
    return float((math.log(np.trapezoid(np.exp(logs - top), x)) + top) / (order - 1))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("order", [1.05, 1.45, 3.85, 18.0])
def test_group_under_a_record_budget_costs_at_least_what_integration_gives(
    sigma: float, rate: float, order: float
) -> None:
    charge = make(sigma, rate, 1, group_under_record_budget=True)
    cost = Budget(epsilon=8.0, delta=DELTA, order=order).cost(charge)
    assert cost >= divergence(sigma, rate, order) * (1 - 1e-9)


@pytest.mark.parametrize("order", [1.5, 4.0, 18.0])
def test_that_integration_finds_a_cost_that_forgot_the_second_step(order: float) -> None:
    forgot = Budget(epsilon=8.0, delta=DELTA, order=order).cost(make(1.0, 0.2, 1))
    assert forgot < 0.99 * divergence(1.0, 0.2, order)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schedule=SCHEDULES, order=st.sampled_from([1.05, 1.45, 3.85, 18.0, 64.0]))
def test_group_under_a_record_budget_costs_half_of_sigma_and_what_is_proved(
    schedule: Schedule, order: float
) -> None:
    cost = Budget(epsilon=8.0, delta=DELTA, order=order).cost(
        Charge(schedule=schedule, group_under_record_budget=True)
    )
    halved = Schedule(
        noise_multiplier=schedule.noise_multiplier / 2,
        sampling_rate=schedule.sampling_rate,
        steps=schedule.steps,
    )
    # Mironov 2017, proposition 11 with p = q = 2, by way of the data set without the group.
    proved = (order - 0.5) / (order - 1) * renyi(schedule, order=2 * order) + renyi(
        schedule, order=2 * order - 1
    )
    assert cost >= renyi(halved, order=order)
    assert cost >= proved * (1 - 1e-12)
    assert cost >= Budget(epsilon=8.0, delta=DELTA, order=order).cost(Charge(schedule=schedule))


def test_group_under_a_record_budget_is_not_admitted_by_its_own_epsilon() -> None:
    run = make(calibrate(target_epsilon=8.0, delta=DELTA, sampling_rate=0.03, steps=500), 0.03, 500)
    assert BUDGET.admits([], run)
    assert not BUDGET.admits(
        [], make(run.schedule.noise_multiplier, 0.03, 500, group_under_record_budget=True)
    )


@pytest.mark.parametrize(
    ("unit", "budget_unit", "group_under_record_budget"),
    [("record", "record", False), ("group", "group", False), ("group", "record", True)],
)
def test_unit_and_budget_decide_how_many_steps_away_a_neighbour_is(
    unit: str, budget_unit: str, group_under_record_budget: bool
) -> None:
    schedule = Schedule(noise_multiplier=1.0, sampling_rate=0.1, steps=3)
    charge = Charge.of(schedule, unit=unit, budget_unit=budget_unit)
    assert charge == Charge(schedule=schedule, group_under_record_budget=group_under_record_budget)


def test_record_under_a_group_budget_is_refused() -> None:
    with pytest.raises(
        DeniedError, match=r"does not protect a group.*privacy\.unit=group"
    ) as denied:
        Charge.of(
            Schedule(noise_multiplier=1.0, sampling_rate=0.1, steps=3),
            unit="record",
            budget_unit="group",
        )
    assert denied.value.code == "budget_unit"


@pytest.mark.parametrize("units", [1, 2, 9, 10, 11, 99_999, 100_000, 5_000_000, 10**9])
def test_suitable_delta_is_the_largest_power_of_ten_below_one_in_n(units: int) -> None:
    better = suitable_delta(units)
    assert suits(better, units)
    assert not suits(float(f"1e-{len(str(units)) - 1}"), units)
    assert not suits(1 / units, units)


# --- scores


def release(sigma: float, count: int) -> Schedule:
    return Schedule(noise_multiplier=sigma, sampling_rate=1.0, steps=count)


def test_run_costs_a_unit_the_dearest_of_what_reads_it_and_runs_add_up() -> None:
    training = Schedule(noise_multiplier=1.0, sampling_rate=0.03, steps=100)
    runs = [
        Charge(schedule=training, scores=(release(50.0, 3), release(60.0, 1))),
        Charge(schedule=training, scores=(release(2.0, 3), release(2.0, 1))),
        Charge(
            schedule=Schedule(noise_multiplier=1.0, sampling_rate=0.03, steps=0),
            scores=(release(2.0, 1),),
        ),
    ]
    order = BUDGET.order
    costs = [renyi(training, order=order), 3 * order / (2 * 2.0**2), order / (2 * 2.0**2)]
    assert [BUDGET.cost(run) for run in runs] == pytest.approx(costs)
    together = sum(costs) + conversion(order, DELTA)
    assert BUDGET.spent(runs) == pytest.approx(together)


def test_single_run_has_the_epsilon_of_the_dearest_of_what_reads_a_unit() -> None:
    training = Schedule(noise_multiplier=2.0, sampling_rate=0.03, steps=10)
    run = Charge(schedule=training, scores=(release(1.0, 1),))
    assert BUDGET.spent([run]) == pytest.approx(epsilon(release(1.0, 1), delta=DELTA))
    dear = Charge(schedule=training, scores=(release(0.3, 1),))
    assert not BUDGET.admits([], dear)


def test_scores_of_groups_under_a_record_budget_cost_more_too() -> None:
    training = Schedule(noise_multiplier=5.0, sampling_rate=0.01, steps=1)
    near, far = (
        Charge(schedule=training, scores=(release(4.0, 2),), group_under_record_budget=far)
        for far in (False, True)
    )
    assert BUDGET.cost(far) >= 4 * BUDGET.cost(near)  # as if noise were half as large
