"""An institution's key of a job as it travels."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ProtocolError
from confide.secure_aggregation.adverts import Advert
from tests.seats import seat


@given(advert=st.text(max_size=200))
def test_text_that_is_no_advert(advert: str) -> None:
    with pytest.raises(ProtocolError):
        Advert.from_text(advert)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("num_examples", 0),
        ("num_examples", True),
        ("num_examples", 2**60),
        ("sampling_rate", 0.0),
        ("sampling_rate", 2.0),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", "1"),
        ("public_key", "AAAA"),
        ("public_key", "?"),
        ("name", 3),
    ],
)
def test_adverts_out_of_range(part: str, value: object) -> None:
    parts = json.loads(seat("h00").advertise(num_examples=5).to_text())
    with pytest.raises(ProtocolError):
        Advert.from_text(json.dumps(parts | {part: value}))


def test_an_advert_travels_as_text() -> None:
    advert = seat("h00").advertise(num_examples=5, noise_multiplier=1.5, sampling_rate=0.25)
    assert Advert.from_text(advert.to_text()) == advert
