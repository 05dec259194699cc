"""Tables that name files: records that are pictures or sounds, by a column of paths."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from confide.client.records.drafting.values import PICTURE_SIZE, Values
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.files import FileReading
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.pictures import PictureReading
from confide.config.tasks.media.sounds import SoundReading
from confide.config.tasks.task import TaskConfig

_MOST = 0.9
"""Part of the records that name a file."""


class NamedFiles(NamedTuple):
    """A column of paths.

    Attributes:
        column: its name.
        kind: what its files are.
    """

    column: str
    kind: "_Kind"

    @property
    def what(self) -> str:
        """What its files are, in a word."""
        return self.kind.reading.what

    @property
    def choice(self) -> str:
        """A sentence on what was chosen."""
        return f"{self.column} names {self.what}, {self.kind.choice}"

    def task(self, **predicted: Any) -> TaskConfig:
        """Return the task, of what is to be predicted."""
        named: dict[str, Any] = {self.kind.setting: self.column}
        return self.kind.task(**named, **self.kind.settings, **predicted)


class _Kind(NamedTuple):
    reading: type[FileReading]
    task: type[TaskConfig]
    setting: str
    settings: Mapping[str, Any]
    choice: str


_KINDS = (
    _Kind(
        PictureReading,
        ImageClassificationConfig,
        "image_column",
        {"size": PICTURE_SIZE},
        f"in colour (channels: 1 where all are grey), resized to size: {PICTURE_SIZE}; a"
        " pretrained model (backbone=vision) may want size: null, for its own.",
    ),
    _Kind(
        SoundReading,
        AudioClassificationConfig,
        "audio_column",
        {},
        f"resampled to rate: {AudioClassificationConfig.rate}, and cut or padded to seconds:"
        f" {AudioClassificationConfig.seconds:g}; set seconds to the length in which a sound is"
        " told.",
    ),
)


def named_files(columns: Mapping[str, Values], label: str) -> NamedFiles | None:
    """Find the column that names a picture or a sound of each record; None where there is none.

    Args:
        columns: all columns.
        label: what is to be predicted.
    """
    for kind in _KINDS:
        for name, values in columns.items():
            if name != label and _names(values, kind.reading):
                return NamedFiles(name, kind)
    return None


def _names(values: Values, reading: type[FileReading]) -> bool:
    named = sum(
        count
        for value, count in values.counts.items()
        if value.strip().lower().endswith(reading.suffixes)
    )
    return values.present > 0 and named >= _MOST * values.present


__all__ = ["NamedFiles", "named_files"]
