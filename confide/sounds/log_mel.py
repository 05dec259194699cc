"""Samples -> the spectrogram that a model takes: logarithms of the power in mel bands.

Whatever it does follows from the schema alone: rate, length and bands are public, and so are the
numbers that scale its values, which no statistic of the records goes into.
"""

import functools
import math
from typing import Any

import numpy
from numpy.typing import NDArray

from confide.config.tasks.media.sound_task import FRAME_S, SoundTaskConfig
from confide.sounds.decode import Samples

_LOWEST_HZ = 60.0
_HIGHEST = 0.475
"""Highest frequency, as a share of the rate: a resampling filter leaves little beyond."""
_FLOOR = 1e-6
_FILTER = 10
"""Half the length of SciPy's resampling filter, in samples of the lower rate."""
WHISPER_RATE, WHISPER_STEP = 16_000, 160
"""Samples a second that Whisper hears, and from one of its frames to the next."""
_WHISPER_FRAME = 400
_MIDDLE, _SPREAD = -3.0, 2.0
"""Of the logarithm to base 10 of the power, from -6 (silence) to about 2 (full scale)."""
SILENCE = (math.log10(_FLOOR) - _MIDDLE) / _SPREAD
"""What silence is in every band."""


def spectrogram(samples: Samples, rate: int, schema: SoundTaskConfig) -> NDArray[numpy.float32]:
    """Return log-mel power of one sound.

    Args:
        samples: shape [s].
        rate: samples a second.
        schema: rate, length and bands.

    Returns:
        Shape [t, m], from -1.5 up.
    """
    from transformers import audio_utils

    frame = round(schema.rate * FRAME_S)
    made = audio_utils.spectrogram(
        _heard(samples, rate, schema),
        _window(frame),
        frame_length=frame,
        hop_length=schema.step,
        fft_length=schema.fft_length,
        power=2.0,
        pad_mode="constant",
        mel_filters=_filters(schema.rate, schema.bands, schema.fft_length),
        log_mel="log10",
        mel_floor=_FLOOR,
    )
    scaled: NDArray[numpy.float32] = ((made.T - _MIDDLE) / _SPREAD).astype(numpy.float32)
    return scaled


def whisper_features(
    samples: Samples, rate: int, schema: SoundTaskConfig, *, shape: tuple[int, int]
) -> NDArray[numpy.float32]:
    """Return a recording as Whisper takes it, as its WhisperFeatureExtractor makes it with numpy.

    What is more than 80 dB below the loudest of a recording is raised to that: the model was
    trained so, and it follows from the recording alone.

    Args:
        samples: shape [s].
        rate: samples a second.
        schema: length; silence stands behind it.
        shape: mel bands m and frames t of the model.

    Returns:
        Shape [m, t].
    """
    from transformers import audio_utils

    bands, frames = shape
    heard = of_length(_heard(samples, rate, schema), frames * WHISPER_STEP)
    made = audio_utils.spectrogram(
        heard,
        _window(_WHISPER_FRAME),
        frame_length=_WHISPER_FRAME,
        hop_length=WHISPER_STEP,
        power=2.0,
        mel_filters=_whisper_filters(bands),
        log_mel="log10",
    )[:, :-1]
    scaled: NDArray[numpy.float32] = (numpy.maximum(made, made.max() - 8.0) + 4.0) / 4.0
    return scaled.astype(numpy.float32)


def _heard(samples: Samples, rate: int, schema: SoundTaskConfig) -> Samples:
    """Return the samples that a model hears, of the schema's rate and length."""
    # What the filter reaches beyond the end, and no more: a header may say one sample a second
    reach = _FILTER * max(1, math.ceil(rate / schema.rate)) + 1
    needed = math.ceil(schema.seconds * rate) + reach
    return of_length(resampled(samples[:needed], rate, schema.rate), schema.num_samples)


def resampled(samples: Samples, rate: int, to: int) -> Samples:
    """Resample by a polyphase filter that lets nothing through that the new rate cannot hold."""
    if rate == to:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, to)
    made: Samples = resample_poly(samples, to // common, rate // common).astype(numpy.float32)
    return made


def of_length(samples: Samples, count: int) -> Samples:
    """Cut samples, or put silence behind them."""
    return numpy.pad(samples[:count], (0, max(0, count - len(samples))))


@functools.lru_cache(maxsize=8)
def _window(frame: int) -> Any:
    from transformers import audio_utils

    return audio_utils.window_function(frame, "hann")


@functools.lru_cache(maxsize=8)
def _filters(rate: int, bands: int, fft_length: int) -> Any:
    from transformers import audio_utils

    return audio_utils.mel_filter_bank(
        1 + fft_length // 2,
        bands,
        _LOWEST_HZ,
        _HIGHEST * rate,
        rate,
        norm="slaney",
        mel_scale="slaney",
    )


@functools.lru_cache(maxsize=8)
def _whisper_filters(bands: int) -> Any:
    from transformers import audio_utils

    return audio_utils.mel_filter_bank(
        1 + _WHISPER_FRAME // 2, bands, 0.0, 8000.0, WHISPER_RATE, norm="slaney", mel_scale="slaney"
    )


__all__ = [
    "SILENCE",
    "WHISPER_RATE",
    "WHISPER_STEP",
    "of_length",
    "resampled",
    "spectrogram",
    "whisper_features",
]
