"""How masks are read: pictures whose values are classes."""

from dataclasses import dataclass
from typing import ClassVar

from confide.config.tasks.media.files import FileReading


@dataclass(frozen=True, kw_only=True)
class MaskReading(FileReading):
    """How files become classes of pixels.

    Attributes:
        levels: value of each class.
    """

    what: ClassVar[str] = "masks"
    opener: ClassVar[str] = "confide.pictures.masks.Masks"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".tif", ".tiff", ".bmp", ".gif")

    levels: tuple[int, ...] = ()


__all__ = ["MaskReading"]
