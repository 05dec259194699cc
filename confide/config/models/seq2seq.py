"""Pretrained sequence-to-sequence models of transformers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig, Pretrained
from confide.config.models.tuning import TuningConfig
from confide.config.models.tunings import TUNINGS


@dataclass
class Seq2SeqConfig(BackboneConfig):
    """A pretrained encoder and decoder in Hugging Face format, such as Marian, T5 or BART."""

    kind: str = setting("seq2seq", "Kind of backbone.", choices=("seq2seq",))
    name: str = setting(
        "???", "A local folder, pkg://PACKAGE/FOLDER inside an installed package, or a hub name."
    )
    sha256: str | None = setting(
        None, "Expected hash of its files; null: taken from the coordinator's copy."
    )
    allow_download: bool = setting(False, "Whether a hub name may be downloaded.")

    @property
    def pretrained(self) -> Pretrained:
        """Its weights are always pretrained."""
        return self

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "Seq2SeqConfig":
        """Return it with the weights that it must have."""
        if folder is None:
            return replace(self, sha256=sha256)
        return replace(self, name=folder, sha256=sha256, allow_download=False)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model, and what of it is trained."""
        path = PurePosixPath(self.name.removeprefix("pkg://"))
        name = path.parts[0] if self.name.startswith("pkg://") else path.name
        return TUNINGS[tuning.kind].describe(tuning, name).replace(" and a head", "")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: this model has no head to scale rows for."


__all__ = ["Seq2SeqConfig"]
