"""A task drafted from a folder of sounds: classes by the names of folders, or texts beside them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from confide.client.records.drafting.draft import Draft
from confide.client.records.drafting.folders import LOOKED_AT, read_folders
from confide.client.records.sources.files import TEXT_SUFFIX, Found, found_files
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.sounds import SoundReading
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.held import FILE, Held
from confide.sounds.findings import NOTES, PROBLEMS, RATE
from confide.sounds.opening import Sounds

_RATE, _LOWEST_RATE = 16_000, 1_000


def draft_sounds(folder: Path) -> Draft:
    """Draft a task from a folder of WAV files.

    Args:
        folder: CLASS/FILE, or INSTITUTION/CLASS/FILE; or NAME.wav and NAME.txt, in folders of
            institutions or not.

    Raises:
        DataError: if folders name no classes, and no text lies beside any file.
    """
    if any(path.with_suffix(TEXT_SUFFIX).is_file() for path in _sounds_of(folder)):
        return _draft_speech(folder)
    schema = AudioClassificationConfig()
    reading = schema.files
    found = list(found_files(folder, reading))
    folders = read_folders(folder, found, reading.what)
    looked = _looked(found, reading)
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


def _sounds_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in SoundReading.suffixes)


def _draft_speech(folder: Path) -> Draft:
    """Draft speech recognition; its characters are those of English, and not of the texts."""
    schema = SpeechRecognitionConfig(outcome=TranscriptConfig())
    found = list(found_files(folder, schema.files))
    looked = _looked(found, schema.files)
    task = replace(schema, rate=_usual_rate(looked))
    institutions = {one.within[0] for one in found if one.within}
    choices = [
        f"Recordings are resampled to rate: {task.rate}, and cut or padded to seconds:"
        f" {task.seconds:g}; set seconds to the length of the longest.",
        "outcome.characters lists what may be written: those of English where nothing is said."
        " Name those of your language, never what occurs in the texts.",
    ]
    notes = [f"{len(institutions)} institutions: {', '.join(sorted(institutions))}."]
    return Draft(
        task=task,
        records=len(found),
        folders=len(institutions),
        choices=choices,
        notes=[*(notes if institutions else []), *_notes(looked)],
    )


def _looked(found: Sequence[Found], reading: SoundReading) -> list[Held]:
    opened, step = Sounds(reading), -(-len(found) // LOOKED_AT)
    return [opened.look(FILE, str(one.path)) for one in found[::step]]


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
