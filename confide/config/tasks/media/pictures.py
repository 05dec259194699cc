"""How pictures are read: what a task's schema says of them, whatever is predicted."""

from dataclasses import dataclass
from typing import ClassVar

from confide.config.tasks.media.files import FileReading

PIXELS = "pixel_values"
"""Column of encoded pictures."""


@dataclass(frozen=True, kw_only=True)
class PictureReading(FileReading):
    """How files become pixels of 8 bits.

    Attributes:
        channels: 1 for grey, 3 for colour.
        minimum: value of a pixel of more than 8 bits that becomes black; None where there are none.
        maximum: value that becomes white.
        own_window: whether a DICOM file's own window goes before minimum and maximum.
        background: grey that shows where a picture is transparent, 0 to 255.
    """

    what: ClassVar[str] = "pictures"
    opener: ClassVar[str] = "confide.pictures.opening.Pictures"
    suffixes: ClassVar[tuple[str, ...]] = (
        *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"),
        *(".pbm", ".dcm", ".dicom", ".ima"),
    )

    channels: int = 3
    minimum: float | None = None
    maximum: float | None = None
    own_window: bool = False
    background: int = 255


__all__ = ["PIXELS", "PictureReading"]
