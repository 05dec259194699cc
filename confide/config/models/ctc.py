"""A small network for speech that starts at random."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.tunings.tuning import TuningConfig


@dataclass
class CtcConfig(BackboneConfig):
    """Convolutions over time with GroupNorm, and a linear layer over characters in every frame."""

    kind: str = setting("ctc", "Kind of backbone.", choices=("ctc",))
    width: int = setting(64, "Channels of each convolution.", ge=8, le=1024)
    depth: int = setting(
        3, "Blocks after the first convolution, each added to what it takes.", ge=1, le=16
    )
    kernel: int = setting(9, "Frames that a convolution sees: an odd number.", ge=3, le=31)

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its sizes."""
        return (
            f"a CTC network of {self.depth + 1} convolutions of {self.width} channels over"
            f" {self.kernel} frames each"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.kernel % 2 == 0:
            yield f"kernel={self.kernel}: expected an odd number, so that no frame moves."
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: this network has features of frames; leave it out."


__all__ = ["CtcConfig"]
