"""An institution's share of a sum's noise: where it comes from, and what it is put on."""

from dataclasses import replace

import numpy
import pytest
import torch
from seats import LENGTH, Cohort, cohort

from confide.client.reservation import Randomness
from confide.client.secure_sums.masking import SumPlace
from confide.client.secure_sums.memory import SCORES
from confide.client.secure_sums.noise import share_secret, with_share
from confide.client.secure_sums.seat import Seat
from confide.client.secure_sums.sum_rules import SumRules
from confide.config.composing.compose import compose
from confide.config.noise_share import NoiseShare
from confide.errors import DeniedError, ProtocolError
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import DecodedTensors
from confide.strategies.masked_sums import scores_in

SHARED = (
    "experiment=heart_disease",
    "aggregation=secure",
    "strategy.aggregator.weighting=uniform",
    "strategy/mechanism=gaussian",
    "strategy.mechanism.noise_multiplier=1",
    "strategy.mechanism.honest=2",
)
PLAN = make_plan(compose(list(SHARED)), backbone_sha256=None)
START = DecodedTensors({"w": torch.ones(2)})
FRESH = Randomness(key_fn=None, reproducible=False)
SEEDED = Randomness(key_fn=lambda job, what: what.encode().ljust(32)[-32:], reproducible=True)


def place(of: Cohort, *, seat: Seat | None = None, threshold: int | None = None) -> SumPlace:
    assert PLAN.sums is not None
    context = of.context if threshold is None else replace(of.context, threshold=threshold)
    return SumPlace(
        context=context,
        seat=seat or of.seats["h00"],
        sums=PLAN.sums,
        scores=scores_in(PLAN, ("validation",), 4),
        scored="",
    )


def secret(randomness: Randomness, where: SumPlace | None, start: DecodedTensors = START) -> bytes:
    return share_secret(randomness, PLAN, 1, start, where)


def test_a_plan_states_the_share_and_its_bound() -> None:
    assert PLAN.noise_share == NoiseShare(clip_norm=1.0, noise_multiplier=1.0, honest=2)
    assert PLAN.sums is not None
    assert PLAN.sums.max_value == PLAN.noise_share.largest
    assert TrainingPlan.from_json(PLAN.to_json()) == PLAN


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weighting": "num_examples"}, "expected uniform"),
        ({"max_value": 2.0}, r"max_value=2: expected 7\.36"),
        (
            {"share": NoiseShare(clip_norm=1.0, noise_multiplier=1.0, honest=101)},
            "honest=1 to 100",
        ),
    ],
)
def test_a_plan_whose_sums_do_not_fit_its_shares_is_refused(
    changed: dict[str, object], said: str
) -> None:
    assert PLAN.sums is not None
    wrong = replace(PLAN, sums=replace(PLAN.sums, **changed))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=said):
        TrainingPlan.from_json(wrong.to_json())


def test_noise_of_a_masked_sum_is_its_own_and_the_same_after_a_restart() -> None:
    one, other = cohort(4), cohort(4)
    told = secret(FRESH, place(one))
    assert secret(FRESH, place(one)) == told
    assert secret(FRESH, place(one, seat=one.seats["h01"])) != told
    # Another sum of the same round: equal noise on both would cancel
    assert secret(FRESH, place(one, threshold=4)) != told
    assert secret(FRESH, place(other)) != told


def test_a_seed_gives_the_same_noise_with_masks_and_without() -> None:
    assert secret(SEEDED, place(cohort(4))) == secret(SEEDED, None)
    assert secret(SEEDED, None) != secret(SEEDED, None, DecodedTensors({"w": torch.zeros(2)}))


def test_without_masks_and_seed_noise_is_fresh() -> None:
    assert secret(FRESH, None) != secret(FRESH, None)


def test_a_plan_without_shares_has_no_secret() -> None:
    plain = make_plan(compose(["experiment=heart_disease"]), backbone_sha256=None)
    assert plain.noise_share is None
    assert share_secret(FRESH, plain, 1, START, None) == b""


def test_another_update_has_other_noise() -> None:
    share = NoiseShare(clip_norm=1.0, noise_multiplier=1.0, honest=1)
    one, again, other = (
        with_share({"a": torch.tensor([value]), "b": torch.zeros(1, 2)}, share, secret=bytes(32))
        for value in (0.5, 0.5, 0.25)
    )
    assert {name: value.shape for name, value in one.items()} == {"a": (1,), "b": (1, 2)}
    assert torch.equal(one["b"], again["b"])
    assert not torch.equal(one["b"], other["b"])


def test_an_update_that_is_not_finite_is_left_for_the_policy() -> None:
    share = NoiseShare(clip_norm=1.0, noise_multiplier=1.0, honest=1)
    update = {"w": torch.tensor([1.0, float("nan")])}
    assert with_share(update, share, secret=bytes(32)) is update


def test_no_more_sums_than_rounds_have_an_update_in_them() -> None:
    """Under noise each is a release, whatever round a coordinator says that it is of."""
    four = cohort(4)
    seat, first = four.seats["h00"], four.context
    second = replace(first, server_round=2)
    seat.check_share(first, honest=2, rounds=1)
    four.mask("h00", first)
    seat.check_share(first, honest=2, rounds=1)  # the same question again
    nothing = numpy.zeros(LENGTH, dtype=numpy.int64)
    seat.mask(replace(first, question="scores"), nothing, SCORES + "scores")
    with pytest.raises(DeniedError) as raised:
        seat.check_share(second, honest=2, rounds=1)
    assert raised.value.code == Refusal.ROUNDS_SPENT
    seat.check_share(second, honest=2, rounds=2)


@pytest.mark.parametrize(
    ("colluding", "threshold", "honest", "allowed"),
    [(None, 6, 4, 3), (0, 6, 7, 6), (2, 6, 5, 4)],
)
def test_noise_that_counts_on_more_than_may_be_trusted_is_denied(
    colluding: int | None, threshold: int, honest: int, allowed: int
) -> None:
    """Of ten institutions three may collude where nobody said."""
    context = replace(cohort(10).context, threshold=threshold)
    rules = SumRules(max_colluding=colluding)
    rules.check_honest(context, 10, allowed)
    with pytest.raises(DeniedError, match="its noise is split over") as raised:
        rules.check_honest(context, 10, honest)
    assert raised.value.code == Refusal.SUM_THRESHOLD
    assert raised.value.figures == {"asked": honest, "allowed": allowed}


def test_noise_counts_on_none_that_does_not_count() -> None:
    context = replace(cohort(10).context, threshold=9)
    rules = SumRules(max_colluding=1)
    rules.check_honest(context, 7, 5)
    with pytest.raises(DeniedError, match="its noise is split over"):
        rules.check_honest(context, 7, 6)
