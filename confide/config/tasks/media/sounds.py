"""How sounds are read: what a task's schema says of them, whatever is predicted."""

from dataclasses import dataclass
from typing import ClassVar

from confide.config.tasks.media.files import FileReading


@dataclass(frozen=True, kw_only=True)
class SoundReading(FileReading):
    """How files become samples.

    Attributes:
        rate: samples a second that each sound is resampled to.
        seconds: length that each sound is cut or padded to.
    """

    what: ClassVar[str] = "sounds"
    opener: ClassVar[str] = "confide.sounds.opening.Sounds"
    suffixes: ClassVar[tuple[str, ...]] = (".wav", ".wave")

    rate: int
    seconds: float


__all__ = ["SoundReading"]
