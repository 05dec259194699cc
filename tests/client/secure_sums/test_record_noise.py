"""Noise of a record in a round's sum, by what a cohort states and by the institution's rules."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import seats
from builders import POLICY, build_ledger, build_plan, build_records, key_of, workload_of

from confide.client.ledger.ledger import Ledger
from confide.client.ledger.memory import MemoryLedger
from confide.client.policy import Policy
from confide.client.reservation import RoundAccount
from confide.client.safeguards import Safeguards
from confide.client.schedule import LocalSchedule, make_schedule
from confide.client.secure_sums.memory import SumsInMemory
from confide.client.secure_sums.record_noise import (
    PeerNoises,
    honest_by,
    noise_in_sum,
    stated_noise,
)
from confide.client.secure_sums.sum_rules import SumRules
from confide.client.secure_sums.taking_part import TakingPart
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.privacy import PrivacyConfig
from confide.errors import DeniedError, PrivacyError
from confide.privacy.peers import PeerNoise
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.plan import TrainingPlan
from confide.secure_aggregation.adverts import Advert
from confide.secure_aggregation.context import SumContext

UNITS, DELTA = 100, 1e-3
PRIVACY = PrivacyConfig(unit="record", epsilon=3.0, delta=DELTA, clipping_norm=2.0)


def plan_of(*, weighting: str = "num_examples", **privacy: Any) -> TrainingPlan:
    return build_plan(
        client=ClientConfig(
            local_steps=1, sampling_rate=0.25, optimizer=OptimizerConfig(learning_rate=0.5)
        ),
        privacy=replace(PRIVACY, **privacy),
        num_rounds=4,
        sums=MaskedSums(max_value=1024.0, weighting=weighting),
    )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What an institution states; a tenth of it where nothing is said."""

    name: str
    num_examples: int = UNITS
    noise_multiplier: float = 1.0
    sampling_rate: float = 0.25


def advert(name: str, stated: Stated) -> Advert:
    return Advert(
        name=name,
        num_examples=stated.num_examples,
        noise_multiplier=stated.noise_multiplier,
        sampling_rate=stated.sampling_rate,
        public_key=name.encode(),
        certificate=b"",
    )


def context(
    *others: Stated, own: LocalSchedule, threshold: int, scale_bits: int = 30
) -> SumContext:
    ward = Stated(name="ward", noise_multiplier=own.noise_multiplier)
    cohort = tuple(advert(one.name, one) for one in sorted((ward, *others), key=lambda it: it.name))
    return SumContext(
        job="test",
        server_round=1,
        question="",
        cohort=cohort,
        threshold=threshold,
        scale_bits=scale_bits,
        length=1,
    )


@functools.cache
def records() -> Any:
    return build_records(workload_of(build_plan()), train=UNITS)


class Ward:
    """The institution that asks how much noise its records have."""

    def __init__(
        self,
        plan: TrainingPlan,
        *,
        rules: SumRules | None = None,
        ledger: Ledger | None = None,
        seeded: bool = False,
        **policy: Any,
    ) -> None:
        self.plan = plan
        self.schedule = make_schedule(plan, num_examples=UNITS)
        federation = seats.federation()
        self.safeguards = Safeguards(
            policy=Policy(replace(POLICY, allow_reproducible_noise=True, **policy)),
            ledger=ledger or MemoryLedger(),
            key_fn=key_of if seeded else None,
            reproducible=seeded,
            sums=TakingPart(
                identity=seats.identity("ward"),
                authority=federation.certificate,
                rules=rules or SumRules(max_colluding=0),
                run_key_fn=lambda job: seats.X25519PrivateKey.generate(),
                memory_fn=lambda job: SumsInMemory(),
            ),
        )
        self.account = RoundAccount(
            "ward",
            data=records(),
            ledger=self.safeguards.ledger,
            randomness=self.safeguards.randomness,
        )

    def others(self, count: int, **changes: Any) -> Sequence[Stated]:
        same = Stated(name="", noise_multiplier=self.schedule.noise_multiplier)
        return [replace(same, name=f"x{i}", **changes) for i in range(count)]

    def noise(self, *others: Stated, threshold: int = 3, scale_bits: int = 30) -> PeerNoise | None:
        about = context(*others, own=self.schedule, threshold=threshold, scale_bits=scale_bits)
        return PeerNoises(self.safeguards, self.account).of_round(
            self.plan, self.schedule, 1, about
        )


# --- how many honest institutions own rules leave


@pytest.mark.parametrize(
    ("rules", "cohort", "threshold", "honest"),
    [
        (SumRules(), 10, 7, 4),  # seven are in each sum, three of the ten collude
        (SumRules(), 10, 9, 6),
        (SumRules(min_survivors=9), 10, 7, 4),  # others may open one of seven without it
        (SumRules(max_colluding=0), 10, 6, 6),
        (SumRules(max_colluding=1), 5, 20, 4),  # no more than there are
        (SumRules(max_colluding=9), 10, 10, 1),
        (SumRules(), 3, 2, 2),
    ],
)
def test_honest_institutions_follow_from_own_rules(
    rules: SumRules, cohort: int, threshold: int, honest: int
) -> None:
    assert honest_by(rules, cohort=cohort, threshold=threshold) == honest


# --- noise of a cohort


def test_noise_weighted_by_records_by_hand() -> None:
    """Own 4 / 0.5 = 8, and the smaller of 6 and 15: 0.5 * 10; the grid 0.5 * 2 * 8 * 2^9."""
    cohort = [
        Stated(name="ward", noise_multiplier=4.0, sampling_rate=0.5),
        Stated(name="a", noise_multiplier=1.5, num_examples=7),
        Stated(name="b", noise_multiplier=3.0, sampling_rate=0.2),
    ]
    found = noise_in_sum(plan_of(), "ward", cohort, honest=2, scale_bits=9)
    assert found.of_record == PeerNoise(honest=2, noise_multiplier=pytest.approx(5.0))
    assert found.grid == pytest.approx(4096.0)


def test_noise_of_equal_weights_by_hand() -> None:
    """4 / (0.5 * 100) and 1.5 / (0.25 * 50) and more: 50 * hypot(0.08, 0.12)."""
    cohort = [
        Stated(name="ward", noise_multiplier=4.0, sampling_rate=0.5),
        Stated(name="a", noise_multiplier=1.5, num_examples=50),
        Stated(name="b", noise_multiplier=3.0, sampling_rate=0.2),
    ]
    found = noise_in_sum(plan_of(weighting="uniform"), "ward", cohort, honest=2, scale_bits=20)
    assert found.of_record.noise_multiplier == pytest.approx(50 * math.hypot(0.08, 0.12))
    assert found.grid == pytest.approx(0.08 * 2**20)


@pytest.mark.parametrize(("honest", "threshold"), [(3, 3), (5, 5)])
def test_a_round_has_the_noise_of_as_many_as_own_rules_leave(honest: int, threshold: int) -> None:
    ward = Ward(plan_of())
    found = ward.noise(*ward.others(5), threshold=threshold)
    sigma = ward.schedule.noise_multiplier
    assert found is not None
    assert found.honest == honest
    assert found.noise_multiplier == pytest.approx(sigma * math.sqrt(honest))


def test_those_with_the_least_noise_are_counted() -> None:
    ward = Ward(plan_of())
    quiet = ward.others(1, noise_multiplier=0.0)[0]
    found = ward.noise(replace(quiet, name="quiet"), *ward.others(4))
    assert found is not None
    assert found.noise_multiplier == pytest.approx(ward.schedule.noise_multiplier * math.sqrt(2))


@pytest.mark.parametrize(
    "plan",
    [
        replace(plan_of(), client=ClientConfig(local_steps=2, sampling_rate=0.25)),
        replace(plan_of(), sums=None),
    ],
)
def test_where_noise_does_not_add_up_there_is_none_of_others(plan: TrainingPlan) -> None:
    ward = Ward(plan)
    assert ward.noise(*ward.others(5)) is None


def test_noise_that_is_too_little_for_the_grid_counts_as_none() -> None:
    """At 2^9 others of sigma 1 / 4 have 0.5 * 2 * 1 * 2^9 = 512 units, fewer than 1,024."""
    cohort = [Stated(name="ward"), *(Stated(name=f"{i}", noise_multiplier=0.25) for i in range(3))]
    for bits, sigma in ((9, 1.0), (10, math.sqrt(1 + 2 / 16))):
        found = noise_in_sum(plan_of(), "ward", cohort, honest=3, scale_bits=bits)
        assert found.of_record.noise_multiplier == pytest.approx(sigma)
        assert not found.is_coarse


def test_a_coarse_grid_leaves_ones_own_noise() -> None:
    ward = Ward(plan_of())
    found = ward.noise(*ward.others(5), scale_bits=0)
    assert found == PeerNoise(honest=1, noise_multiplier=ward.schedule.noise_multiplier)


# --- plans that count on others


def counting(honest: int = 3) -> TrainingPlan:
    return plan_of(trust="peers", honest_peers=honest)


def test_a_plan_that_counts_on_as_many_as_there_are_keeps_its_epsilon() -> None:
    ward = Ward(counting())
    found = ward.noise(*ward.others(2))
    assert found is not None
    told = replace(ward.schedule, noise_multiplier=found.noise_multiplier)
    spent = told.epsilon_after(4, delta=DELTA, accountant="pld")
    assert 2.99 < spent <= 3.0


def test_a_cohort_that_leaves_fewer_honest_is_refused_with_the_figures() -> None:
    ward = Ward(counting(5))
    with pytest.raises(DeniedError, match="leave 3 honest institutions") as caught:
        ward.noise(*ward.others(5), threshold=3)
    assert caught.value.code == "sum_cohort"
    needed = ward.schedule.noise_multiplier * math.sqrt(5)
    assert caught.value.figures == {
        "asked": pytest.approx(needed * math.sqrt(3 / 5)),
        "allowed": pytest.approx(needed),
    }


def test_a_cohort_with_less_noise_is_refused() -> None:
    ward = Ward(counting())
    with pytest.raises(DeniedError, match="needed at least"):
        ward.noise(*ward.others(5, noise_multiplier=ward.schedule.noise_multiplier / 2))


def test_a_coarse_grid_is_refused_where_others_are_counted_on() -> None:
    ward = Ward(counting())
    with pytest.raises(DeniedError, match="units of the sum's grid") as caught:
        ward.noise(*ward.others(5), scale_bits=8)
    assert (caught.value.code, caught.value.figures["allowed"]) == ("sum_grid", 1024.0)


# --- the policy, and the second budget


def test_a_policy_bounds_what_who_sees_sums_alone_learns() -> None:
    assert Ward(plan_of(), max_epsilon_with_peers=1.8).noise(*Ward(plan_of()).others(5)) == Ward(
        plan_of()
    ).noise(*Ward(plan_of()).others(5))
    with pytest.raises(
        DeniedError, match=r"max_epsilon_with_peers: asked 1\.\d+, allowed 1;"
    ) as caught:
        Ward(plan_of(), max_epsilon_with_peers=1.0).noise(*Ward(plan_of()).others(5))
    assert caught.value.code == "policy_max_epsilon_with_peers"


def test_a_budget_is_asked_before_anything_is_spent(tmp_path: Path) -> None:
    ledger = build_ledger(tmp_path / "ward.ledger", epsilon=8.0, delta=DELTA, with_peers=1.0)
    ward = Ward(plan_of(), ledger=ledger)
    with pytest.raises(DeniedError, match="promises epsilon 1 at") as caught:
        ward.noise(*ward.others(5))
    assert caught.value.code == "budget_with_peers"
    assert not ledger.population.runs


# --- noise from a seed


def test_seeded_noise_counts_as_nobodys_where_an_account_is_kept(tmp_path: Path) -> None:
    ledger = build_ledger(tmp_path / "ward.ledger", epsilon=8.0, delta=DELTA)
    ward = Ward(plan_of(), ledger=ledger, seeded=True)
    assert ward.noise(*ward.others(5)) is None
    assert stated_noise(ward.safeguards, ward.schedule) == 0.0
    trusting = Ward(counting(), ledger=ledger, seeded=True)
    with pytest.raises(PrivacyError, match="derives from a seed"):
        trusting.noise(*trusting.others(5))


def test_in_a_simulation_it_is_nominal_like_epsilon() -> None:
    ward = Ward(plan_of(), seeded=True)
    assert stated_noise(ward.safeguards, ward.schedule) == ward.schedule.noise_multiplier
    assert ward.noise(*ward.others(5)) == Ward(plan_of()).noise(*ward.others(5))
