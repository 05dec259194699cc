"""Pretrained models of pictures."""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig, Pretrained
from confide.config.models.tuning import TuningConfig
from confide.config.models.tunings import TUNINGS


@dataclass
class VisionConfig(BackboneConfig):
    """A pretrained model of pictures in Hugging Face format, with safetensors weights."""

    kind: str = setting("vision", "Kind of backbone.", choices=("vision",))
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

    def pinned(self, sha256: str | None, *, folder: str | None = None) -> "VisionConfig":
        """Return it with the weights that it must have."""
        # A folder has it already, so that there is nothing to download.
        if folder is None:
            return replace(self, sha256=sha256)
        return replace(self, name=folder, sha256=sha256, allow_download=False)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model, and what of it is trained."""
        # By the package or the last part: the rest is a path of somebody's machine.
        path = PurePosixPath(self.name.removeprefix("pkg://"))
        name = path.parts[0] if self.name.startswith("pkg://") else path.name
        return TUNINGS[tuning.kind].describe(tuning, name)


__all__ = ["VisionConfig"]
