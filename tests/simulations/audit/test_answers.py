"""An audit of a language model: noise where adapters stand still, and attacks on its model."""

from pathlib import Path

import pytest
from audits import N, halve_noise, situation_of
from builders import build_tuning
from small_language_models import build_answer_plan, make_language_model

from confide.client.training.private.clipping import ClippingRule
from confide.config.client import ClientConfig
from confide.config.privacy import PrivacyConfig
from confide.errors import PrivacyError
from confide.models.compute import Compute
from confide.protocol.plan import TrainingPlan
from confide.simulations.audit.canary import audit_canary
from confide.simulations.audit.crafted import record_gradients
from confide.simulations.audit.inversion import audit_inversion
from confide.simulations.audit.noise import audit_noise
from confide.simulations.audit.plan import fresh_workload, make_still
from confide.simulations.audit.situation import WITHOUT_CLASSES, Situation, Still


def private_plan(folder: Path, tuning: str = "lora") -> TrainingPlan:
    return build_answer_plan(
        make_language_model(folder),
        tuning=build_tuning(tuning, rank=4),
        privacy=PrivacyConfig(unit="record", epsilon=3.0),
        client=ClientConfig(local_steps=4, sampling_rate=0.25),
        num_rounds=3,
        seed=None,
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    return private_plan(tmp_path_factory.mktemp("backbone"))


@pytest.fixture
def still(plan: TrainingPlan) -> Still:
    return make_still(plan, Compute(), num_units=N, seed=0)


def noise_of(plan: TrainingPlan, still: Still) -> dict[str, bool]:
    situation = situation_of(plan, None, draws=20_000)
    told = audit_noise(Situation(**{**vars(situation), "still": still}))
    return {finding.name: finding.fault for finding in told.findings}


def test_no_record_has_a_gradient_where_adapters_are_zero(plan: TrainingPlan, still: Still) -> None:
    workload = fresh_workload(plan, Compute())
    for record in record_gradients(workload, still.start, still.records):
        assert all(float(gradient.abs().max()) == 0.0 for gradient in record.values())
    # Else all of it would be zero, whatever is asked
    differs = [name for name in still.start if not still.start[name].equal(still.other[name])]
    assert len(differs) == 1


def test_sound_noise_of_a_language_model_is_no_fault(plan: TrainingPlan, still: Still) -> None:
    assert set(noise_of(plan, still).values()) == {False}


def test_noise_halved_in_a_language_model_is_found(
    plan: TrainingPlan, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    halve_noise(monkeypatch)
    assert noise_of(plan, still)["noise of a step"]


@pytest.mark.parametrize("halved", [False, True])
def test_halves_that_have_no_turn_are_no_noise(
    halved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = private_plan(tmp_path, "lora_alternating")
    still = make_still(plan, Compute(), num_units=N, seed=0)
    if halved:
        halve_noise(monkeypatch)
    assert noise_of(plan, still)["noise of a step"] == halved


def test_gradients_add_nothing_to_what_is_measured(
    plan: TrainingPlan, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if records were not clipped at all: the noise is as large."""
    monkeypatch.setattr(
        ClippingRule, "factors", lambda self, norms, *, rounded=0: norms.new_ones(norms.shape)
    )
    assert not noise_of(plan, still)["noise of a step"]


def test_a_frozen_half_leaves_gradients_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="adapters with two trained halves"):
        make_still(private_plan(tmp_path, "lora_ffa"), Compute(), num_units=N, seed=0)


def test_what_takes_classes_or_features_says_so(plan: TrainingPlan) -> None:
    situation = situation_of(plan, None)
    assert audit_canary(situation).notes == [WITHOUT_CLASSES]
    assert "hide inputs" in audit_inversion(situation).notes[0]
