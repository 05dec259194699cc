"""Recordings of speech, and what is said in each."""

from dataclasses import dataclass, replace

from confide.config.fields import setting
from confide.config.outcomes.text import TextConfig
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.sound_task import SoundTaskConfig
from confide.config.tasks.media.sounds import SoundReading

_OF_SAID, _SAID = ("wer", "cer"), ("said_words", "said_characters")


@dataclass
class SpeechRecognitionConfig(SoundTaskConfig):
    """The text of one recording."""

    kind: str = setting("speech_recognition", "Kind of task.", choices=("speech_recognition",))
    seconds: float = setting(
        4.0,
        "Length in seconds: what a recording has beyond it is cut, though its text is not, and"
        " silence follows a shorter one.",
        ge=0.1,
        le=60,
    )

    def __post_init__(self) -> None:
        # Of a text that is said there is a rate of errors, and BLEU is for translations
        if self.outcome.kind == "text":
            self.metrics = self.metrics or [*_OF_SAID, "target_nll", "exact_match", *_SAID]
            self.primary_metric = self.primary_metric or self.metrics[0]
        super().__post_init__()

    @property
    def files(self) -> SoundReading:
        """How recordings are read, and in a folder the texts beside them."""
        # Any other outcome is told as a problem
        is_said = isinstance(self.outcome, TranscriptConfig | TextConfig)
        return replace(super().files, text_column=self.target_columns[0] if is_said else "")


__all__ = ["SpeechRecognitionConfig"]
