"""Pretrained encoders of transformers."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import DOWNLOAD, NAME, SHA256, BackboneConfig, OfFolder
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


@dataclass
class TransformerConfig(OfFolder, BackboneConfig):
    """A pretrained encoder in Hugging Face format, with safetensors weights."""

    kind: str = setting("transformer", "Kind of backbone.", choices=("transformer",))
    name: str = setting("???", NAME)
    sha256: str | None = setting(None, SHA256)
    num_hidden_layers: int | None = setting(None, "Keep only the first layers; null: all.", ge=1)
    pooling: str = setting(
        "mean", "How token vectors become one text vector.", choices=("mean", "cls")
    )
    allow_download: bool = setting(False, DOWNLOAD)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the encoder, and what of it is trained."""
        layers = f", first {self.num_hidden_layers} layers" if self.num_hidden_layers else ""
        return TUNINGS[tuning.kind].describe(tuning, f"{self.short_name}{layers}")


__all__ = ["TransformerConfig"]
