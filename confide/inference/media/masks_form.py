"""U-Nets, exported."""

from pathlib import Path
from typing import cast

from torch import nn

from confide.config.models.unet import UNetConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.media.modeling_confide_masks import (
    ConfideForSemanticSegmentation,
    ConfideMasksConfig,
)
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class MasksExporter(OwnExporter):
    """Writes and loads U-Nets; pictures are read by the schema in ``confide.json``."""

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
