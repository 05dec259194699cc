"""Pretrained encoders of transformers."""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig, Pretrained
from confide.config.models.tuning import TuningConfig
from confide.config.models.tunings import TUNINGS


@dataclass
class TransformerConfig(BackboneConfig):
    """A pretrained encoder in Hugging Face format, with safetensors weights."""

    kind: str = setting("transformer", "Kind of backbone.", choices=("transformer",))
    name: str = setting(
        "???", "A local folder, pkg://PACKAGE/FOLDER inside an installed package, or a hub name."
    )
    sha256: str | None = setting(
        None, "Expected hash of its files; null: taken from the coordinator's copy."
    )
    num_hidden_layers: int | None = setting(None, "Keep only the first layers; null: all.", ge=1)
    pooling: str = setting(
        "mean", "How token vectors become one text vector.", choices=("mean", "cls")
    )
    allow_download: bool = setting(False, "Whether a hub name may be downloaded.")

    @property
    def pretrained(self) -> Pretrained:
        """Its weights are always pretrained."""
        return self

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "TransformerConfig":
        """Return it with the weights that it must have."""
        # A folder has it already, so that there is nothing to download.
        if folder is None:
            return replace(self, sha256=sha256)
        return replace(self, name=folder, sha256=sha256, allow_download=False)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the encoder, and what of it is trained."""
        # By the package or the last part: the rest is a path of somebody's machine.
        path = PurePosixPath(self.name.removeprefix("pkg://"))
        name = path.parts[0] if self.name.startswith("pkg://") else path.name
        layers = f", first {self.num_hidden_layers} layers" if self.num_hidden_layers else ""
        return TUNINGS[tuning.kind].describe(tuning, f"{name}{layers}")


__all__ = ["TransformerConfig"]
