"""A task drafted from a folder of sounds: its classes, by the names of folders."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from confide.client.records.drafting.draft import Draft
from confide.client.records.drafting.folders import LOOKED_AT, read_folders
from confide.client.records.sources.files import found_files
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.sounds import SoundReading
from confide.held import FILE, Held
from confide.sounds.findings import NOTES, PROBLEMS, RATE
from confide.sounds.opening import Sounds

_RATE, _LOWEST_RATE = 16_000, 1_000


def draft_sounds(folder: Path) -> Draft:
    """Draft a task from a folder of WAV files.

    Args:
        folder: CLASS/FILE, or INSTITUTION/CLASS/FILE.

    Raises:
        DataError: if folders name no classes.
    """
    schema = AudioClassificationConfig()
    reading = SoundReading(column="", rate=schema.rate, seconds=schema.seconds)
    found = list(found_files(folder, reading))
    folders = read_folders(folder, found, reading.what)
    opened = Sounds(reading)
    step = -(-len(found) // LOOKED_AT)
    looked = [opened.look(FILE, str(one.path)) for one in found[::step]]
    task = AudioClassificationConfig(labels=folders.labels, rate=_usual_rate(looked))
    choices = [
        f"Sounds are resampled to rate: {task.rate}, and cut or padded to seconds:"
        f" {task.seconds:g}; set seconds to the length in which a sound is told."
    ]
    return Draft(
        task=task,
        records=len(found),
        folders=len(folders.institutions),
        choices=[*choices, *folders.choices()],
        notes=[*folders.notes(), *_notes(looked)],
    )


def _usual_rate(looked: Sequence[Held]) -> int:
    """Return the rate of most recordings, or what speech needs if that is less."""
    rates = Counter(
        int(finding.removeprefix(RATE))
        for one in looked
        for finding in one.findings
        if finding.startswith(RATE)
    )
    usual = rates.most_common(1)[0][0] if rates else _RATE
    return max(_LOWEST_RATE, min(_RATE, usual))


def _notes(looked: Sequence[Held]) -> Iterator[str]:
    for name, meaning in {**PROBLEMS, **NOTES}.items():
        count = sum(name in one.findings for one in looked)
        if count:
            yield f"{count} of {len(looked)} sounds that were looked at {meaning}."


__all__ = ["draft_sounds"]
