"""Exact sums are told of no group, and give away no difference of groups, of few units."""

import itertools

import numpy
import pytest

from confide.metrics.floor import Floor
from confide.metrics.subgroups.disclosure import told_groups

Integers = numpy.ndarray


def codes_of(*columns: list[int]) -> Integers:
    return numpy.array(columns).T


def told(codes: Integers, counts: list[int], least: int = 10) -> list[list[int]]:
    return told_groups(codes, counts, Floor(least=least))


def test_all_groups_of_somebody_are_told_without_a_floor() -> None:
    assert told(codes_of([0, 0, 2]), [4], least=1) == [[0, 2]]


def test_few_units_are_told_with_nobody_and_not_by_what_is_left() -> None:
    assert told(codes_of([0] * 9 + [1] * 30), [3]) == [[]]  # all less the others are nine
    assert told(codes_of([0] * 9 + [1] * 30 + [2] * 12), [3]) == [[1]]  # nine and twelve are left
    assert told(codes_of([0] * 10 + [1] * 30), [3]) == [[0, 1]]


def test_one_record_more_is_not_told_by_a_difference() -> None:
    for few in (1, 9):
        assert told(codes_of([0] * 30 + [1] * 30 + [2] * few), [3]) == [[1]]


@pytest.mark.parametrize("between", [1, 9, 10])
def test_nested_bands_of_two_columns_are_told_if_what_is_between_them_is_enough(
    between: int,
) -> None:
    under_40 = [0] * 50 + [1] * (50 + between)
    under_41 = [0] * (50 + between) + [1] * 50
    found = told(codes_of(under_40, under_41), [3, 3])
    # One of the columns is enough for nobody, and both differ by those between
    assert (found == [[0, 1], [0, 1]]) == (between >= 10)
    assert not all(found) or between >= 10


def test_same_groups_under_two_names_are_told_twice() -> None:
    same = [0] * 20 + [1] * 20
    assert told(codes_of(same, same), [3, 3]) == [[0, 1], [0, 1]]


def test_units_are_owners_where_they_are_known() -> None:
    codes = codes_of([0] * 40 + [1] * 40)
    owners = numpy.array([0] * 40 + list(range(1, 41)))
    assert told_groups(codes, [3], Floor(least=10, owners=owners)) == [[]]
    each = numpy.arange(80)
    assert told_groups(codes, [3], Floor(least=10, owners=each)) == [[0, 1]]


@pytest.mark.parametrize("seed", range(40))
def test_no_union_of_told_groups_differs_from_another_by_few(seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    age = rng.integers(20, 60, rng.integers(30, 150))
    edges = [numpy.sort(rng.choice(numpy.arange(22, 58), 2, replace=False)) for _ in range(2)]
    codes = numpy.stack([numpy.searchsorted(one, age, side="right") for one in edges], axis=1)
    found = told(codes, [3, 3], least=8)
    everybody = numpy.ones(len(age), dtype=bool)
    # What is known of a column: the groups told, all records, and so what is left
    unions = []
    for place, groups in enumerate(found):
        parts = [codes[:, place] == one for one in groups]
        rest = everybody & ~numpy.any(parts, axis=0) if parts else everybody
        parts += [rest] if rest.any() else []
        unions.append(
            [
                numpy.any(
                    [part for part, is_in in zip(parts, chosen, strict=True) if is_in], axis=0
                )
                if any(chosen)
                else ~everybody
                for chosen in itertools.product((False, True), repeat=len(parts))
            ]
        )
    for one, other in itertools.product(*unions):
        apart = int((one ^ other).sum())
        assert apart == 0 or apart >= 8
