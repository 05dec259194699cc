"""What may be found in a sound: what makes it unusable, and what its owner should know."""

from collections.abc import Mapping

from confide.held import NO_FILE

PROBLEMS: Mapping[str, str] = {
    **NO_FILE,
    "no_sound": "are no WAV file that can be read (damaged, or of another format); replace them",
    "rate": (
        "say that they have more than 1,000,000 samples a second; correct their headers, or"
        " resample them"
    ),
    "not_pcm": (
        "are WAV files whose samples are no whole numbers of 8, 16, 24 or 32 bits (floats, or"
        " compressed); export them as PCM of 16 bits"
    ),
    "truncated": "were cut off: their files end before their samples do; export them again",
    "empty": "hold no sample; record them again, or remove them",
}
"""Name -> the end of a sentence that begins with a number of sounds."""

NOTES: Mapping[str, str] = {
    "channels": "have several channels, of which the mean is used",
    "clipped": "touch full scale in more than 1 % of their samples: the recording was too loud",
    "cut": "are longer than task.seconds, and what comes later is cut",
    "silent": "are silent: no sample differs from the others",
}
"""Name -> the end of a sentence that begins with a number of sounds."""
RATE = "rate="
"""Begins the finding that says at how many samples a second a sound was recorded."""


__all__ = ["NOTES", "PROBLEMS", "RATE"]
