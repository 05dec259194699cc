"""Networks for speech, exported."""

from pathlib import Path
from typing import cast

from torch import nn

from confide.config.models.ctc import CtcConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.media.modeling_confide_speech import ConfideForCTC, ConfideSpeechConfig
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class SpeechExporter(OwnExporter):
    """Writes and loads networks; recordings are encoded by the schema in ``confide.json``."""

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        schema, sizes = cast(SpeechRecognitionConfig, plan.task), cast(CtcConfig, plan.backbone)
        config = ConfideSpeechConfig(
            bands=schema.bands, width=sizes.width, depth=sizes.depth, kernel=sizes.kernel
        )
        made = ConfideForCTC
        classes = {"AutoConfig": ConfideSpeechConfig, "AutoModel": made, "AutoModelForCTC": made}
        write_classifier(folder, config, workload.model.state_dict(), plan=plan, classes=classes)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        return load_classifier(folder, ConfideForCTC, ConfideSpeechConfig)


__all__ = ["SpeechExporter"]
