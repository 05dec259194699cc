"""Pretrained causal language models of transformers."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import DOWNLOAD, NAME, SHA256, BackboneConfig, OfFolder
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


@dataclass
class LanguageModelConfig(OfFolder, BackboneConfig):
    """A pretrained causal language model in Hugging Face format, with a chat template."""

    kind: str = setting("language_model", "Kind of backbone.", choices=("language_model",))
    name: str = setting("???", NAME)
    sha256: str | None = setting(None, SHA256)
    trained_layers: int | None = setting(
        2,
        "Adapters go into the last layers, so many; what the frozen ones below make of a record is"
        " computed once and kept. null: into all, and nothing is kept.",
        ge=1,
    )
    allow_download: bool = setting(False, DOWNLOAD)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model, and what of it is trained."""
        few = self.trained_layers
        where = "all layers"
        if few is not None:
            where = "the last layer" if few == 1 else f"the last {few} layers"
        said = TUNINGS[tuning.kind].describe(tuning, self.short_name).replace(" and a head", "")
        return f"{said}, in {where}"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: a language model has no head to scale rows for."


__all__ = ["LanguageModelConfig"]
