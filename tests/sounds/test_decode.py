"""WAV files to samples: what each width means, and what is told of files that are odd."""

import struct

import numpy
import pytest
from sounds_made import RATE, float_wav, tone, wav

from confide.config.tasks.media.sounds import SoundReading
from confide.held import UnusableError
from confide.sounds.decode import decode_wav

READING = SoundReading(column="audio", rate=RATE, seconds=1.0)
TONE = tone(440)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_every_width_holds_the_same_sound(bits: int) -> None:
    sound = decode_wav(wav(TONE, bits=bits), READING)
    assert sound.rate == RATE
    assert sound.samples.dtype == numpy.float32
    assert numpy.abs(sound.samples - TONE).max() <= max(2.0 ** (2 - bits), 1e-7)  # float32


def test_channels_become_their_mean() -> None:
    stereo = numpy.stack([TONE, 0.5 * TONE], axis=1)
    sound = decode_wav(wav(stereo), READING)
    assert numpy.abs(sound.samples - 0.75 * TONE).max() < 1e-3
    assert "channels" in sound.findings


ODD = {
    "floats": (float_wav(TONE), "not_pcm"),
    "cut_off": (wav(TONE)[:-100], "truncated"),
    "cut_within_a_sample": (wav(TONE, bits=24)[:-1], "truncated"),
    "text": (b"RIFF is what I wrote down", "no_sound"),
    "nothing": (b"", "no_sound"),
    "no_samples": (wav(TONE[:0]), "empty"),
    "rate_of_a_header_alone": (wav(TONE, rate=49_999_991), "rate"),
    "header_alone": (wav(TONE)[:20], "no_sound"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_used_is_told(name: str) -> None:
    data, finding = ODD[name]
    with pytest.raises(UnusableError) as caught:
        decode_wav(data, READING)
    assert caught.value.finding == finding


@pytest.mark.parametrize("seed", range(20))
def test_bytes_of_any_kind_are_told_and_raise_nothing_else(seed: int) -> None:
    generator = numpy.random.default_rng(seed)
    data = bytearray(wav(TONE[:400], bits=[8, 16, 24, 32][seed % 4]))
    for place in generator.integers(0, 60, 6):
        data[place] = generator.integers(256)
    try:
        sound = decode_wav(bytes(data), READING)
    except UnusableError:
        return
    assert numpy.isfinite(sound.samples).all()
    assert len(sound.samples)


def test_a_length_that_nobody_knew_is_until_the_end() -> None:
    # As espeak-ng and ffmpeg write into a pipe.
    data = wav(TONE)
    piped = data.replace(b"data" + struct.pack("<I", 2 * len(TONE)), b"data\x00\xf0\xff\x7f")
    assert len(decode_wav(piped, READING).samples) == len(TONE)


FINDINGS = {
    "silent": wav(numpy.zeros(400)),
    "clipped": wav((4 * TONE).clip(-1, 1)),
    "cut": wav(tone(440, 1.5)),
    "rate=8000": wav(TONE, rate=8000),
}


@pytest.mark.parametrize("finding", FINDINGS)
def test_what_is_odd_is_found(finding: str) -> None:
    assert finding in decode_wav(FINDINGS[finding], READING).findings
    assert decode_wav(wav(TONE), READING).findings == (f"rate={RATE}",)
