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
        what: what the files are.
        kind: config of a task on them.
        settings: of the task, beside what is to be predicted.
        choice: a sentence on them.
    """

    column: str
    what: str
    kind: type[TaskConfig]
    settings: Mapping[str, Any]
    choice: str

    def task(self, **predicted: Any) -> TaskConfig:
        """Return the task, of what is to be predicted."""
        return self.kind(**self.settings, **predicted)


def named_files(columns: Mapping[str, Values], label: str) -> NamedFiles | None:
    """Find the column that names a picture or a sound of each record; None where there is none.

    Args:
        columns: all columns.
        label: what is to be predicted.
    """
    others = {name: values for name, values in columns.items() if name != label}
    name = next((it for it, values in others.items() if _names(values, PictureReading)), None)
    if name is not None:
        return NamedFiles(
            column=name,
            what=PictureReading.what,
            kind=ImageClassificationConfig,
            settings={"image_column": name, "size": PICTURE_SIZE},
            choice=(
                f"{name} names pictures, in colour (channels: 1 where all are grey), resized to"
                f" size: {PICTURE_SIZE}; a pretrained model (backbone=vision) may want size: null,"
                " for its own."
            ),
        )
    name = next((it for it, values in others.items() if _names(values, SoundReading)), None)
    if name is None:
        return None
    plain = AudioClassificationConfig()
    return NamedFiles(
        column=name,
        what=SoundReading.what,
        kind=AudioClassificationConfig,
        settings={"audio_column": name},
        choice=(
            f"{name} names sounds, resampled to rate: {plain.rate}, and cut or padded to seconds:"
            f" {plain.seconds:g}; set seconds to the length in which a sound is told."
        ),
    )


def _names(values: Values, reading: type[FileReading]) -> bool:
    named = sum(
        count
        for value, count in values.counts.items()
        if value.strip().lower().endswith(reading.suffixes)
    )
    return values.present > 0 and named >= _MOST * values.present


__all__ = ["NamedFiles", "named_files"]
