from collections import Counter

import pytest
from populations_made import Made

from confide.errors import ConfigError
from confide.simulations.populations.roster import SourceRoster
from confide.strategies.selections.round_robin import SelectRoundRobin
from confide.strategies.strategy import Surroundings

SECRET = bytes(32)


def names(count: int) -> list[str]:
    return [Made(count).name(index) for index in range(count)]


def rounds_of(
    select: SelectRoundRobin, count: int, rounds: int, secret: bytes = SECRET
) -> list[list[str]]:
    return [select(names(count), secret=secret, server_round=r) for r in range(1, rounds + 1)]


def nearest(rounds: list[list[str]]) -> int:
    """Fewest rounds from one of a client's to its next."""
    last: dict[str, int] = {}
    apart = len(rounds)
    for number, cohort in enumerate(rounds):
        for name in cohort:
            apart = min(apart, number - last.get(name, -len(rounds)))
            last[name] = number
    return apart


@pytest.mark.parametrize(("count", "cohort"), [(7, 3), (6, 2), (10, 10), (11, 4), (13, 5), (4, 1)])
def test_rounds_of_a_client_lie_as_far_apart_as_may_be(count: int, cohort: int) -> None:
    rounds = rounds_of(SelectRoundRobin(clients_per_round=cohort), count, 60)
    assert all(len(set(names)) == cohort for names in rounds)
    assert nearest(rounds) == count // cohort
    taken = Counter(name for names in rounds for name in names)
    assert len(taken) == count
    assert max(taken.values()) - min(taken.values()) <= 1


def test_turns_by_hand() -> None:
    # In an order of seven, three a round: 012, 345, 601, 234, 560, 123, 456, and so on again
    by_turn = rounds_of(SelectRoundRobin(clients_per_round=1), 7, 7)
    order = [name for [name] in by_turn]
    assert sorted(order) == names(7)
    turns = [(0, 1, 2), (3, 4, 5), (6, 0, 1), (2, 3, 4), (5, 6, 0), (1, 2, 3), (4, 5, 6), (0, 1, 2)]
    expected = [sorted(order[turn] for turn in three) for three in turns]
    assert rounds_of(SelectRoundRobin(clients_per_round=3), 7, 8) == expected


def test_the_order_is_that_of_the_secret_whatever_the_order_of_names() -> None:
    select = SelectRoundRobin(clients_per_round=2)
    for server_round in range(1, 10):
        asked = {"secret": SECRET, "server_round": server_round}
        assert select(names(9), **asked) == select(names(9)[::-1], **asked)
    assert rounds_of(select, 9, 5) != rounds_of(select, 9, 5, secret=bytes(31) + b"\1")


def test_whoever_took_part_too_lately_is_passed_over() -> None:
    select = SelectRoundRobin(clients_per_round=2, separation=3)
    late = select(names(8), secret=SECRET, server_round=4)
    asked: list[int] = []

    def recent(rounds: int) -> list[str]:
        asked.append(rounds)
        return late[:1]

    seen = Surroundings(is_there_fn=lambda _: True, asked_fn=recent)
    found = select.draw(names(8), seen, secret=SECRET, server_round=4)
    assert asked == [2]
    assert late[0] not in found
    assert late[1] in found
    assert len(found) == 2


def test_too_few_whose_last_round_is_long_enough_ago_are_refused() -> None:
    select = SelectRoundRobin(clients_per_round=2, separation=2)
    everybody = Surroundings(is_there_fn=lambda _: True, asked_fn=lambda rounds: names(4)[:3])
    with pytest.raises(ConfigError, match=r"of 4 clients 1 took part in none of the last 1 rounds"):
        select.draw(names(4), everybody, secret=SECRET, server_round=2)


def test_of_a_million_the_same_are_drawn_as_of_their_list() -> None:
    select = SelectRoundRobin(clients_per_round=50)
    listed = [Made(5000).name(index) for index in range(5000)]
    for server_round in (1, 2, 101):
        asked = {"secret": SECRET, "server_round": server_round}
        assert select(SourceRoster(Made(5000)), **asked) == select(listed[::-1], **asked)
    million = SourceRoster(Made(10**6))
    first, second = (select(million, secret=SECRET, server_round=r) for r in (1, 2))
    again = select(million, secret=SECRET, server_round=20_001)
    assert not set(first) & set(second)
    assert again == first
