"""A small convolutional network that starts at random."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.tunings.tuning import TuningConfig

# A plan may come from anybody: a model that it describes by its widths has to have some bound.
_MOST_BLOCKS, _WIDEST = 8, 2048


@dataclass
class CnnConfig(BackboneConfig):
    """Blocks of a convolution, GroupNorm, ReLU and max pooling, and a linear head."""

    kind: str = setting("cnn", "Kind of backbone.", choices=("cnn",))
    widths: list[int] = setting(
        lambda: [32, 64], "Channels of each block; each block halves the picture's sides."
    )

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its widths."""
        widths = " and ".join(
            filter(None, (", ".join(map(str, self.widths[:-1])), str(self.widths[-1])))
        )
        return f"a convolutional network with blocks of {widths} channels"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if not self.widths or not 1 <= min(self.widths) <= max(self.widths) <= _WIDEST:
            yield f"widths={self.widths}: expected numbers of channels of 1 to {_WIDEST}."
        if len(self.widths) > _MOST_BLOCKS:
            yield f"widths: expected at most {_MOST_BLOCKS} blocks, got {len(self.widths)}."


__all__ = ["CnnConfig"]
