"""Rounds in virtual time: who is waited for, and when a round ends."""

from pathlib import Path

import pytest
from fake_institutions import Fake, drifters, end, halfway_to
from virtual_runs import strategy, taking, virtual_run

from confide.protocol.messages import Reply
from confide.protocol.tensors import sha256
from confide.strategies.selections.uniform import SelectUniform

pytestmark = pytest.mark.usefixtures("identity")

TIMES = {"a": [1.0], "b": [3.0], "c": [10.0]}


def test_a_round_lasts_as_long_as_its_slowest_client(tmp_path: Path) -> None:
    outcome = virtual_run(drifters(), strategy(), taking(tmp_path, TIMES), num_rounds=2)
    assert [record.virtual_s for record in outcome.state.history] == [10.0, 20.0]


def test_delays_alone_change_no_weight(tmp_path: Path) -> None:
    without = virtual_run(drifters(), strategy(), None, num_rounds=3)
    delayed = virtual_run(drifters(), strategy(), taking(tmp_path, TIMES), num_rounds=3)
    assert sha256(delayed.state.params) == sha256(without.state.params)
    assert without.state.history[-1].virtual_s is None


def test_who_is_late_is_not_waited_for(tmp_path: Path) -> None:
    delays = taking(tmp_path, TIMES, deadline_s=5.0)
    outcome = virtual_run(drifters(), strategy(), delays, num_rounds=2)
    for record in outcome.state.history:
        assert record.accepted == ("a", "b")
        assert record.refused == {"c": "no_reply"}
    assert [record.virtual_s for record in outcome.state.history] == [5.0, 10.0]


@pytest.mark.parametrize(("charges", "computed"), [(True, 2), (False, 0)])
def test_who_is_late_computes_where_that_is_charged(
    tmp_path: Path, charges: bool, computed: int
) -> None:
    fakes = drifters()
    delays = taking(tmp_path, TIMES, deadline_s=5.0)
    virtual_run(fakes, strategy(), delays, charges=charges, num_rounds=2)
    assert len([kind for kind, _ in fakes[2].asked if kind == "train"]) == computed


def test_a_round_is_closed_after_the_first_answers_that_it_needs(tmp_path: Path) -> None:
    # a: 1, b: 3; their mean 2. c, which would come last, is told as not needed.
    fakes = [
        Fake("a", 1, halfway_to(2.0)),
        Fake("b", 1, halfway_to(6.0)),
        Fake("c", 1, halfway_to(60.0)),
    ]
    selection = SelectUniform(clients_per_round=2, over_selection=1.5)
    outcome = virtual_run(
        fakes, strategy(selection=selection), taking(tmp_path, TIMES), num_rounds=1
    )
    record = outcome.state.history[0]
    assert end(outcome) == [2.0, 2.0]
    assert (record.accepted, record.refused, record.virtual_s) == (
        ("a", "b"),
        {"c": "not_needed"},
        3.0,
    )


def test_a_refusal_makes_room_for_the_next_answer(tmp_path: Path) -> None:
    fakes = drifters()
    fakes[0].tamper = lambda reply: Reply(institution="a", refusal="privacy")
    selection = SelectUniform(clients_per_round=2, over_selection=1.5)
    outcome = virtual_run(
        fakes, strategy(selection=selection), taking(tmp_path, TIMES), num_rounds=1
    )
    record = outcome.state.history[0]
    assert (record.accepted, record.refused) == (("b", "c"), {"a": "privacy"})
    assert record.virtual_s == 10.0


def test_lost_answers_are_noticed_when_they_would_have_come(tmp_path: Path) -> None:
    delays = taking(tmp_path, {"a": [1.0], "b": [3.0], "c": [4.0]}, dropout=0.5)
    outcome = virtual_run(drifters(), strategy(), delays, num_rounds=4)
    history = outcome.state.history
    assert any(record.refused for record in history)
    assert [record.virtual_s for record in history] == [4.0 * r for r in range(1, 5)]
