"""U-Nets, exported."""

from pathlib import Path
from typing import cast

from torch import nn

from confide.config.models.unet import UNetConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.config.tasks.task import TaskConfig
from confide.inference.exporter import load_classifier, write_classifier
from confide.inference.media.modeling_confide_masks import (
    ConfideForSemanticSegmentation,
    ConfideMasksConfig,
)
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class MasksExporter:
    """Writes and loads U-Nets; pictures are read by the schema in ``confide.json``."""

    def whole(self, workload: Workload, plan: TrainingPlan, *, merge: bool) -> nn.Module:
        """Return the model: nothing of it is left out of training."""
        return workload.model

    def encoded_task(self, plan: TrainingPlan, form: str) -> TaskConfig:
        """Return the schema by which records are encoded: the plan's own."""
        return plan.encoded_task

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write nothing."""

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        schema, made = cast(SegmentationConfig, plan.task), ConfideForSemanticSegmentation
        config = ConfideMasksConfig(
            channels=schema.channels, widths=cast(UNetConfig, plan.backbone).widths
        )
        classes = {
            "AutoConfig": ConfideMasksConfig,
            "AutoModel": made,
            "AutoModelForSemanticSegmentation": made,
        }
        write_classifier(folder, config, workload.model.state_dict(), plan=plan, classes=classes)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        return load_classifier(folder, ConfideForSemanticSegmentation, ConfideMasksConfig)


__all__ = ["MasksExporter"]
