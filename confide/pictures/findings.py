"""What may be found in a picture: what makes it unusable, and what its owner should know."""

from collections.abc import Mapping
from dataclasses import dataclass

from confide.held import NO_FILE

PROBLEMS: Mapping[str, str] = {
    **NO_FILE,
    "no_picture": "are no picture that can be read (damaged, or of another format); replace them",
    "truncated": "were cut off, or are damaged within; export them again",
    "too_large": "have more pixels than a picture may (89 million); make them smaller",
    "deep": (
        "have more than 8 bits, and nothing says which values are black and white; set a public"
        " range, task.minimum and task.maximum (in Hounsfield -1000 and 1000, say)"
    ),
    "not_finite": "hold values that are no numbers (NaN, infinity); correct them",
    "no_pydicom": "are DICOM, which needs pydicom; `pip install 'confide[dicom]'` brings it",
    "dicom_codec": (
        "are DICOM compressed in a way that pydicom cannot read here; export them uncompressed"
    ),
    "shape": "are no arrays of numbers of shape [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]",
}
"""Name -> the end of a sentence that begins with a number of pictures."""

NOTES: Mapping[str, str] = {
    "alpha": "have transparent parts, which show task.background",
    "animated": "hold several frames, of which the first is used",
    "clipped": (
        "have more than a tenth of their pixels outside task.minimum to task.maximum, which become"
        " black or white"
    ),
    "cmyk": "are in CMYK, converted to RGB without a colour profile",
    "colour": "are in colour, which task.channels=1 drops",
    "deep_colour": "have 16 bits a colour, of which the upper 8 are used",
    "flat": "have one value in all pixels",
    "inverted": "are MONOCHROME1, in which small values are white, and were inverted",
    "own_window": "were windowed by their own file",
    "palette": "have a palette, of which the colours are used",
    "rotated": "were turned as their EXIF says",
}
"""Name -> the end of a sentence that begins with a number of pictures."""


@dataclass
class Seen:
    """What was found in one picture, as it is decoded."""

    names: tuple[str, ...] = ()

    def note(self, name: str) -> None:
        """Note one of :data:`NOTES`, once."""
        if name not in self.names:
            self.names = (*self.names, name)


__all__ = ["NOTES", "PROBLEMS", "Seen"]
