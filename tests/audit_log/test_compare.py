"""What two sides' logs tell of a round is the same, or it is told where it is not."""

from typing import Any

import pytest

from confide.audit_log.compare import Told, ledger_problems, side_problems
from confide.errors import UnreadableError
from confide.security.chain import Event


def told(side: str, *events: tuple[str, dict[str, Any]]) -> Told:
    found = Told()
    begun = ("begun", {"side": side, "name": "Mill" if side == "institution" else "fed"})
    for number, (kind, content) in enumerate([begun, *events], start=1):
        found.take(Event(number=number, time=0.0, kind=kind, content=content, previous=""))
    return found


def answer(number: int, code: str | None = None) -> tuple[str, dict[str, Any]]:
    content: dict[str, Any] = {"request": "train", "job": "trial", "round": number}
    return ("answered", content) if code is None else ("refused", {**content, "code": code})


def done(number: int, refused: str | None = None, **more: bool) -> tuple[str, dict[str, Any]]:
    content = {
        "job": "trial",
        "round": number,
        "accepted": [] if refused else ["Mill"],
        "refused": {"Mill": refused} if refused else {},
    }
    return "round", {**content, **more}


def problems(institution: Told, *rounds: tuple[str, dict[str, Any]]) -> list[str]:
    return list(side_problems(institution, told("coordinator", *rounds)))


def test_the_same_on_both_sides_is_no_problem() -> None:
    institution = told(
        "institution", answer(1), answer(2, "policy_hours"), answer(2), answer(3, "stopped")
    )
    assert problems(institution, done(1), done(2), done(3, "stopped: 1")) == []


@pytest.mark.parametrize("code", ["no_reply", "tensor_shape", "error_reply", "not_needed"])
def test_codes_that_are_the_coordinators_own_need_no_counterpart(code: str) -> None:
    assert problems(told("institution", answer(1)), done(1, code)) == []


def test_an_update_that_the_institution_does_not_know_is_told() -> None:
    (problem,) = problems(told("institution", answer(1)), done(1), done(2))
    assert problem == (
        "Job trial, round 2: the coordinator accepted an update of Mill, and the institution's log"
        " knows of none."
    )


def test_a_refusal_that_the_institution_did_not_write_is_told() -> None:
    (problem,) = problems(told("institution", answer(1)), done(1, "budget_exhausted: 3, 2"))
    assert "was told budget_exhausted by Mill" in problem


def test_a_refusal_to_take_part_is_held_against_the_institutions_log() -> None:
    begun = ("run", {"state": "begun", "job": "trial", "absent": {"Mill": "policy_hours: 3"}})
    assert problems(told("institution", answer(0, "policy_hours")), begun) == []
    (problem,) = problems(told("institution", answer(0, "stopped")), begun)
    assert "was told policy_hours by Mill before the first round" in problem


def test_rounds_that_the_coordinators_log_lost_are_told() -> None:
    institution = told("institution", answer(1), answer(2), answer(3))
    (problem,) = problems(institution, done(1))
    assert "answered in round 3, and the coordinator's log ends with round 1" in problem
    assert problems(institution, done(1), done(2)) == []


def test_an_event_of_another_form_is_named() -> None:
    with pytest.raises(UnreadableError, match="Event 2 does not say what an event round"):
        told("coordinator", ("round", {"job": "trial"}))


def test_questions_that_are_no_rounds_are_left_out() -> None:
    assert problems(told("institution"), done(1, by_arrival=True)) == []


def test_a_log_that_was_written_anew_under_another_name_is_told() -> None:
    enrolled = ("enrolled", {"institution": "Mill", "job": "trial", "key": None})
    mine = told("institution", answer(1))
    assert problems(mine, enrolled, done(1)) == []
    anew = Told()
    begun = {"side": "institution", "name": "Quay"}
    for number, (kind, content) in enumerate([("begun", begun), answer(1)], start=1):
        anew.take(Event(number=number, time=0.0, kind=kind, content=content, previous=""))
    (problem,) = problems(anew, enrolled, done(1))
    assert "the log is Quay's" in problem
    assert "the coordinator knows Mill" in problem


def test_only_the_first_event_says_whose_log_it_is() -> None:
    found = told("institution", ("begun", {"side": "coordinator", "name": "Quay"}))
    assert (found.side, found.name) == ("institution", "Mill")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("answered", {"request": "train", "job": ["trial"], "round": 1}),
        ("answered", {"request": "train", "job": "trial", "round": {}}),
        ("refused", {"request": "query", "job": "trial", "round": 0, "code": [1]}),
        ("answered", {"request": "query", "ledger": {"number": "1", "hash": "ab"}}),
        ("answered", {"request": "query", "ledger": {"number": 1, "hash": None}}),
        ("round", {"job": "trial", "round": 1, "accepted": [1], "refused": {}}),
        ("round", {"job": "trial", "round": 1, "accepted": [], "refused": {"Mill": 3}}),
        ("run", {"job": "trial", "state": "begun", "absent": {"Mill": []}}),
        ("enrolled", {"job": "trial"}),
    ],
)
def test_what_is_no_name_number_or_code_is_refused(kind: str, content: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match=f"does not say what an event {kind}"):
        told("institution", (kind, content))


def test_an_event_of_the_ledger_that_no_ledger_has_is_told() -> None:
    ledger = [Event(number=1, time=0.0, kind="reserve", content={}, previous="")]
    # Counted from its end, it would be the newest one
    for number in (0, -1, 2):
        named = {"number": number, "hash": ledger[0].hash}
        found = told("institution", ("answered", {"request": "query", "ledger": named}))
        (problem,) = ledger_problems(found, ledger)
        assert f"names event {number} of the ledger, which ends with 1" in problem
