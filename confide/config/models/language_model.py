"""Pretrained causal language models of transformers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig, Pretrained
from confide.config.models.tuning import TuningConfig
from confide.config.models.tunings import TUNINGS


@dataclass
class LanguageModelConfig(BackboneConfig):
    """A pretrained causal language model in Hugging Face format, with a chat template."""

    kind: str = setting("language_model", "Kind of backbone.", choices=("language_model",))
    name: str = setting(
        "???", "A local folder, pkg://PACKAGE/FOLDER inside an installed package, or a hub name."
    )
    sha256: str | None = setting(
        None, "Expected hash of its files; null: taken from the coordinator's copy."
    )
    trained_layers: int | None = setting(
        2,
        "Adapters go into the last layers, so many; what the frozen ones below make of a record is"
        " computed once and kept. null: into all, and nothing is kept.",
        ge=1,
    )
    allow_download: bool = setting(False, "Whether a hub name may be downloaded.")

    @property
    def pretrained(self) -> Pretrained:
        """Its weights are always pretrained."""
        return self

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "LanguageModelConfig":
        """Return it with the weights that it must have."""
        if folder is None:
            return replace(self, sha256=sha256)
        return replace(self, name=folder, sha256=sha256, allow_download=False)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model, and what of it is trained."""
        path = PurePosixPath(self.name.removeprefix("pkg://"))
        name = path.parts[0] if self.name.startswith("pkg://") else path.name
        few = self.trained_layers
        where = "all layers"
        if few is not None:
            where = "the last layer" if few == 1 else f"the last {few} layers"
        said = TUNINGS[tuning.kind].describe(tuning, name).replace(" and a head", "")
        return f"{said}, in {where}"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: a language model has no head to scale rows for."


__all__ = ["LanguageModelConfig"]
