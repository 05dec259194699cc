"""Small plans to audit, and sabotages of the product."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import build_plan, build_task
from planted import scale_noise, scale_rate

from confide.client import reservation
from confide.client.training.private.clipping import ClippingRule
from confide.config.audit import AuditConfig
from confide.config.client import ClientConfig
from confide.config.privacy import PrivacyConfig
from confide.models.compute import Compute
from confide.protocol.plan import TrainingPlan
from confide.simulations.audit.plan import fresh_workload, make_mechanism
from confide.simulations.audit.situation import Candidates, Mechanism, Situation

N = 200


def private_plan(*, epsilon: float = 3.0, columns: int = 12, **privacy: Any) -> TrainingPlan:
    """Build a plan of three rounds of four steps."""
    return build_plan(
        task=build_task(*[f"c{i}" for i in range(columns)]),
        privacy=PrivacyConfig(**{"unit": "record", "epsilon": epsilon, **privacy}),
        client=ClientConfig(local_steps=4, sampling_rate=0.25),
        num_rounds=3,
        seed=None,
    )


def mechanism_of(plan: TrainingPlan) -> Mechanism:
    return make_mechanism(plan, Compute(), num_units=N, most=64, seed=0)


def situation_of(plan: TrainingPlan, mechanism: Mechanism | None, **settings: Any) -> Situation:
    """Put a situation together, with few trials."""
    few = {"trials": 200, "runs": 40, "draws": 3_000, **settings}
    workload = fresh_workload(plan, Compute())
    invented = (
        mechanism.crafted.companions if mechanism else workload.synthetic(16, torch.Generator())
    )
    return Situation(
        plan=plan,
        settings=AuditConfig(**few),
        workload=workload,
        num_units=N,
        mechanism=mechanism,
        trained=None,
        candidates=Candidates(
            examples=invented, texts=[f"record {i}" for i in range(len(invented))], is_real=False
        ),
        watch=lambda title, trials: iter(trials),
        still=mechanism.still if mechanism else None,
    )


def halve_noise(patch: pytest.MonkeyPatch) -> None:
    scale_noise(patch, 0.5)


def double_clipping(patch: pytest.MonkeyPatch) -> None:
    """As if the rule read another norm than the noise does."""
    factors = ClippingRule.factors
    patch.setattr(
        ClippingRule,
        "factors",
        lambda self, norms, *, rounded=0: factors(
            replace(self, clipping_norm=2 * self.clipping_norm), norms, rounded=rounded
        ),
    )


def double_rate(patch: pytest.MonkeyPatch) -> None:
    scale_rate(patch, 2.0)


def reuse_seed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reservation, "mechanism_of", lambda *_: "the same for every request")
