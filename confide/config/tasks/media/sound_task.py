"""Settings of every task on sounds: where they are, and the spectrogram that models take."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tasks.media.sounds import SoundReading
from confide.config.tasks.task import TaskConfig


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

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if self.audio_column in self.target_columns:
            yield f"audio_column={self.audio_column} is the label; name the column of sounds."


__all__ = ["SoundTaskConfig"]
