"""An institution that has no time for all its steps sends those that it took, and says how many."""

from pathlib import Path
from typing import Any

import pytest
from builders import build_institution, build_ledger, build_plan, build_request
from builders import workload_of as build

from confide.client.algorithm_state import ClientStates
from confide.client.institution import Institution
from confide.client.ledger.runs import run_name
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.objectives import GradientSumConfig, ScaffoldConfig
from confide.errors import ProtocolError
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode
from confide.strategies.algorithm import join_extra, zeros_of
from confide.strategies.parts import build_algorithm

STEPS = 6
AT_ONCE = 1e-9
"""So short that time is over after the first step."""
PRIVATE = PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3)


def plan_of(*, within_s: float | None = None, steps: int = STEPS, **fields: Any) -> TrainingPlan:
    client = ClientConfig(
        batch_size=8, local_steps=steps, steps_within_s=within_s, optimizer=OptimizerConfig()
    )
    return build_plan(**{"client": client, "num_rounds": 2, **fields})


def answer(plan: TrainingPlan, institution: Institution | None = None, **fields: Any) -> Reply:
    institution = institution or build_institution(plan, **fields)
    start = trainable_tensors(build(plan).model)
    if plan.objective.kind == "scaffold":
        start = join_extra(start, zeros_of(start))
    reply = institution.handle("train", build_request(plan, tensors=start))
    assert reply.refusal is None
    return reply


def tensors_of(plan: TrainingPlan, reply: Reply) -> Tensors:
    assert reply.arrays is not None
    shapes = {name: tuple(p.shape) for name, p in trainable_tensors(build(plan).model).items()}
    shapes = build_algorithm(plan.objective).reply_shapes(shapes)
    return decode(reply.arrays, shapes, max_value=1e9).tensors


def same(one: Tensors, other: Tensors) -> bool:
    return all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("privacy", [PrivacyConfig(), PRIVATE], ids=["plain", "private"])
def test_who_has_time_for_one_step_takes_the_first(privacy: PrivacyConfig) -> None:
    short = plan_of(within_s=AT_ONCE, privacy=privacy)
    reply = answer(short)
    assert reply.figures["steps"] == 1
    if privacy.unit != "none":
        return  # noise of one step is another than that of the first of six
    one = plan_of(steps=1, privacy=privacy)
    assert same(tensors_of(short, reply), tensors_of(one, answer(one)))


def test_who_has_time_for_all_steps_is_as_without_a_limit() -> None:
    long, without = plan_of(within_s=1e6), plan_of()
    reply, whole = answer(long), answer(without)
    assert reply.figures["steps"] == STEPS
    assert "steps" not in whole.figures
    assert same(tensors_of(long, reply), tensors_of(without, whole))


@pytest.mark.parametrize(("seconds", "steps"), [(3.0, 6), (6.0, 3), (7.0, 2), (100.0, 1)])
def test_a_simulated_speed_decides_beforehand(seconds: float, steps: int) -> None:
    plan, asked = plan_of(within_s=3.0), list[tuple[int, int]]()

    def seconds_of(server_round: int, units: int) -> float:
        asked.append((server_round, units))
        return seconds

    reply = answer(plan, seconds_fn=seconds_of)
    assert reply.figures["steps"] == steps
    assert asked == [(1, 40)]
    few = plan_of(steps=steps)
    assert same(tensors_of(plan, reply), tensors_of(few, answer(few)))


def test_all_steps_are_charged(tmp_path: Path) -> None:
    def spent(plan: TrainingPlan, folder: str) -> float:
        ledger = build_ledger(tmp_path / folder / "ward.ledger", epsilon=8.0, delta=1e-3)
        institution = build_institution(plan, ledger=ledger, key_fn=None)
        answer(plan, institution)
        assert institution.spent(plan.job).count == 1
        terms = ledger.population.runs[run_name("ward", plan.job)].terms
        assert terms.steps == STEPS
        return ledger.population.spent

    (tmp_path / "short").mkdir()
    (tmp_path / "whole").mkdir()
    short = plan_of(within_s=AT_ONCE, privacy=PRIVATE)
    assert spent(short, "short") == spent(plan_of(privacy=PRIVATE), "whole")


def test_scaffold_counts_the_steps_that_were_taken(tmp_path: Path) -> None:
    """Its control variate is the mean gradient of the steps: of one here, whatever was planned."""
    short = plan_of(within_s=AT_ONCE, objective=ScaffoldConfig())
    one = plan_of(steps=1, objective=ScaffoldConfig())
    first, second = (
        tensors_of(plan, answer(plan, states=ClientStates(tmp_path / str(number), kept=2)))
        for number, plan in enumerate((short, one))
    )
    assert same(first, second)


def test_plans_that_do_not_ask_for_it_are_written_as_before() -> None:
    assert "steps_within_s" not in plan_of().to_json()
    text = plan_of(within_s=2.5).to_json()
    assert TrainingPlan.from_json(text).client.steps_within_s == 2.5


def test_an_algorithm_of_one_sum_is_refused() -> None:
    plan = plan_of(within_s=2.0, objective=GradientSumConfig())
    with pytest.raises(ProtocolError, match=r"takes all its steps, and client\.steps_within_s=2"):
        TrainingPlan.from_json(plan.to_json())
