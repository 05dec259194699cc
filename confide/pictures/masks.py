"""Masks: files whose pixels say a class, opened without any conversion of their values."""

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy
from numpy.typing import NDArray
from PIL import Image

from confide.config.tasks.media.masks import MaskReading
from confide.errors import DataError
from confide.held import BYTES, FILE, NO_FILE, Held, UnusableError, bytes_of, file_bytes
from confide.pictures.decode import open_picture, pixels_of

PRESENT = "class="
"""Begins the finding that says that a class is in a mask, by its number."""
BLANK = Held("blank", (), BYTES, "").text
"""Cell of a mask that nobody knows: all of it is the first class."""
_PLAIN = ("L", "P", "1")
PROBLEMS: Mapping[str, str] = {
    **NO_FILE,
    "no_picture": "are no picture that can be read (damaged, or of another format); replace them",
    "too_large": "have more pixels than a mask may (89 million); make them smaller",
    "colours": (
        "are in colour or of more than 8 bits; write one number a pixel, its class, in a PNG of 8"
        " bits, grey or with a palette"
    ),
    "unknown": (
        "hold a value that is no class; name it in task.outcome.values (JPEG and smooth resizing"
        " make such values: keep masks as PNG)"
    ),
}
"""Name -> the end of a sentence that begins with a number of masks."""


class Masks:
    """Opens masks, one after the other.

    Args:
        reading: what the schema says.
    """

    problems = PROBLEMS

    def __init__(self, reading: MaskReading) -> None:
        self._reading = reading
        self._class_of = numpy.full(256, -1, dtype=numpy.int16)
        self._class_of[list(reading.levels)] = numpy.arange(len(reading.levels))

    def look(self, kind: str, place: str) -> Held:
        """Decode a mask, and say which classes it holds."""
        try:
            classes = self._decoded(kind, place)
        except UnusableError as error:
            return Held("", (error.finding,), kind, place)
        present = tuple(f"{PRESENT}{number}" for number in numpy.unique(classes))
        return Held(_hash(classes), present, kind, place)

    def written(self, held: Held) -> bytes:
        """Return a PNG of a mask, grey, with the values that classes have."""
        values, file = numpy.array(self._reading.levels, numpy.uint8), io.BytesIO()
        Image.fromarray(values[self._checked(held)]).save(file, "PNG")
        return file.getvalue()

    def extent(self, data: bytes) -> int:
        """Return how many pixels a file says that it has, without decoding it."""
        return pixels_of(data)

    def note(self, finding: str) -> str | None:
        """Return nothing: which classes there are is counted elsewhere."""
        return None

    def classes(self, mask: Held, side: int, *, like: tuple[int, ...]) -> NDArray[numpy.uint8]:
        """Decode a mask that was looked at, each pixel that of the nearest one.

        Args:
            mask: its cell.
            side: of the result [side, side].
            like: height and width of its picture.

        Raises:
            DataError: if it is another one by now, read otherwise, or not as large as its picture.
        """
        if not mask.place:
            return numpy.zeros((side, side), numpy.uint8)
        classes = self._checked(mask)
        if classes.shape != like:
            raise DataError(
                f"Column {self._reading.column}: a mask is {_size(classes.shape)} pixels and its"
                f" picture {_size(like)} ({_shown(mask)}); write both in one size, and upright."
            )
        resized = Image.fromarray(classes).resize((side, side), Image.Resampling.NEAREST)
        return numpy.array(resized)

    def _checked(self, mask: Held) -> NDArray[numpy.uint8]:
        try:
            classes = self._decoded(mask.kind, mask.place)
        except UnusableError as error:
            found = PROBLEMS[error.finding]
            raise DataError(f"Column {self._reading.column}: 1 masks {found}.") from None
        if _hash(classes) != mask.sha256:
            raise DataError(
                f"Column {self._reading.column}: a mask has changed since it was read"
                f" ({_shown(mask)}); leave records alone while they are used."
            )
        return classes

    def _decoded(self, kind: str, place: str) -> NDArray[numpy.uint8]:
        try:
            data = file_bytes(Path(place)) if kind == FILE else bytes_of(place)
        except (OSError, ValueError):
            raise UnusableError("no_file") from None
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with open_picture(data) as image:
                    mode = image.mode
                    values = numpy.array(image)
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                raise UnusableError("too_large") from None
            except Exception:  # decoders of unlike formats, on bytes that may be anything
                raise UnusableError("no_picture") from None
        if mode not in _PLAIN:
            raise UnusableError("colours")
        found = self._class_of[values.astype(numpy.uint8)]
        if (found < 0).any():
            raise UnusableError("unknown")
        classes: NDArray[numpy.uint8] = found.astype(numpy.uint8)
        return classes


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, reversed(shape)))


def _shown(mask: Held) -> str:
    return mask.place if mask.kind == FILE else "bytes"


def _hash(classes: NDArray[numpy.uint8]) -> str:
    digest = hashlib.sha256(repr(classes.shape).encode())
    digest.update(classes.tobytes())
    return digest.hexdigest()


__all__ = ["BLANK", "PRESENT", "PROBLEMS", "Masks"]
