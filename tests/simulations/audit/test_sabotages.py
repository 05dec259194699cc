"""Both jobs, sound and sabotaged, at three epsilons: minutes each."""

from collections.abc import Callable

import pytest
from audits import double_clipping, double_rate, halve_noise, reuse_seed

from confide.config.composing.compose import compose
from confide.models.backbones import pretrained_hash
from confide.models.compute import Compute
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.simulations.audit.plan import fresh_workload, make_mechanism, run_parts
from confide.simulations.audit.situation import Candidates, Situation

JOBS = {
    "main": (1360, ()),
    "heart": (243, ("experiment=heart_disease", "privacy=record")),
}
FOUND: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], list[str], set[str]]] = {
    "noise halved": (halve_noise, ["noise", "canary"], {"noise of a step"}),
    "clipping 2 C": (
        double_clipping,
        ["sampling", "canary"],
        {"by how much one record moves a sum, over C", "what a step holds of a unit, over C"},
    ),
    "q doubled": (double_rate, ["sampling"], {"what a step holds of a unit, over C"}),
    "one seed for two rounds": (reuse_seed, ["noise"], {"noise of two requests"}),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def _plan(job: str, epsilon: float) -> tuple[TrainingPlan, int]:
    n, overrides = JOBS[job]
    config = compose([*overrides, f"privacy.epsilon={epsilon}"])
    return make_plan(config, backbone_sha256=pretrained_hash(config.backbone)), n


def _situation(plan: TrainingPlan, n: int, parts: list[str], *, runs: int) -> Situation:
    settings = compose([f"audit.parts=[{','.join(parts)}]", f"audit.runs={runs}"]).audit
    mechanism = make_mechanism(plan, Compute(), num_units=n, most=settings.canaries, seed=0)
    return Situation(
        plan=plan,
        settings=settings,
        workload=fresh_workload(plan, Compute()),
        num_units=n,
        mechanism=mechanism,
        trained=None,
        candidates=Candidates(examples=mechanism.crafted.companions, texts=[], is_real=False),
        watch=lambda title, trials: iter(trials),
    )


def _faults(situation: Situation) -> set[str]:
    results = run_parts(situation).values()
    return {one.name for result in results for one in result.findings if one.fault}


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("job", JOBS)
def test_bounds_stay_below_the_claim_of_a_sound_job(job: str, epsilon: float) -> None:
    plan, n = _plan(job, epsilon)
    parts = ["noise", "sampling", "canary", "one_run"]
    assert _faults(_situation(plan, n, parts, runs=200)) == set()


@pytest.mark.parametrize("sabotage", FOUND)
@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("job", JOBS)
def test_each_sabotage_is_found(
    job: str, epsilon: float, sabotage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, parts, found = FOUND[sabotage]
    plan, n = _plan(job, epsilon)
    situation = _situation(plan, n, parts, runs=40)
    do(monkeypatch)
    assert found <= _faults(situation)
