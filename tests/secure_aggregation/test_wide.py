"""Integers modulo 2^64 add up in words of 32 bits as in words of 64."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.secure_aggregation.wide import MOST_SUMMED, from_words, to_words, wide_length

INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(
    rows=st.integers(1, 5).flatmap(
        lambda count: st.lists(
            st.lists(INTEGERS, min_size=count, max_size=count), min_size=1, max_size=20
        )
    ),
    bits=st.sampled_from([32, 64]),
)
def test_sums_of_words_are_the_sums(rows: list[list[int]], bits: int) -> None:
    values = numpy.array(rows, dtype=numpy.int64)
    words = numpy.stack([to_words(row, bits) for row in values])
    assert words.shape[1] == wide_length(values.shape[1], bits)
    summed = from_words(words.sum(axis=0), bits)
    assert summed.tolist() == values.sum(axis=0).tolist()


@pytest.mark.parametrize("value", [-1, 2**63 - 1, -(2**63), 0])
def test_as_many_as_may_be_summed_stay_within_a_word(value: int) -> None:
    words = to_words(numpy.array([value]), 32) * MOST_SUMMED
    assert words.min() >= 0
    assert words.max() < 2**31
    expected = (value * MOST_SUMMED + 2**63) % 2**64 - 2**63
    assert from_words(words, 32).tolist() == [expected]


def test_by_hand() -> None:
    assert to_words(numpy.array([-2, 2**16 + 5]), 32).tolist() == [
        *(65534, 65535, 65535, 65535),
        *(5, 1, 0, 0),
    ]
