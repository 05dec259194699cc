"""Sounds with one outcome each."""

from dataclasses import dataclass, replace

from confide.config.fields import setting
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.tasks.media.sound_task import SoundTaskConfig
from confide.config.tasks.media.sounds import SoundReading


@dataclass
class AudioClassificationConfig(SoundTaskConfig):
    """One outcome for one sound."""

    kind: str = setting("audio_classification", "Kind of task.", choices=("audio_classification",))

    @property
    def files(self) -> SoundReading:
        """How sounds are read."""
        files = super().files
        if self.outcome.kind != DEFAULT_OUTCOME:
            return files
        classes = (*self.label_values, *self.labels)
        return replace(files, label_column=self.label_column, classes=classes)


__all__ = ["AudioClassificationConfig"]
