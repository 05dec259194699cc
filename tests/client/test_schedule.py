"""Steps, batches and noise follow from the plan and n alone."""

import math

import pytest
from builders import build_plan

from confide.client.schedule import LocalSchedule, make_schedule
from confide.config.client import ClientConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.errors import PrivacyError, ProtocolError
from confide.privacy.accounting import calibrate
from confide.protocol.new_plan import make_plan

NUM_ROUNDS, SPARE = 5, 2
RECORDS = 105
EPSILON, DELTA = 3.0, 1e-4


def make(
    *, num_examples: int = RECORDS, privacy: PrivacyConfig | None = None, **client: float
) -> LocalSchedule:
    plan = build_plan(
        client=ClientConfig(**client),
        privacy=privacy or PrivacyConfig(),
        num_rounds=NUM_ROUNDS,
    )
    return make_schedule(plan, num_examples=num_examples)


def record_level(**changes: float | str) -> PrivacyConfig:
    return PrivacyConfig(
        **{"unit": "record", "epsilon": EPSILON, "delta": DELTA, "spare_rounds": SPARE, **changes}
    )


def test_epochs_become_steps_with_a_short_last_batch() -> None:
    schedule = make(batch_size=10, local_epochs=2)
    assert (schedule.batch_size, schedule.steps) == (10, 21)
    assert schedule.sampling_rate == pytest.approx(10 / RECORDS)


def test_sampling_rate_wins_over_batch_size() -> None:
    schedule = make(batch_size=10, sampling_rate=0.2)
    assert (schedule.sampling_rate, schedule.batch_size, schedule.steps) == (0.2, 21, 5)


def test_local_steps_win_over_epochs() -> None:
    assert make(batch_size=10, local_epochs=3, local_steps=7).steps == 7


def test_batch_larger_than_the_records_is_all_of_them() -> None:
    schedule = make(num_examples=8, batch_size=32, local_epochs=3)
    assert (schedule.sampling_rate, schedule.batch_size, schedule.steps) == (1.0, 8, 3)


def test_tiny_sampling_rate_still_has_a_batch_of_one() -> None:
    assert make(sampling_rate=1e-3, local_steps=1).batch_size == 1


def test_without_privacy_there_is_no_noise_and_epsilon_is_infinite() -> None:
    schedule = make(batch_size=10)
    assert (schedule.noise_multiplier, schedule.max_rounds) == (0.0, NUM_ROUNDS)
    assert schedule.epsilon_after(1, delta=DELTA, accountant="pld") == math.inf


def test_noise_is_calibrated_over_planned_and_spare_rounds() -> None:
    schedule = make(privacy=record_level(), sampling_rate=0.1, local_steps=3)
    expected = calibrate(
        target_epsilon=EPSILON,
        delta=DELTA,
        sampling_rate=0.1,
        steps=3 * (NUM_ROUNDS + SPARE),
        accountant="pld",
    )
    assert schedule.max_rounds == NUM_ROUNDS + SPARE
    assert schedule.noise_multiplier == expected


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_all_rounds_together_stay_within_the_budget_and_use_it(accountant: str) -> None:
    schedule = make(privacy=record_level(accountant=accountant), sampling_rate=0.05, local_steps=2)
    spent = [
        schedule.epsilon_after(r, delta=DELTA, accountant=accountant)
        for r in (0, 1, NUM_ROUNDS, NUM_ROUNDS + SPARE)
    ]
    assert spent[0] == 0
    assert spent == sorted(spent)
    assert 0.99 * EPSILON < spent[-1] <= EPSILON
    assert (
        schedule.epsilon_after(NUM_ROUNDS + SPARE + 1, delta=DELTA, accountant=accountant) > EPSILON
    )


def test_smaller_institutions_need_more_noise() -> None:
    small, large = (
        make(num_examples=n, privacy=record_level(), batch_size=10, local_steps=3)
        for n in (100, 400)
    )
    assert small.noise_multiplier > 1.1 * large.noise_multiplier


@pytest.mark.parametrize("delta", [1 / RECORDS, 0.5])
def test_delta_that_lets_one_record_out_is_refused(delta: float) -> None:
    with pytest.raises(PrivacyError, match=r"privacy\.delta=.* is not below 1/n"):
        make(privacy=record_level(delta=delta), sampling_rate=0.1, local_steps=1)


def test_delta_is_of_no_concern_without_privacy() -> None:
    assert make(privacy=PrivacyConfig(delta=0.5)).noise_multiplier == 0


def test_budget_that_no_noise_can_meet_is_refused() -> None:
    with pytest.raises(PrivacyError, match="No noise multiplier up to 10000"):
        make(privacy=record_level(epsilon=1e-9), sampling_rate=1.0, local_steps=100)


def test_more_steps_than_any_run_needs_are_refused_before_they_are_accounted() -> None:
    plan = make_plan(
        compose(["experiment=heart_disease", "client.local_steps=100000"]), backbone_sha256=None
    )
    with pytest.raises(
        ProtocolError, match="100000 steps a round over 15 rounds are more than 1000000"
    ):
        make_schedule(plan, num_examples=100)


@pytest.mark.parametrize("honest", [2, 5])
def test_noise_that_counts_on_others_is_a_part_of_what_is_needed(honest: int) -> None:
    alone = make(privacy=record_level(), local_steps=1, sampling_rate=0.2)
    part = make(
        privacy=record_level(trust="peers", honest_peers=honest), local_steps=1, sampling_rate=0.2
    )
    assert part.noise_multiplier == pytest.approx(alone.noise_multiplier / math.sqrt(honest))
    assert alone.noise_multiplier <= part.noise_with_peers < alone.noise_multiplier * 1.00001
    assert alone.noise_with_peers == alone.noise_multiplier
    spent = (NUM_ROUNDS + SPARE, DELTA)
    assert epsilon_of(part, *spent) > epsilon_of(alone, *spent)


def epsilon_of(schedule: LocalSchedule, rounds: int, delta: float) -> float:
    return schedule.epsilon_after(rounds, delta=delta, accountant="pld")
