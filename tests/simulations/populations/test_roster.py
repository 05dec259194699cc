"""Names that nobody lists: drawn from as from the sorted list of them."""

from collections.abc import Sequence

import pytest
from populations_made import Made

from confide.simulations.populations.roster import NodeNames, SourceRoster
from confide.simulations.populations.source import RecordSource
from confide.strategies.selections.uniform import SelectAll, SelectUniform

SECRET = bytes(32)


def roster(n: int, without: Sequence[str] = ()) -> SourceRoster:
    source: RecordSource = Made(n)
    return SourceRoster(source, without)


@pytest.mark.parametrize(("n", "cohort"), [(5, 5), (30, 8), (1000, 400), (12_345, 100)])
def test_a_cohort_is_the_one_drawn_from_the_list(n: int, cohort: int) -> None:
    listed = [Made(n).name(i) for i in range(n)]
    select = SelectUniform(clients_per_round=cohort)
    for server_round in range(1, 6):
        asked = {"secret": SECRET, "server_round": server_round}
        assert select(roster(n), **asked) == select(listed[::-1], **asked)


def test_a_million_names_are_not_listed() -> None:
    names = roster(10**6)
    drawn = SelectUniform(clients_per_round=3)(names, secret=SECRET, server_round=1)
    assert drawn == sorted(set(drawn))
    assert [names[names.number(name)] for name in drawn] == drawn
    assert "client-1000001" not in names
    with pytest.raises(ValueError, match="none of these 1000000"):
        names.index("somebody")


def test_who_withdrew_is_no_more_among_them() -> None:
    gone = ["client-02", "client-03", "client-10"]
    left = [name for name in roster(10) if name not in gone]
    names = roster(10, gone)
    assert list(names) == left == SelectAll()(names, secret=SECRET, server_round=1)
    assert [names.number(name) for name in left] == list(range(7))
    assert not any(name in names for name in gone)
    assert names[-1] == "client-09"
    assert names[1:3] == left[1:3]


def test_nodes_are_numbered_in_the_order_of_names() -> None:
    nodes = NodeNames(roster(10))
    assert nodes[1] == "client-01"
    assert dict(nodes)[10] == "client-10"
    assert 0 not in nodes
    assert 11 not in nodes
