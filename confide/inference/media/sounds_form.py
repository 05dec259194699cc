"""Networks of spectrograms, exported."""

from pathlib import Path
from typing import cast

from torch import nn

from confide.config.models.cnn import CnnConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.media.modeling_confide_sounds import (
    ConfideForAudioClassification,
    ConfideSoundsConfig,
)
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class SoundsExporter(OwnExporter):
    """Writes and loads networks; sounds are encoded by the schema in ``confide.json``."""

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        schema = cast(AudioClassificationConfig, plan.task)
        config = ConfideSoundsConfig(
            frames=schema.num_frames,
            bands=schema.bands,
            widths=cast(CnnConfig, plan.backbone).widths,
            row_norm=plan.backbone.row_norm,
        )
        made = ConfideForAudioClassification
        classes = {
            "AutoConfig": ConfideSoundsConfig,
            "AutoModel": made,
            "AutoModelForAudioClassification": made,
        }
        write_classifier(folder, config, workload.model.state_dict(), plan=plan, classes=classes)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        return load_classifier(folder, ConfideForAudioClassification, ConfideSoundsConfig)


__all__ = ["SoundsExporter"]
