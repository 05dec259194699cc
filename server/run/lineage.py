"""Where a model comes from: what it was made by, and what it started from."""

from typing import Any

from confide.config.models.backbone import OfFolder
from confide.errors import ModelError
from confide.models.backbones import find_backbone
from confide.models.licences import licence_of
from confide.protocol.plan import TrainingPlan
from confide.server.run.going_on import earlier_runs


def lineage_of(plan: TrainingPlan) -> dict[str, Any]:
    """Return a summary's ``lineage``: hashes, earlier runs, and what the backbone's folder states.

    Args:
        plan: of the run.
    """
    lineage: dict[str, Any] = {"plan_sha256": plan.sha256, **earlier_runs(plan)}
    weights = plan.backbone.pretrained
    if weights is None or not isinstance(plan.backbone, OfFolder):
        return lineage
    try:
        licence = licence_of(find_backbone(weights))
        stated, name = licence.sentence, licence.name
    except ModelError:  # moved since it was read
        stated, name = "not stated", ""
    return lineage | {
        "backbone": plan.backbone.short_name,
        "backbone_sha256": plan.backbone_sha256,
        "backbone_license": stated,
        "backbone_license_id": name,
    }


__all__ = ["lineage_of"]
