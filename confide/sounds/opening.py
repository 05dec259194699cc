"""From a cell to its samples, and from where a sound lies to its cell."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from confide.config.tasks.media.sounds import SoundReading
from confide.errors import DataError
from confide.held import FILE, Held, UnusableError, bytes_of, file_bytes, parse_held
from confide.sounds.decode import Sound, decode_wav
from confide.sounds.findings import NOTES, PROBLEMS, RATE


class Sounds:
    """Opens sounds, one after the other.

    Args:
        reading: what the schema says.
    """

    problems: Mapping[str, str] = PROBLEMS

    def __init__(self, reading: SoundReading) -> None:
        self._reading = reading

    def look(self, kind: str, place: str) -> Held:
        """Decode a sound, and say what was found."""
        try:
            sound = self._decoded(kind, place)
        except UnusableError as error:
            return Held("", (error.finding,), kind, place)
        return Held(_hash(sound), sound.findings, kind, place)

    def written(self, held: Held) -> bytes:
        """Return the WAV file of a sound as it came."""
        self._checked(held)
        return self._bytes(held.kind, held.place)

    def extent(self, data: bytes) -> int:
        """Return at most how many samples a file has: none is compressed."""
        return len(data)

    def note(self, finding: str) -> str | None:
        """Return the end of a sentence that tells a finding."""
        if not finding.startswith(RATE):
            return NOTES.get(finding)
        rate = int(finding.removeprefix(RATE))
        if rate == self._reading.rate:
            return None
        lost = f", and hold nothing above {rate / 2:g} Hz" if rate < self._reading.rate else ""
        return f"have {rate} samples a second{lost}; they are resampled to task.rate"

    def sound(self, cell: object) -> Sound:
        """Decode a sound that was looked at.

        Raises:
            DataError: if it is another one by now, or read otherwise.
        """
        held = parse_held(cell)
        assert held is not None  # whoever encodes has looked
        return self._checked(held)

    def _checked(self, held: Held) -> Sound:
        column = self._reading.column
        try:
            sound = self._decoded(held.kind, held.place)
        except UnusableError as error:
            found = PROBLEMS[error.finding]
            raise DataError(f"Column {column}: 1 sounds {found}.") from None
        if _hash(sound) != held.sha256:
            shown = held.place if held.kind == FILE else "bytes"
            raise DataError(
                f"Column {column}: a sound has changed since it was read ({shown}); leave records"
                " alone while they are used."
            )
        return sound

    def _decoded(self, kind: str, place: str) -> Sound:
        return decode_wav(self._bytes(kind, place), self._reading)

    def _bytes(self, kind: str, place: str) -> bytes:
        try:
            return file_bytes(Path(place)) if kind == FILE else bytes_of(place)
        except (OSError, ValueError):
            raise UnusableError("no_file") from None


def _hash(sound: Sound) -> str:
    digest = hashlib.sha256(str(sound.rate).encode())
    digest.update(sound.samples.tobytes())
    return digest.hexdigest()


__all__ = ["Sounds"]
