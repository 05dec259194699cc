"""Encodings by hand, and what all of them owe: width, bound, and records that do not mix."""

import itertools
import math

import numpy
import pytest

from confide.encodings.encoding import Encoding, Floats, Scale, between, public_edges
from confide.encodings.table import ENCODINGS

LAB = Scale(
    minimum=0.0,
    maximum=530.0,
    edges=public_edges(0.0, 530.0, 16),
    bins=16,
    mean=2.0,
    deviation=1.5,
)
SIGNED = Scale(
    minimum=-3.0, maximum=7.0, edges=(-3.0, 0.0, 1.0, 7.0), bins=3, mean=1.0, deviation=1.0
)
EVERY = pytest.mark.parametrize("name", list(ENCODINGS))
SCALES = pytest.mark.parametrize("scale", [LAB, SIGNED], ids=["lab", "signed"])


def drawn(scale: Scale) -> Floats:
    ends = [scale.minimum, scale.maximum, *scale.edges]
    inside = numpy.random.default_rng(0).uniform(scale.minimum, scale.maximum, 60)
    return numpy.concatenate([ends, inside, scale.minimum + (inside - scale.minimum) / 1000])


def encode(name: str, values: list[float], scale: Scale) -> list[list[float]]:
    rows: list[list[float]] = ENCODINGS[name].encode_fn(numpy.array(values), scale).tolist()
    return rows


def test_a_number_fills_its_cells_from_below() -> None:
    assert encode("piecewise", [-3.0, -1.5, 0.0, 0.5, 7.0], SIGNED) == [
        [-1, -1, -1],
        [0, -1, -1],
        [1, -1, -1],
        [1, 0, -1],
        [1, 1, 1],
    ]


def test_an_edge_opens_its_cell() -> None:
    assert encode("one_hot", [-3.0, 0.0, 0.99, 1.0, 7.0], SIGNED) == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 1],
    ]


def test_deviations_from_a_public_mean_end_at_four() -> None:
    assert encode("standardised", [-3.0, 1.0, 2.5, 7.0], SIGNED) == [[-4], [0], [1.5], [4]]


@pytest.mark.parametrize("name", ["linear", "log", "asinh"])
def test_a_range_becomes_minus_2_to_2(name: str) -> None:
    low, high = encode(name, [-3.0, 7.0], SIGNED)
    assert low == [-2]
    assert high == [pytest.approx(2)]


def test_logarithms_tell_small_concentrations_apart() -> None:
    def apart(name: str) -> float:
        (low,), (high,) = encode(name, [0.5, 5.0], LAB)
        return high - low

    assert apart("log") > 0.8 > 0.04 > apart("linear")


def test_periods_halve_from_wave_to_wave() -> None:
    (row,) = encode("periodic", [530.0], SIGNED.__class__(**{**vars(LAB), "bins": 4}))
    # At the end of the range each wave's sine is 0, and its cosine 1 or -1.
    expected = [2, 0, -1, 0, 1 / math.sqrt(2)]
    assert row == pytest.approx(expected, abs=1e-12)


@EVERY
@SCALES
def test_widths_and_bounds_hold(name: str, scale: Scale) -> None:
    encoding: Encoding = ENCODINGS[name]
    rows = encoding.encode_fn(drawn(scale), scale)
    assert rows.shape == (len(drawn(scale)), encoding.width_fn(scale))
    norms = numpy.linalg.norm(rows, axis=1)
    assert norms.max() <= encoding.bound_fn(scale) * (1 + 1e-12)
    assert norms.max() >= 0.5 * encoding.bound_fn(scale)  # a bound that says something


@EVERY
@SCALES
def test_a_number_is_encoded_alike_alone_and_among_others(name: str, scale: Scale) -> None:
    values, encode_fn = drawn(scale), ENCODINGS[name].encode_fn
    alone = numpy.concatenate([encode_fn(values[i : i + 1], scale) for i in range(len(values))])
    assert (encode_fn(values, scale) == alone).all()
    assert (encode_fn(values[::-1].copy(), scale)[::-1] == alone).all()


@EVERY
def test_numbers_that_differ_are_encoded_otherwise(name: str) -> None:
    rows = encode(name, [0.4, 1.4, 14.0, 300.0], LAB)
    assert len({tuple(row) for row in rows}) == (3 if name == "standardised" else 4)


# --- public edges


@pytest.mark.parametrize("bins", [2, 3, 8, 16, 256])
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 530.0), (-3.0, 7.0), (1e9, 1e9 + 1), (-1e300, 1e300), (0.0, 5e-324)]
)
def test_public_edges_are_distinct_and_hold_the_range(low: float, high: float, bins: int) -> None:
    edges = public_edges(low, high, bins)
    assert edges[0] == low
    assert edges[-1] == high
    assert all(one < other for one, other in itertools.pairwise(edges))
    assert 1 <= len(edges) - 1 <= bins


def test_public_edges_see_the_median_of_a_lab_value() -> None:
    edges = public_edges(0.0, 530.0, 16)
    assert sum(edge < 4.5 for edge in edges) >= 4


def test_edges_outside_a_range_and_ties_are_left_out() -> None:
    assert between(0, 10, [5.0, 5.0, -1.0, 10.0, 2.0, 12.0]) == (0, 2, 5, 10)
