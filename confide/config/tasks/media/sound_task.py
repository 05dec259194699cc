"""Settings of every task on sounds: where they are, and the spectrogram that models take."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tasks.media.sounds import SoundReading
from confide.config.tasks.task import TaskConfig

FRAME_S = 0.025
"""Length of a frame of the spectrogram, in seconds."""
_MOST_CELLS = 2**24
"""Frames times frequencies of a sound, before they are gathered into bands: 0.4 GB at once."""


@dataclass
class SoundTaskConfig(TaskConfig):
    """A sound as a spectrogram of one length."""

    audio_column: str = setting(
        "audio",
        "Column that holds the sound: a path, starting at the table's folder, or the bytes of a"
        " file. In a folder of sounds, what the sounds are called.",
    )
    rate: int = setting(
        16_000, "Samples a second that each sound is resampled to.", ge=1_000, le=192_000
    )
    seconds: float = setting(
        1.0,
        "Length in seconds: what a sound has beyond it is cut, and silence follows a shorter one.",
        ge=0.1,
        le=60,
    )
    bands: int = setting(32, "Mel bands of the spectrogram.", ge=8, le=256)
    step_ms: float = setting(
        20.0, "Milliseconds from one frame of the spectrogram to the next.", ge=2, le=500
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The sound, by its samples."""
        return (self.audio_column,)

    @property
    def files(self) -> SoundReading:
        """How sounds are read."""
        return SoundReading(column=self.audio_column, rate=self.rate, seconds=self.seconds)

    @property
    def num_samples(self) -> int:
        """Samples of a sound once it has its length."""
        return round(self.rate * self.seconds)

    @property
    def step(self) -> int:
        """Samples from one frame to the next, at least one."""
        return max(1, round(self.rate * self.step_ms / 1000))

    @property
    def num_frames(self) -> int:
        """Frames of a spectrogram, each around a multiple of the step."""
        return 1 + self.num_samples // self.step

    @property
    def fft_length(self) -> int:
        """Samples of a frame, filled up to a power of two."""
        return 1 << (round(self.rate * FRAME_S) - 1).bit_length()

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        cells = self.num_frames * (1 + self.fft_length // 2)
        if cells > _MOST_CELLS:
            yield (
                f"rate={self.rate}, seconds={self.seconds:g}, step_ms={self.step_ms:g}: a sound"
                f" would have {cells:,} frames times frequencies, expected at most"
                f" {_MOST_CELLS:,}; lower rate or seconds, or raise step_ms."
            )
        if self.audio_column in self.target_columns:
            yield f"audio_column={self.audio_column} is the label; name the column of sounds."


__all__ = ["FRAME_S", "SoundTaskConfig"]
