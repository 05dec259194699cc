"""Pretrained sequence-to-sequence models of transformers."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import DOWNLOAD, NAME, SHA256, BackboneConfig, OfFolder
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig


@dataclass
class Seq2SeqConfig(OfFolder, BackboneConfig):
    """A pretrained encoder and decoder in Hugging Face format, such as Marian, T5 or Whisper."""

    kind: str = setting("seq2seq", "Kind of backbone.", choices=("seq2seq",))
    name: str = setting("???", NAME)
    sha256: str | None = setting(None, SHA256)
    allow_download: bool = setting(False, DOWNLOAD)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model, and what of it is trained."""
        return TUNINGS[tuning.kind].describe(tuning, self.short_name).replace(" and a head", "")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: this model has no head to scale rows for."


__all__ = ["Seq2SeqConfig"]
