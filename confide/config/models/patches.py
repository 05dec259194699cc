"""A small transformer on patches of a window."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.tunings.tuning import TuningConfig


@dataclass
class PatchesConfig(BackboneConfig):
    """A transformer whose tokens are patches of a window of readings (Nie et al., ICLR 2023).

    With LayerNorm in place of BatchNorm, so that each record has a gradient of its own.
    """

    kind: str = setting("patches", "Kind of backbone.", choices=("patches",))
    patch: int = setting(4, "Steps of a patch; windows are a multiple of it.", ge=1, le=1024)
    width: int = setting(32, "Numbers of a token, a multiple of heads.", ge=2, le=1024)
    heads: int = setting(4, "Heads of attention.", ge=1, le=64)
    layers: int = setting(2, "Layers.", ge=1, le=24)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its size."""
        return (
            f"a transformer on patches of {self.patch} steps, {self.layers} layers of {self.width}"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.width % self.heads:
            yield f"width={self.width}: expected a multiple of heads={self.heads}."


__all__ = ["PatchesConfig"]
