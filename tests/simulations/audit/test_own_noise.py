"""A plan that counts on noise of others is audited for what an institution's own promises."""

from dataclasses import replace

import pytest
from audits import N, private_plan

from confide.client.schedule import make_schedule
from confide.config.client import ClientConfig
from confide.protocol.plan import TrainingPlan
from confide.simulations.audit.run import of_own_noise

PLAN = replace(private_plan(), client=ClientConfig(local_steps=1, sampling_rate=0.25))


def test_it_has_the_same_noise_and_claims_more() -> None:
    counting = replace(PLAN, privacy=replace(PLAN.privacy, trust="peers", honest_peers=4))
    audited = of_own_noise(counting, num_units=N)
    sigmas = [make_schedule(one, num_examples=N).noise_multiplier for one in (counting, audited)]
    assert sigmas[1] == pytest.approx(sigmas[0], rel=2e-4)
    assert audited.privacy.epsilon > 2 * PLAN.privacy.epsilon
    assert TrainingPlan.from_json(audited.to_json()).privacy.trust == "alone"


def test_a_plan_that_counts_on_nobody_is_audited_as_it_is() -> None:
    assert of_own_noise(PLAN, num_units=N) is PLAN
