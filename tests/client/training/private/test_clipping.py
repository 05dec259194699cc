"""The clipping rule: its bound, and every row of its table of edge cases."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from confide.client.training.private import clipping
from confide.client.training.private.clipping import ClippingRule, gradient_norms, zero_unless
from confide.errors import PrivacyError

LARGEST = float(np.finfo(np.float32).max)
SUBNORMAL = 2.0**-149

elements = st.floats(width=32, allow_nan=False, allow_infinity=False)
gradients = arrays.arrays(np.float32, (3, 5), elements=elements).map(torch.from_numpy)
norms_c = st.floats(1e-3, 1e6)


def added(gradient: Tensor, clipping_norm: float) -> Tensor:
    """Return what one unit adds, shape [d]."""
    (total,) = ClippingRule(clipping_norm).clipped_sums([gradient.float()[None]])
    return total


def norm(vector: Tensor) -> float:
    return float(vector.double().norm())


# --- the bound


@pytest.mark.parametrize("rule", [ClippingRule(1.0, margin=1.5), ClippingRule(1.0, units=2**52)])
def test_without_room_for_rounding_nothing_is_added(rule: ClippingRule) -> None:
    with pytest.raises(PrivacyError, match="leaves no room"):
        rule.factors(torch.ones(2, dtype=torch.float64), rounded=100)


@given(gradients, norms_c)
def test_what_a_unit_adds_is_at_most_the_clipping_norm(rows: Tensor, c: float) -> None:
    assert all(norm(added(row, c)) <= c for row in rows)


@given(gradients, norms_c, st.integers(0, 2))
def test_zeroing_a_unit_moves_the_sum_by_at_most_the_sensitivity(
    rows: Tensor, c: float, left_out: int
) -> None:
    rule, without = ClippingRule(c), rows.clone()
    without[left_out] = 0.0
    (whole,), (rest,) = rule.clipped_sums([rows]), rule.clipped_sums([without])
    assert torch.equal(whole - rest, added(rows[left_out], c))  # sums are exact
    assert norm(whole - rest) <= rule.sensitivity()


@given(gradients, norms_c)
def test_direction_is_kept(rows: Tensor, c: float) -> None:
    row, rule = rows[0].clamp(-1e6, 1e6), ClippingRule(c)
    scaled = rule.factors(gradient_norms([row[None]]), rounded=len(row)) * row.double()
    assert bool(((scaled - added(row, c)).abs() <= rule.grid).all())


@pytest.mark.parametrize("units", [2**10, 3000, 2**20, 10**7])
def test_sums_of_as_many_units_as_were_named_are_exact(units: int) -> None:
    rule = ClippingRule(0.3, units=units)
    assert units * rule.clipping_norm / rule.grid <= 2**53
    assert rule.grid <= rule.clipping_norm * units * 2.0**-50


@pytest.mark.parametrize("factor", [0.5, 0.99, 1 - 2e-6])
def test_gradient_below_the_norm_is_not_changed(factor: float) -> None:
    gradient = factor * torch.tensor([0.6, 0.8])
    assert torch.equal(added(gradient, 1.0), gradient.double())


def test_gradient_above_the_norm_ends_just_below_it() -> None:
    assert 1 - 2e-6 < norm(added(torch.tensor([30.0, 40.0]), 1.0)) <= 1.0


def test_norm_is_that_over_all_parameters() -> None:
    parts = [torch.tensor([[3.0]]), torch.tensor([[[4.0]]])]
    assert gradient_norms(parts).tolist() == [5.0]
    assert [float(s) for s in ClippingRule(2.5).clipped_sums(parts)] == pytest.approx(
        [1.5, 2.0], rel=2e-6
    )


# --- the table of edge cases


def test_norm_of_zero_adds_zero() -> None:
    assert ClippingRule(1.0).factors(torch.zeros(1, dtype=torch.float64)).tolist() == [1.0]
    assert added(torch.zeros(3), 1.0).tolist() == [0.0] * 3


def test_elements_below_the_grid_add_zero() -> None:
    gradient = torch.full((4,), SUBNORMAL)
    assert gradient_norms([gradient[None]]).item() == 2 * SUBNORMAL
    assert not added(gradient, 1.0).any()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_gradient_that_is_not_finite_adds_zero_and_leaves_the_others(value: float) -> None:
    rows = torch.tensor([[0.1, 0.2], [value, 0.5]])
    (total,) = ClippingRule(1.0).clipped_sums([rows])
    assert torch.equal(total, added(rows[0], 1.0))


def test_norm_that_is_not_finite_has_factor_zero() -> None:
    norms = torch.tensor([math.inf, math.nan, 2.0], dtype=torch.float64)
    assert ClippingRule(4.0).factors(norms).tolist() == [0.0, 0.0, 1.0]


def test_gradient_whose_squares_overflow_is_clipped() -> None:
    assert 0.999 < norm(added(torch.full((16,), 1e28), 1.0)) <= 1.0


@pytest.mark.parametrize(("length", "adds"), [(0.9e30, True), (1.1e30, False), (LARGEST, False)])
def test_norm_above_1e30_adds_zero(length: float, adds: bool) -> None:
    assert bool(added(torch.tensor([length, 0.0]), 1e-3).any()) == adds


def test_bfloat16_adds_what_its_float32_copy_adds() -> None:
    gradient = torch.randn(100, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(added(gradient, 1.0), added(gradient.float(), 1.0))
    assert norm(added(gradient, 1.0)) <= 1.0


@pytest.mark.parametrize("c", [1e-3, 0.1, 10.0, 1e6])
def test_tiny_and_huge_clipping_norms_hold(c: float) -> None:
    gradient = torch.tensor([0.6, 0.8])
    assert norm(added(gradient, c)) <= min(c, 1.0 + 1e-6)
    assert added(gradient, c).any()


# --- the rest


def test_no_unit_at_all_adds_zero() -> None:
    (total,) = ClippingRule(1.0).clipped_sums([torch.empty(0, 2, 3)])
    assert torch.equal(total, torch.zeros(2, 3))


@settings(max_examples=20)
@given(gradients, st.integers(1, 20))
def test_norms_do_not_depend_on_the_size_of_a_block(rows: Tensor, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = gradient_norms([rows])
        patch.setattr(clipping, "_BLOCK", block)
        assert torch.equal(gradient_norms([rows]), whole)


def test_rows_that_are_not_kept_become_zero_whatever_they_hold() -> None:
    values = torch.tensor([[1.0, 2.0], [math.nan, math.inf]])
    assert zero_unless(torch.tensor([True, False]), values).tolist() == [[1.0, 2.0], [0.0, 0.0]]
