from collections import Counter
from itertools import pairwise, permutations

import pytest

from confide.strategies.selections.shuffled import shuffled


@pytest.mark.parametrize("n", [0, 1, 2, 5, 4096, 4097, 5000, 8192, 16_385])
def test_every_number_stands_at_one_place(n: int) -> None:
    number = shuffled(n, 7)
    assert sorted(map(number, range(n))) == list(range(n))


def test_the_order_follows_from_the_seed() -> None:
    for n in (50, 5000):
        first, again, other = ([shuffled(n, s)(i) for i in range(n)] for s in (1, 1, 2))
        assert first == again
        assert sum(a == b for a, b in zip(first, other, strict=True)) < n / 10
        assert first != sorted(first)


def test_few_numbers_come_in_every_order_alike() -> None:
    seen = Counter(tuple(map(shuffled(3, seed), range(3))) for seed in range(3000))
    # 500 expected, standard deviation 20
    assert seen.keys() == set(permutations(range(3)))
    assert all(400 < count < 600 for count in seen.values())


def test_any_of_many_numbers_comes_first_alike() -> None:
    tenths = Counter(shuffled(6000, seed)(0) // 600 for seed in range(2000))
    # 200 expected in each tenth, standard deviation 13
    assert all(140 < tenths[tenth] < 260 for tenth in range(10))


def test_neighbours_are_scattered() -> None:
    number = shuffled(1_000_000, 3)
    places = [number(place) for place in range(2000)]
    assert len(set(places)) == 2000
    # Of a fair order 1000 lie in the lower half, standard deviation 22
    assert 880 < sum(place < 500_000 for place in places) < 1120
    assert 880 < sum(a < b for a, b in pairwise(places)) < 1120
