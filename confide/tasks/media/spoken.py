"""Recordings beside what is said in them, read without a model, and invented ones.

Needs no torch.
"""

from collections.abc import Mapping, Sequence

import numpy
from datasets import Dataset

from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.sounds.invented import sounds
from confide.tasks.outcomes.transcript import Transcript
from confide.tasks.reading import Problem, first
from confide.tasks.schema import Inputs, read_files
from confide.tasks.sequences.reading import invented_text

_LONGEST = 12


def transcript_of(config: SpeechRecognitionConfig) -> Transcript:
    """Return what is predicted of a recording."""
    assert isinstance(config.outcome, TranscriptConfig)  # its kind has no other
    return Transcript(config.outcome, config.labelling)


def read_spoken(records: Dataset, config: SpeechRecognitionConfig) -> Inputs:
    """Count files that cannot be used, and texts that recordings are too short for."""
    problems = read_files(records, config).problems
    (column,) = config.target_columns
    # A decoder writes texts of any length, whatever the frames
    if column not in records.column_names or not isinstance(config.outcome, TranscriptConfig):
        return Inputs({}, problems)
    outcome = transcript_of(config)
    targets = outcome.read({column: records[column][:]})
    long = (outcome.frames_of(targets.values) > config.num_frames) & targets.known
    if long.any():
        told = (
            f"Column {column}: {long.sum()} of {len(long)} texts take more frames than the"
            f" {config.num_frames} that task.seconds={config.seconds:g} and task.step_ms="
            f"{config.step_ms:g} make: one a character, and one between two that are the same."
            " Nothing could be learnt of them; lower task.step_ms, raise task.seconds if the"
            " recordings are longer, or correct the texts."
        )
        problems.append(Problem(told, first(long)))
    return Inputs({}, problems)


def invent_spoken(
    config: SpeechRecognitionConfig, count: int, generator: numpy.random.Generator
) -> Mapping[str, Sequence[object]]:
    """Invent recordings, and texts that fit their frames."""
    (column,) = config.target_columns
    heard = sounds(config, count, generator)
    if not isinstance(config.outcome, TranscriptConfig):
        return {**heard, column: [invented_text(generator) for _ in range(count)]}
    longest = min(_LONGEST, config.num_frames)
    return {**heard, column: transcript_of(config).invented(count, generator, longest=longest)}


__all__ = ["invent_spoken", "read_spoken", "transcript_of"]
