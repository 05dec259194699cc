from collections import Counter

import pytest

from confide.errors import ConfigError
from confide.strategies.selections.uniform import SelectAll, SelectUniform

CLIENTS = ["bank-3", "bank-1", "bank-2", "bank-4"]
SECRET, OTHER_SECRET = bytes(32), bytes(31) + b"\1"
ROUNDS = range(1, 401)


def test_all_are_selected_in_the_order_of_their_names() -> None:
    assert SelectAll()(CLIENTS, secret=SECRET, server_round=1) == [
        "bank-1",
        "bank-2",
        "bank-3",
        "bank-4",
    ]


def test_uniform_selects_so_many_distinct_clients_in_order() -> None:
    for server_round in range(1, 20):
        chosen = SelectUniform(clients_per_round=3)(
            CLIENTS, secret=SECRET, server_round=server_round
        )
        assert chosen == sorted(set(chosen))
        assert len(chosen) == 3
        assert set(chosen) <= set(CLIENTS)


def test_uniform_repeats_for_the_same_secret_and_round_whatever_the_order() -> None:
    select = SelectUniform(clients_per_round=2)
    for server_round in range(1, 20):
        there = select(CLIENTS, secret=SECRET, server_round=server_round)
        assert there == select(CLIENTS[::-1], secret=SECRET, server_round=server_round)


def test_uniform_changes_with_the_round_and_with_the_secret() -> None:
    select = SelectUniform(clients_per_round=2)
    chosen = [select(CLIENTS, secret=SECRET, server_round=r) for r in ROUNDS]
    assert len({tuple(names) for names in chosen}) == 6
    assert chosen != [select(CLIENTS, secret=OTHER_SECRET, server_round=r) for r in ROUNDS]


def test_uniform_favours_nobody() -> None:
    select = SelectUniform(clients_per_round=2)
    count = Counter(name for r in ROUNDS for name in select(CLIENTS, secret=SECRET, server_round=r))
    # 200 expected, standard deviation 10.
    assert all(150 < count[name] < 250 for name in CLIENTS)


def test_uniform_of_everybody_is_everybody() -> None:
    assert SelectUniform(clients_per_round=4)(CLIENTS, secret=SECRET, server_round=1) == sorted(
        CLIENTS
    )


def test_uniform_of_more_clients_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"clients_per_round=5 exceeds the 4 clients"):
        SelectUniform(clients_per_round=5)(CLIENTS, secret=SECRET, server_round=1)
