import math
import random
from collections import Counter

import pytest
from populations_made import Made

from confide.privacy.randomness import seed_from
from confide.simulations.populations.roster import SourceRoster
from confide.strategies.selections.poisson import SelectPoisson

CLIENTS = [f"bank-{number}" for number in (3, 1, 2, 4)]
SECRET = bytes(32)
ROUNDS = range(1, 2001)


def drawn(probability: float) -> list[list[str]]:
    select = SelectPoisson(probability=probability)
    return [select(CLIENTS, secret=SECRET, server_round=r) for r in ROUNDS]


def test_each_client_takes_part_by_itself_with_the_probability() -> None:
    rounds = drawn(0.3)
    alone = Counter(name for names in rounds for name in names)
    pairs = Counter((a, b) for names in rounds for a in names for b in names if a < b)
    # Of 2000 rounds 600 expected, standard deviation 20.5; of two together 180 and 12.8
    assert all(520 < alone[name] < 680 for name in CLIENTS)
    assert len(pairs) == 6
    assert all(125 < count < 235 for count in pairs.values())


def test_as_often_as_chance_has_it_nobody_takes_part() -> None:
    sizes = Counter(map(len, drawn(0.3)))
    for size in range(5):
        expected = 2000 * math.comb(4, size) * 0.3**size * 0.7 ** (4 - size)
        assert abs(sizes[size] - expected) < 4 * math.sqrt(expected) + 1


def test_positions_by_hand() -> None:
    # Of k coins that fall short in a row the chance is 1/2^k: k is the whole part of -log2(1 - u)
    source = random.Random(seed_from(SECRET, "selection", 5))
    names, position = sorted(CLIENTS), -1
    expected = []
    while True:
        position += 1 + math.floor(-math.log2(1 - source.random()))
        if position >= 4:
            break
        expected.append(names[position])
    assert SelectPoisson(probability=0.5)(CLIENTS, secret=SECRET, server_round=5) == expected


def test_the_draw_is_that_of_the_secret_and_the_round_whatever_the_order() -> None:
    select = SelectPoisson(probability=0.5)
    for server_round in range(1, 30):
        there = select(CLIENTS, secret=SECRET, server_round=server_round)
        assert there == sorted(there)
        assert there == select(CLIENTS[::-1], secret=SECRET, server_round=server_round)


def test_with_probability_one_everybody_takes_part() -> None:
    assert SelectPoisson(probability=1.0)(CLIENTS, secret=SECRET, server_round=1) == sorted(CLIENTS)


@pytest.mark.parametrize("probability", [1e-300, 1e-18])
def test_a_probability_of_almost_nothing_draws_nobody(probability: float) -> None:
    assert SelectPoisson(probability=probability)(CLIENTS, secret=SECRET, server_round=1) == []


def test_of_a_population_that_is_not_listed_the_same_are_drawn() -> None:
    listed = [Made(12_345).name(index) for index in range(12_345)]
    select = SelectPoisson(probability=0.004)
    for server_round in range(1, 6):
        asked = {"secret": SECRET, "server_round": server_round}
        found = select(SourceRoster(Made(12_345)), **asked)
        assert found == select(listed[::-1], **asked)
        assert 20 < len(found) < 90  # 49 expected, standard deviation 7


def test_a_sum_is_divided_by_whom_it_names() -> None:
    # 3 of 20 clients, of whom 4 are expected: a mean of 3 counts three quarters
    assert SelectPoisson(probability=0.2).factor(3, 20) == 1.0
    expected = SelectPoisson(probability=0.2, denominator="expected")
    assert expected.factor(3, 20) == 0.75
    assert SelectPoisson(probability=1.0, denominator="expected").factor(20, 20) == 1.0
