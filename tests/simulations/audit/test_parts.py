"""Each part of an audit on a small plan: sound ones pass, sabotaged ones do not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from audits import (
    N,
    double_clipping,
    double_rate,
    halve_noise,
    mechanism_of,
    private_plan,
    reuse_seed,
    situation_of,
)
from builders import build_plan, build_tuning
from company import ALONE, TOGETHER
from small_models import TEXT, make_backbone

from confide.client import schedule
from confide.client.training.private import gradients
from confide.config.client import ClientConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.errors import ConfigError
from confide.models.backbones import content_hash, find_backbone
from confide.privacy.randomness import KeyedGenerator
from confide.protocol.plan import TrainingPlan
from confide.simulations.audit import situation as situations
from confide.simulations.audit.findings import Finding, PartResult
from confide.simulations.audit.inversion import audit_inversion
from confide.simulations.audit.membership import audit_membership
from confide.simulations.audit.noise import audit_noise
from confide.simulations.audit.plan import run_parts
from confide.simulations.audit.sampling import audit_sampling
from confide.simulations.audit.situation import Part, Situation, Trained
from confide.tasks.task import LABELS, Examples

in_any_company = pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
Sabotage = Callable[[pytest.MonkeyPatch], None]


def faults(result: PartResult) -> list[str]:
    return [one.name for one in result.findings if one.fault]


def sabotaged(
    plan: TrainingPlan, sabotage: Sabotage, part: Part, patch: pytest.MonkeyPatch, **settings: int
) -> list[str]:
    situation = situation_of(plan, mechanism_of(plan), **settings)
    sabotage(patch)  # after the preflight, which finds a wrong clipping by itself
    return faults(part(situation))


@pytest.mark.usefixtures("engine")
@in_any_company
def test_a_sound_plan_passes_every_part() -> None:
    plan = private_plan()
    parts = ["noise", "sampling", "canary", "one_run"]
    results = run_parts(situation_of(plan, mechanism_of(plan), parts=parts))
    assert [faults(result) for result in results.values()] == [[], [], [], []]
    names = [one.name for result in results.values() for one in result.findings]
    assert len(set(names)) == len(names) <= situations.MOST_TESTS


def test_every_bound_stands_beside_its_cap() -> None:
    plan = private_plan()
    results = run_parts(situation_of(plan, mechanism_of(plan), parts=["canary", "one_run"]))
    bounds = [
        one for result in results.values() for one in result.findings if one.unit == "epsilon"
    ]
    assert len(bounds) == 5
    for one in bounds:
        assert one.cap is not None
        assert 0 <= one.found <= one.cap


@pytest.mark.usefixtures("engine")
@in_any_company
@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_halved_noise_is_found_by_its_variance(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = private_plan(epsilon=epsilon)
    assert sabotaged(plan, halve_noise, audit_noise, monkeypatch) == ["noise of a step"]


@pytest.mark.usefixtures("engine")
@in_any_company
@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_one_seed_for_two_rounds_is_found_by_correlation(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = private_plan(epsilon=epsilon)
    assert "noise of two requests" in sabotaged(plan, reuse_seed, audit_noise, monkeypatch)


def test_a_key_that_forgets_the_institution_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = private_plan()
    situation = situation_of(plan, mechanism_of(plan))
    monkeypatch.setattr(
        "confide.client.assembly.mechanism_key",
        lambda secret, name, job, mechanism: mechanism.encode().ljust(32)[:32],
    )
    assert "noise of two requests" in faults(audit_noise(situation))


@pytest.mark.usefixtures("engine")
@in_any_company
@pytest.mark.parametrize("epsilon", [3.0, 8.0])
def test_a_doubled_rate_is_found_by_what_a_step_holds(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = private_plan(epsilon=epsilon)
    assert sabotaged(plan, double_rate, audit_sampling, monkeypatch) == [
        "what a step holds of a unit, over C"
    ]


def test_rounds_that_sample_the_same_units_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = private_plan(epsilon=8.0, columns=40)
    situation = situation_of(plan, mechanism_of(plan))
    derive = gradients.derive_key
    monkeypatch.setattr(
        gradients,
        "derive_key",
        lambda secret, *context: derive(bytes(32) if context == ("mask",) else secret, *context),
    )
    found = faults(audit_sampling(situation))
    assert "samples of two rounds" in found


def test_a_tensor_without_noise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = private_plan()
    situation = situation_of(plan, mechanism_of(plan))
    add_normal = KeyedGenerator.add_normal
    # The last one is the bias: two values of 26.
    monkeypatch.setattr(
        KeyedGenerator,
        "add_normal",
        lambda self, targets, *, std: add_normal(self, targets[:-1], std=std),
    )
    [noise] = [one for one in audit_noise(situation).findings if one.name == "noise of a step"]
    assert noise.fault
    assert noise.trials.endswith("wrong in layers.0.bias")


@pytest.mark.usefixtures("engine")
@in_any_company
@pytest.mark.parametrize("epsilon", [3.0, 8.0])
def test_doubled_clipping_is_found_by_what_a_step_holds(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = private_plan(epsilon=epsilon)
    assert sabotaged(plan, double_clipping, audit_sampling, monkeypatch) == [
        "what a step holds of a unit, over C"
    ]


def test_an_institution_that_names_too_little_noise_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibrate = schedule.calibrate
    monkeypatch.setattr(schedule, "calibrate", lambda **terms: calibrate(**terms) / 2)
    plan = private_plan()
    assert faults(audit_noise(situation_of(plan, mechanism_of(plan)))) == [
        "epsilon of the schedule that the institution names"
    ]


def test_groups_are_audited_as_units() -> None:
    plan = private_plan(unit="group")
    result = audit_sampling(situation_of(plan, mechanism_of(plan)))
    finding = result.findings[0]
    assert finding.interval is not None
    assert not finding.fault
    assert finding.found == pytest.approx(0.25, abs=0.1)


def test_a_plan_without_privacy_makes_no_claim() -> None:
    plan = private_plan(unit="none")
    situation = situation_of(plan, None, parts=["noise", "sampling", "canary", "one_run"])
    for result in run_parts(situation).values():
        assert not result.findings
        assert "no claim" in result.notes[0]


def _trained(situation: Situation, *, memorised: bool) -> Trained:
    """Invent a model that knows its members' labels, or none."""
    generator = torch.Generator().manual_seed(0)
    columns = 12
    members, others = (
        Examples(
            {
                "features": torch.randn((2000, columns), generator=generator),
                LABELS: torch.randint(0, 2, (2000,), generator=generator),
            }
        )
        for _ in range(2)
    )
    start = {name: torch.zeros_like(p) for name, p in situation.workload.model.named_parameters()}
    final = {name: tensor.clone() for name, tensor in start.items()}
    if memorised:  # the mean of the members' own gradients, and of nobody else's
        signs = 2.0 * members.labels - 1
        direction = (members.columns["features"] * signs[:, None]).mean(dim=0)
        final["layers.0.weight"] = 50 * torch.stack([-direction, direction])
    return Trained(start=start, final=final, members=members, others=others)


@pytest.mark.parametrize("memorised", [True, False])
def test_membership_tells_a_model_that_memorised(memorised: bool) -> None:
    situation = situation_of(private_plan(), None)
    situation = replace(situation, trained=_trained(situation, memorised=memorised))
    result = audit_membership(situation)
    low, high = result.shown["attacks"]["calibrated"]["auc_interval"]
    assert (low > 0.5) is memorised
    assert low <= result.shown["attacks"]["calibrated"]["auc"] <= high
    [rate] = result.shown["attacks"]["loss"]["rates"]
    assert rate["asked"] == 0.01
    assert "0.1% FPR wants 10,000 non-members" in result.notes[0]


def test_a_plain_update_shows_its_record_and_a_private_one_does_not() -> None:
    plan = private_plan(epsilon=1.0)
    shown = audit_inversion(situation_of(plan, mechanism_of(plan))).shown
    assert shown["plain"]["text"] == shown["true"]
    assert shown["plain"]["rank"] == 1
    assert numpy.allclose(shown["vectors"]["plain"], shown["vectors"]["true"], atol=1e-3)
    assert shown["private"]["similarity"] < 0.99
    assert len(shown["vectors"]["private"]) == 12


def test_a_finding_says_so_where_chance_may_have_lifted_a_bound() -> None:
    def finding(*, found: float, fault: bool) -> Finding:
        return Finding(
            name="canary",
            unit="epsilon",
            claim=1.0,
            found=found,
            cap=5.0,
            trials="",
            fault=fault,
            meaning="",
        )

    assert finding(found=0.5, fault=False).verdict == "below the claim"
    assert finding(found=1.1, fault=False).verdict == "above, perhaps by chance"
    assert finding(found=2.0, fault=True).verdict == "FAULT"


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"audit\.parts=\['dowsing'\]"):
        compose(["audit.parts=[noise,dowsing]"])


def test_no_population_is_charged() -> None:
    """Every trial has a ledger in memory of its own, and no file is opened."""
    plan = private_plan()
    door = mechanism_of(plan).door
    institutions = [door.open(mechanism_of(plan).crafted.companions) for _ in range(2)]
    assert institutions[0].ledger is not institutions[1].ledger
    assert not any(institution.ledger.keeps_account for institution in institutions)
    assert door.num_units == N


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_text_is_read_off_a_plain_update_of_the_whole_encoder(
    tuning: str, tmp_path: Path
) -> None:
    backbone = make_backbone(tmp_path)
    plan = build_plan(
        task=TEXT,
        backbone=backbone,
        backbone_sha256=content_hash(find_backbone(backbone)),
        tuning=build_tuning(tuning, rank=2),
        privacy=PrivacyConfig(unit="record", epsilon=1.0),
        client=ClientConfig(local_steps=1, sampling_rate=0.5),
        num_rounds=1,
        seed=None,
    )
    result = audit_inversion(situation_of(plan, mechanism_of(plan)))
    if tuning == "lora":
        assert "analytic attack" in result.notes[0]
        return
    plain, private = result.shown["plain"], result.shown["private"]
    assert plain["recovered"] == plain["words"]
    assert private["recovered"] < private["words"]
