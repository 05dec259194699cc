"""From a cell to its pixels, and from where a picture lies to its cell."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image

from confide.config.tasks.media.pictures import PictureReading
from confide.errors import DataError
from confide.held import ARRAY, FILE, Held, UnusableError, bytes_of, file_bytes
from confide.pictures.decode import Pixels, decode_array, decode_file, pixels_of
from confide.pictures.findings import NOTES, PROBLEMS, Seen


class Pictures:
    """Opens pictures, one after the other; arrays that hold any are in memory as long as it is.

    Args:
        reading: what the schema says.
    """

    problems = PROBLEMS

    def __init__(self, reading: PictureReading) -> None:
        self._reading = reading
        self._arrays: dict[tuple[str, str], NDArray[Any]] = {}

    def look(self, kind: str, place: str) -> Held:
        """Decode a picture, and say what was found."""
        seen = Seen()
        try:
            pixels = self._decoded(kind, place, seen)
        except UnusableError as error:
            return Held("", (error.finding,), kind, place)
        return Held(_hash(pixels), seen.names, kind, place)

    def written(self, held: Held) -> bytes:
        """Return a PNG of a picture as the schema reads it."""
        pixels, file = self.pixels(held), io.BytesIO()
        grey = pixels.shape[2] == 1
        Image.fromarray(pixels[:, :, 0] if grey else pixels).save(file, "PNG")
        return file.getvalue()

    def extent(self, data: bytes) -> int:
        """Return how many pixels a file says that it has, without decoding it."""
        return pixels_of(data)

    def note(self, finding: str) -> str | None:
        """Return the end of a sentence that tells a finding."""
        return NOTES.get(finding)

    def pixels(self, picture: Held) -> Pixels:
        """Decode a picture that was looked at.

        Raises:
            DataError: if it is another one by now, or read otherwise.
        """
        try:
            pixels = self._decoded(picture.kind, picture.place, Seen())
        except UnusableError as error:
            found = PROBLEMS[error.finding]
            raise DataError(f"Column {self._reading.column}: 1 pictures {found}.") from None
        if _hash(pixels) != picture.sha256:
            raise DataError(
                f"Column {self._reading.column}: a picture has changed since it was read"
                f" ({_shown(picture)}); leave records alone while they are used."
            )
        return pixels

    def _decoded(self, kind: str, place: str, seen: Seen) -> Pixels:
        if kind == ARRAY:
            path, name, number = place.split("\0")
            return decode_array(self._of(path, name)[int(number)], self._reading, seen)
        if kind == FILE:
            try:
                data = file_bytes(Path(place))
            except (OSError, ValueError):
                raise UnusableError("no_file") from None
        else:
            data = bytes_of(place)
        return decode_file(data, self._reading, seen)

    def _of(self, path: str, name: str) -> NDArray[Any]:
        # All of them: units come in the order of their hashes, and so from one array or the other
        if (path, name) not in self._arrays:
            try:
                with numpy.load(path, allow_pickle=False) as arrays:
                    self._arrays[path, name] = arrays[name]
            except Exception:  # of zip, zlib and numpy, on bytes that may be anything
                raise UnusableError("no_file") from None
        return self._arrays[path, name]


def _hash(pixels: Pixels) -> str:
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(numpy.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def _shown(picture: Held) -> str:
    return picture.place.replace("\0", " ") if picture.kind in (FILE, ARRAY) else "bytes"


__all__ = ["Pictures"]
