"""Epsilon of many institutions is told as that of few numbers of rounds, never too low."""

from dataclasses import replace

import pytest
import torch
from builders import POLICY, build_plan, build_records, workload_of

from confide.client.ledger.memory import MemoryLedger
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import Randomness, RoundAccount
from confide.client.schedule import make_schedule
from confide.config.client import ClientConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.protocol.plan import TrainingPlan
from confide.simulations.preparing import _FEW_SIZES, _setup
from confide.tasks.task import LABELS, Examples

ROUNDS = 20
PRIVATE = build_plan(
    client=ClientConfig(batch_size=8, local_steps=2),
    privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-4, spare_rounds=0),
    num_rounds=ROUNDS,
)
PLAIN = replace(PRIVATE, privacy=PrivacyConfig())
DATA = build_records(workload_of(PRIVATE))


def account(*, brackets: bool) -> RoundAccount:
    return RoundAccount(
        "ward",
        data=DATA,
        ledger=MemoryLedger(),
        randomness=Randomness(key_fn=None, reproducible=False),
        brackets=brackets,
    )


def test_rounds_between_are_told_as_the_next_that_is_worked_out() -> None:
    schedule = make_schedule(PRIVATE, num_examples=len(DATA.train))
    exact, told = account(brackets=False), account(brackets=True)
    terms = exact.terms(PRIVATE, schedule)
    assert told.terms(PRIVATE, schedule) == terms  # what is counted, and its noise, stays
    for rounds, stands_for_it in ((0, 0), (6, 6), (7, 8), (18, ROUNDS), (ROUNDS, ROUNDS)):
        assert told.spent(terms, rounds=rounds) == exact.spent(terms, rounds=stands_for_it)
    assert told.spent(terms, rounds=ROUNDS) <= PRIVATE.privacy.epsilon


def people(sizes: int) -> dict[str, InstitutionData]:
    """Return institutions of so many sizes, each twice."""
    made = [
        replace(DATA, train=Examples({LABELS: torch.zeros(size + 1, dtype=torch.int64)}))
        for size in range(sizes)
    ]
    return {f"ward-{number}": made[number % sizes] for number in range(2 * sizes)}


@pytest.mark.parametrize(
    ("plan", "sizes", "public_n", "expected"),
    [
        (PRIVATE, _FEW_SIZES, None, False),
        (PRIVATE, _FEW_SIZES + 1, None, True),
        (PRIVATE, _FEW_SIZES + 1, 500, False),
        (PLAIN, _FEW_SIZES + 1, None, False),
    ],
)
def test_many_sizes_alone_are_bracketed(
    plan: TrainingPlan, sizes: int, public_n: int | None, expected: bool
) -> None:
    config = replace(compose(), policy=replace(POLICY, public_n=public_n))
    assert _setup(config, plan, people(sizes)).brackets is expected
