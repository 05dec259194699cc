from collections import Counter

import pytest
from populations_made import Made

from confide.errors import ConfigError
from confide.simulations.populations.roster import SourceRoster
from confide.strategies.selections.available import SelectAvailable
from confide.strategies.strategy import Surroundings

CLIENTS = [f"bank-{number}" for number in (3, 1, 5, 2, 4)]
SECRET = bytes(32)


def test_those_alone_are_drawn_who_are_there() -> None:
    seen = Surroundings(is_there_fn={"bank-1", "bank-4", "bank-5"}.__contains__)
    select = SelectAvailable(clients_per_round=2)
    count = Counter(
        name
        for r in range(1, 901)
        for name in select.draw(CLIENTS, seen, secret=SECRET, server_round=r)
    )
    # Two of three: 600 expected of each, standard deviation 14
    assert count.keys() == {"bank-1", "bank-4", "bank-5"}
    assert all(540 < n < 660 for n in count.values())


def test_fewer_than_so_many_are_all_taken_and_nobody_is_nobody() -> None:
    select = SelectAvailable(clients_per_round=3)
    two = Surroundings(is_there_fn={"bank-2", "bank-5"}.__contains__)
    assert select.draw(CLIENTS, two, secret=SECRET, server_round=1) == ["bank-2", "bank-5"]
    nobody = Surroundings(is_there_fn=lambda _: False)
    assert select.draw(CLIENTS, nobody, secret=SECRET, server_round=1) == []


def test_the_draw_is_the_same_whatever_the_order() -> None:
    select = SelectAvailable(clients_per_round=3)
    for server_round in range(1, 20):
        there = select(CLIENTS, secret=SECRET, server_round=server_round)
        assert there == select(CLIENTS[::-1], secret=SECRET, server_round=server_round)
        assert there == sorted(set(there))
        assert len(there) == 3


def test_of_a_million_as_many_are_looked_at_as_it_takes() -> None:
    looked: list[str] = []

    def is_there(name: str) -> bool:
        looked.append(name)
        return name.endswith("7")

    names = SourceRoster(Made(10**6))
    select = SelectAvailable(clients_per_round=50)
    seen = Surroundings(is_there_fn=is_there)
    found = select.draw(names, seen, secret=SECRET, server_round=3)
    assert len(found) == 50
    assert all(name.endswith("7") for name in found)
    assert len(looked) < 1500  # 500 expected, standard deviation 67


def test_a_population_that_is_not_listed_is_drawn_from_as_its_list() -> None:
    select = SelectAvailable(clients_per_round=40)
    listed = [Made(5000).name(index) for index in range(5000)]
    asked = {"secret": SECRET, "server_round": 2}
    assert select(SourceRoster(Made(5000)), **asked) == select(listed[::-1], **asked)


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"clients_per_round=6 exceeds the 5 clients"):
        SelectAvailable(clients_per_round=6)(CLIENTS, secret=SECRET, server_round=1)
