"""Noisy histograms: sums by hand, sensitivity measured, counts that fit best, quantiles."""

import itertools

import numpy
import pytest

from confide.privacy.histogram_tree import (
    consistent,
    levels,
    num_nodes,
    quantile_edges,
    sensitivity,
    shares,
    tree_sums,
)


def test_a_record_counts_on_the_path_to_its_cell() -> None:
    sums = tree_sums(numpy.array([[2], [0], [-1]]), 4)
    assert sums.tolist() == [[2, 1, 1, 1, 0, 1, 0]]


def test_cells_beyond_the_grid_count_nothing() -> None:
    assert tree_sums(numpy.array([[4], [-7]]), 4).sum() == 0


@pytest.mark.parametrize(("cells", "depth"), [(1, 1), (2, 2), (3, 3), (4, 3), (190, 9), (256, 9)])
def test_levels_and_nodes_of_a_tree(cells: int, depth: int) -> None:
    assert levels(cells) == depth
    assert num_nodes(cells) == 2**depth - 1


@pytest.mark.parametrize("grouped", [False, True])
def test_one_unit_moves_sums_by_no_more_than_the_sensitivity(grouped: bool) -> None:
    drawn = numpy.random.default_rng(0)
    cells = drawn.integers(-1, 190, size=(40, 7))
    cells[:8] = cells[0]  # a unit of equal records moves a sum furthest
    groups = numpy.repeat(numpy.arange(5), 8) if grouped else numpy.arange(40)
    whole = tree_sums(cells, 190, groups)
    moved = []
    for unit in range(groups.max() + 1):
        rest = cells.copy()
        rest[groups == unit] = -1  # zeroed out: it adds nothing
        moved.append(numpy.linalg.norm(whole - tree_sums(rest, 190, groups)))
    assert max(moved) <= sensitivity(7, 190) * (1 + 1e-12)
    assert max(moved) > 0.8 * sensitivity(7, 190)


def test_a_unit_without_missing_values_moves_them_by_exactly_that() -> None:
    one = tree_sums(numpy.array([[3, 99, 189]]), 190)
    assert numpy.linalg.norm(one) == pytest.approx(sensitivity(3, 190))


def test_consistent_counts_are_the_least_squares_fit() -> None:
    noisy = numpy.random.default_rng(1).normal(10, 3, num_nodes(8))
    # Each node is the sum of the leaves below it.
    below = numpy.array(
        [
            [leaf >> (3 - level) == node for leaf in range(8)]
            for level in range(4)
            for node in range(2**level)
        ],
        dtype=float,
    )
    fit, *_ = numpy.linalg.lstsq(below, noisy, rcond=None)
    assert consistent(noisy, 8) == pytest.approx(fit)


def test_counts_without_noise_stay_as_they_are() -> None:
    cells = numpy.random.default_rng(2).integers(0, 190, size=(500, 1))
    leaves = consistent(tree_sums(cells, 190)[0], 190)
    assert leaves == pytest.approx(numpy.bincount(cells[:, 0], minlength=190), abs=1e-9)


GRID = numpy.linspace(0, 10, 11)


def test_quantiles_are_read_off_the_counts() -> None:
    edges = quantile_edges(numpy.array([4.0, 4, 0, 0, 0, 7, 0, 0, 0, 0]), GRID, 5)
    assert edges == pytest.approx([0.75, 1.5, 5 + 1 / 7, 5 + 4 / 7], abs=1e-6)


def test_tied_values_leave_distinct_edges() -> None:
    leaves = numpy.zeros(10)
    leaves[3] = 1000
    edges = quantile_edges(leaves, GRID, 8)
    assert len(edges) == 7
    assert all(3 <= one < other <= 4 for one, other in itertools.pairwise(edges))


@pytest.mark.parametrize("leaves", [[0.0] * 10, [-5.0] * 10, [-5.0, 2.0, 2.0] + [0.0] * 7])
def test_counts_that_noise_has_drowned_still_give_edges(leaves: list[float]) -> None:
    edges = quantile_edges(numpy.array(leaves), GRID, 5)
    assert 1 <= len(edges) <= 4
    assert all(0 < one < other < 10 for one, other in itertools.pairwise(edges))


@pytest.mark.parametrize("size", [1, 3, 7, 49, 997, 9_999, 10_000])
def test_shares_of_a_group_never_add_up_to_more_than_one(size: int) -> None:
    groups = numpy.arange(3).repeat(size)
    parts = shares(groups)
    assert (numpy.bincount(groups, weights=parts) <= 1).all()
    assert (numpy.bincount(groups, weights=parts) > 1 - 1e-9).all()
