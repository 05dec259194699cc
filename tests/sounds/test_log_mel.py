"""Spectrograms: tones lie in their bands, whatever rate they were recorded at."""

import numpy
import pytest
from sounds_made import RATE, tone

from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.sounds.log_mel import resampled, spectrogram

SCHEMA = AudioClassificationConfig(labels=["no", "yes"], seconds=0.5)


def bands_of(hertz: float, rate: int = RATE, seconds: float = 0.5) -> int:
    samples = tone(hertz, seconds, rate=rate).astype(numpy.float32)
    return int(spectrogram(samples, rate, SCHEMA)[5].argmax())


def test_a_spectrogram_is_as_large_as_the_schema_says_and_finite() -> None:
    for samples in (tone(440), numpy.zeros(1), tone(440, 3.0)):
        made = spectrogram(samples.astype(numpy.float32), RATE, SCHEMA)
        assert made.shape == (SCHEMA.num_frames, SCHEMA.bands) == (26, 32)
        assert made.dtype == numpy.float32
        assert numpy.isfinite(made).all()


def test_higher_tones_lie_in_higher_bands() -> None:
    places = [bands_of(hertz) for hertz in (200, 500, 1000, 3000, 6000)]
    assert places == sorted(set(places))


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_a_tone_is_in_its_band_at_every_rate(rate: int) -> None:
    assert bands_of(1000, rate) == bands_of(1000)


def test_resampling_lets_nothing_through_that_the_new_rate_cannot_hold() -> None:
    high = tone(12_000, rate=44_100).astype(numpy.float32)  # above half of 16,000
    made = resampled(high, 44_100, RATE)
    assert len(made) == len(tone(1))
    assert numpy.abs(made[200:-200]).max() < 0.01


def test_silence_follows_a_short_sound() -> None:
    made = spectrogram(tone(440, 0.1).astype(numpy.float32), RATE, SCHEMA)
    assert made[:4].max() > 1
    assert (made[8:] == -1.5).all()  # the floor


def test_a_sound_depends_on_no_other() -> None:
    one = spectrogram(tone(440).astype(numpy.float32), RATE, SCHEMA)
    spectrogram(tone(3000).astype(numpy.float32), RATE, SCHEMA)
    assert (spectrogram(tone(440).astype(numpy.float32), RATE, SCHEMA) == one).all()


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_what_lies_beyond_the_length_is_not_resampled_and_changes_nothing(rate: int) -> None:
    samples = tone(440, 4.0, rate=rate).astype(numpy.float32)
    cut = resampled(samples, rate, RATE)[: SCHEMA.num_samples]
    assert (spectrogram(samples, rate, SCHEMA) == spectrogram(cut, RATE, SCHEMA)).all()


def test_a_header_of_one_sample_a_second_takes_no_memory() -> None:
    samples = numpy.ones(100_000, numpy.float32)  # all of them at 16,000 would be 6.4 GB
    assert numpy.isfinite(spectrogram(samples, 1, SCHEMA)).all()
