"""Pretrained models of pictures."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import DOWNLOAD, NAME, SHA256, BackboneConfig, OfFolder
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


@dataclass
class VisionConfig(OfFolder, BackboneConfig):
    """A pretrained model of pictures in Hugging Face format, with safetensors weights."""

    kind: str = setting("vision", "Kind of backbone.", choices=("vision",))
    name: str = setting("???", NAME)
    sha256: str | None = setting(None, SHA256)
    allow_download: bool = setting(False, DOWNLOAD)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model, and what of it is trained."""
        return TUNINGS[tuning.kind].describe(tuning, self.short_name)


__all__ = ["VisionConfig"]
