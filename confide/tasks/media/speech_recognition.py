"""Recordings of speech, as spectrograms of one length, and what is said in each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.errors import ModelError
from confide.sounds.log_mel import WHISPER_RATE, WHISPER_STEP, whisper_features
from confide.sounds.opening import Sounds
from confide.tasks.labelled import Labelled
from confide.tasks.media.audio_classification import SPECTROGRAM, spectrograms
from confide.tasks.media.room import room
from confide.tasks.media.spoken import transcript_of
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.sequences.written import WrittenTexts
from confide.tasks.task import LABELS, Batch, Examples

FEATURES = "input_features"
"""A recording as Whisper takes it, shape [n, m, t]."""
FAMILIES = ("whisper",)
_FIX = "bring fewer records"


class SpeechRecognition(Labelled):
    """Recordings in, a number for each character in every frame out.

    Args:
        config: columns, rate, length, bands, characters.
    """

    def __init__(self, config: SpeechRecognitionConfig) -> None:
        super().__init__(config)
        self._config, self._transcript = config, transcript_of(config)

    def encode(self, records: Dataset) -> Examples:
        """Decode: ``input_values`` [n, t, m], float32, and ``labels``, code points, [n, K].

        Raises:
            DataError: naming every problem: a missing column, recordings that cannot be read, texts
                that are empty, too long, or of more characters than there are frames.
        """
        _, labels = self.read(records)
        return Examples({SPECTROGRAM: spectrograms(records, self._config), LABELS: labels})

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w], float64."""
        return self._transcript.tally(outputs, batch[LABELS])

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the texts that a model writes."""
        return {PREDICTION: self._transcript.written(outputs)}

    def record_notes(self, records: Dataset) -> list[str]:
        """Return nothing: what texts lack is told where they are read."""
        return []


class SpokenTexts(Labelled):
    """Recordings in, the tokens of what is said out: what Whisper and its like take.

    Args:
        config: columns, length.
        tokenizer: a Hugging Face tokenizer; what it writes before each text, such as a language,
            is learnt and written with it.
        settings: of transformers, what ``config.json`` says of the model.

    Raises:
        ModelError: if these do not say where a text begins and ends, or how long a recording is.
    """

    def __init__(self, config: SpeechRecognitionConfig, *, tokenizer: Any, settings: Any) -> None:
        super().__init__(config)
        self._config, self.tokenizer = config, tokenizer
        self._written = WrittenTexts(config, tokenizer=tokenizer, settings=settings)
        self._frames, self._bands = shape_of(settings)
        if config.rate != WHISPER_RATE or config.num_samples > self._frames * WHISPER_STEP:
            most = self._frames * WHISPER_STEP / WHISPER_RATE
            raise ModelError(
                f"task.rate={config.rate}, task.seconds={config.seconds:g}: the backbone hears"
                f" {WHISPER_RATE} samples a second and at most {most:g} seconds; set these."
            )

    def encode(self, records: Dataset) -> Examples:
        """Decode recordings and tokenise texts.

        Returns:
            ``input_features`` [n, m, t], float32; ``decoder_input_ids`` and ``labels`` [n, K].

        Raises:
            DataError: naming every problem: a missing column, recordings that cannot be read, texts
                that are empty or hold one of the tokenizer's own marks.
        """
        self.read(records)
        (column,) = self._config.target_columns
        texts = [" ".join(str(text).split()) for text in records[column][:]]
        self._written.refuse_marks(texts)
        opened, shape = Sounds(self._config.files), (self._bands, self._frames)
        made = room(len(records), shape, torch.float32, fix=_FIX)
        for index, cell in enumerate(records[self._config.audio_column]):
            sound = opened.sound(cell)
            made[index] = torch.from_numpy(
                whisper_features(sound.samples, sound.rate, self._config, shape=shape)
            )
        return Examples({FEATURES: made, **self._written.columns(texts)})

    def record_notes(self, records: Dataset) -> list[str]:
        """Tell how many texts are cut, and what of them the tokenizer lacks."""
        (column,) = self._config.target_columns
        return self._written.notes([str(text) for text in records[column][:] if text is not None])

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w], float64."""
        return self._written.tally(outputs, batch)

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the texts that the model wrote."""
        return {PREDICTION: self._written.written(outputs)}


def make_speech(config: SpeechRecognitionConfig, **assets: Any) -> SpeechRecognition | SpokenTexts:
    """Return the task of what a schema predicts: characters, or tokens of a backbone's own."""
    if isinstance(config.outcome, TranscriptConfig):
        return SpeechRecognition(config)
    return SpokenTexts(config, **assets)


def shape_of(settings: Any) -> tuple[int, int]:
    """Return frames and mel bands that a model of transformers takes.

    Raises:
        ModelError: if it is none of recordings.
    """
    positions = getattr(settings, "max_source_positions", None)
    bands = getattr(settings, "num_mel_bins", None)
    if getattr(settings, "model_type", None) not in FAMILIES or not positions or not bands:
        raise ModelError(
            f"The backbone's config.json says model_type={getattr(settings, 'model_type', None)};"
            f" expected a model of recordings: {', '.join(FAMILIES)}."
        )
    return 2 * int(positions), int(bands)


__all__ = ["FEATURES", "SpeechRecognition", "SpokenTexts", "make_speech", "shape_of"]
