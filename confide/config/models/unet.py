"""A small U-Net that starts at random."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.tunings.tuning import TuningConfig

# A plan may come from anybody: a model that it describes by its widths has to have some bound.
_MOST_LEVELS, _WIDEST = 8, 2048


@dataclass
class UNetConfig(BackboneConfig):
    """Convolutions with GroupNorm that halve a picture's sides and double them again."""

    kind: str = setting("unet", "Kind of backbone.", choices=("unet",))
    widths: list[int] = setting(
        lambda: [8, 16, 16], "Channels of each level; each after the first halves the sides."
    )

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its widths."""
        return f"a U-Net with {', '.join(map(str, self.widths))} channels"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if len(self.widths) < 2 or not 1 <= min(self.widths) <= max(self.widths) <= _WIDEST:
            yield f"widths={self.widths}: expected at least two numbers, each 1 to {_WIDEST}."
        if len(self.widths) > _MOST_LEVELS:
            yield f"widths: expected at most {_MOST_LEVELS} levels, got {len(self.widths)}."
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: a U-Net has features of pixels; leave it out."


__all__ = ["UNetConfig"]
