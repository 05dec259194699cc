"""Plans that ask for a release, and the shapes of what they are answered with."""

import dataclasses

from confide.config.client import ClientConfig
from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import CodecConfig, ObjectiveConfig
from confide.config.tasks.table import TASKS
from confide.config.tunings.tuning import TuningConfig
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.protocol.tensors import Shapes
from confide.releases.table import RELEASES

_RELEASE_S = 600.0


def release_plan(
    plan: TrainingPlan, kind: str = "quantiles", *, epsilon: float | None = None
) -> TrainingPlan:
    """Write the plan that asks for a release which another plan needs.

    Its text, and its job with it, say what is released and at which cost, and nothing of the run:
    the next run that needs the same is answered with the same, at no further cost.

    Args:
        plan: of the run.
        kind: of the release.
        epsilon: what the release costs a unit; None: ``privacy.edges_epsilon``.
    """
    entry = RELEASES[kind]
    cost = plan.privacy.edges_epsilon if epsilon is None else epsilon
    # Releases are not masked: each is noisy by itself, or exact where policies allow that
    bare = dataclasses.replace(plan, edges=None, sums=None, parents=(), compares=False)
    # Of texts a backbone makes the inputs, so that its own is named
    if LogisticConfig().kind in TASKS[plan.task.kind].backbones:
        bare = dataclasses.replace(
            bare,
            backbone=LogisticConfig(),
            backbone_sha256=None,
            tuning=TuningConfig(kind="full"),
        )
    # What the kind reads of the run, and nothing else of it
    kept = dataclasses.replace(bare, **{name: getattr(plan, name) for name in entry.keeps})
    asked = dataclasses.replace(
        kept,
        job="",
        objective=ObjectiveConfig(),
        client=ClientConfig(local_steps=1, sampling_rate=1.0),
        privacy=PrivacyConfig(
            unit=plan.privacy.unit,
            epsilon=cost if plan.private else PrivacyConfig().epsilon,
            delta=plan.privacy.delta,
            max_records_per_group=plan.privacy.max_records_per_group,
        ),
        num_rounds=1,
        deadline_s=_RELEASE_S,
        seed=None,
        releases=kind,
        upload=CodecConfig(),
        download=CodecConfig(),
    )
    return dataclasses.replace(asked, job=f"{entry.job}-{plan_sha256(asked.to_json())[:16]}")


def release_shapes(plan: TrainingPlan) -> Shapes:
    """Return the shapes of the answer to a plan that asks for a release."""
    return dict(RELEASES[plan.releases].shapes_fn(plan))


__all__ = ["release_plan", "release_shapes"]
