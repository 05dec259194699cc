"""The two phases of a round: what is refused or counted before, and held and settled after."""

from dataclasses import replace
from typing import Any

import pytest
from builders import POLICY, build_institution, build_plan, build_request, workload_of

from confide.client.institution import Institution
from confide.client.training.trainer import Trainer
from confide.client.training_round import RoundWork
from confide.config.client import ClientConfig
from confide.config.privacy import PrivacyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Reply, Request
from confide.protocol.tensors import decode
from confide.strategies.algorithm import ClientResult

PLAN = build_plan(
    client=ClientConfig(batch_size=8, local_steps=3),
    privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3),
    num_rounds=2,
)
TRAINER = Trainer(workload_of(PLAN), private=True)
START = trainable_tensors(TRAINER.workload.model)


def make_institution(**fields: Any) -> Institution:
    return build_institution(PLAN, trainer=TRAINER, **fields)


def ask(server_round: int = 1, **fields: Any) -> Request:
    return build_request(PLAN, server_round, tensors=START, **fields)


def begun(institution: Institution, request: Request) -> RoundWork:
    work = institution.begin(request)
    assert isinstance(work, RoundWork)
    return work


def computed(institution: Institution, work: RoundWork) -> ClientResult:
    return institution._rounds.compute(work)


def test_both_phases_give_what_the_door_gives() -> None:
    one, two = make_institution(), make_institution()
    work = begun(one, ask())
    reply = one.end(work, lambda: computed(one, work))
    whole = two.handle("train", ask())
    assert reply.arrays is not None
    assert whole.arrays is not None
    assert replace(reply, arrays=None) == replace(whole, arrays=None)
    first, second = (
        decode(arrays, TRAINER.shapes, max_value=1e9).tensors
        for arrays in (reply.arrays, whole.arrays)
    )
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize("beyond", [0, 3])
def test_what_is_refused_is_refused_before(beyond: int) -> None:
    institution = make_institution()
    reply = institution.begin(ask(beyond))
    assert isinstance(reply, Reply)
    assert reply.refusal == "rounds_spent"
    assert institution.spent(PLAN.job).count == 0


def test_a_round_is_counted_before_it_is_computed() -> None:
    institution = make_institution()
    begun(institution, ask())
    assert institution.spent(PLAN.job).count == 1


def test_a_computation_that_breaks_off_is_a_refusal_and_stays_counted() -> None:
    institution = make_institution()

    def breaks() -> ClientResult:
        raise RuntimeError("patient 7")

    reply = institution.end(begun(institution, ask()), breaks)
    assert (reply.refusal, reply.arrays) == ("internal_error", None)
    assert institution.spent(PLAN.job).count == 1


def test_the_policy_holds_what_was_computed_by_whomever() -> None:
    institution = make_institution(policy=replace(POLICY, max_update_norm=1e-6))
    work = begun(institution, ask())
    result = computed(institution, work)
    for sends_update in (True, False):
        reply = institution.end(work, lambda: result, sends_update=sends_update)
        assert reply.refusal == "policy_max_update_norm"
    assert institution.handle("train", ask()).refusal is not None


def test_an_update_that_is_added_up_elsewhere_is_settled_all_the_same() -> None:
    institution = make_institution()
    work = begun(institution, ask())
    reply = institution.end(work, lambda: computed(institution, work), sends_update=False)
    assert (reply.refusal, reply.arrays, reply.num_examples) == (None, None, 40)
    assert reply.figures["epsilon"] > 0
