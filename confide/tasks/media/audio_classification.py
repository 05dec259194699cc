"""Sounds, as spectrograms of one length."""

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.sound_task import SoundTaskConfig
from confide.sounds.log_mel import spectrogram
from confide.sounds.opening import Sounds
from confide.tasks.labelled import Labelled
from confide.tasks.media.room import room
from confide.tasks.task import LABELS, Examples

SPECTROGRAM = "input_values"
_FIX = "lower task.seconds or task.bands, raise task.step_ms, or bring fewer records"


class AudioClassification(Labelled):
    """Sounds in, the outcome's outputs out.

    Args:
        config: column, rate, length, bands.
    """

    def __init__(self, config: AudioClassificationConfig) -> None:
        super().__init__(config)
        self._config = config

    def encode(self, records: Dataset) -> Examples:
        """Decode: ``input_values`` of shape [n, t, m], float32.

        Raises:
            DataError: naming every problem: a missing column, sounds that cannot be read, labels
                that are unknown.
        """
        _, labels = self.read(records)
        return Examples({SPECTROGRAM: spectrograms(records, self._config), LABELS: labels})


def spectrograms(records: Dataset, config: SoundTaskConfig) -> Tensor:
    """Decode the sounds of records that fit: shape [n, t, m], float32.

    Raises:
        DataError: if a sound has changed since it was read, or all take too much memory.
    """
    opened = Sounds(config.files)
    made = room(len(records), (config.num_frames, config.bands), torch.float32, fix=_FIX)
    for index, cell in enumerate(records[config.audio_column]):
        sound = opened.sound(cell)
        made[index] = torch.from_numpy(spectrogram(sound.samples, sound.rate, config))
    return made


__all__ = ["SPECTROGRAM", "AudioClassification", "spectrograms"]
