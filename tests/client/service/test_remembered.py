"""A question without privacy that is asked again is answered from memory."""

from dataclasses import replace
from typing import Any

import pytest
from connected import Door
from service_child import PLAIN, PRIVATE, ask, make_institution

from confide.client.app import RequestHandler
from confide.client.service.remembered import ReplyCache
from confide.protocol.masked_sums import OpenedBefore, SumQuestion
from confide.protocol.messages import Reply, Request

ASKED = SumQuestion(cohort=("a", "b", "c"), threshold=2)
OPENED = OpenedBefore(digest=bytes(32), survivors=("a", "b"), signatures={})
# --- asked again without privacy


class Counting:
    """A door that counts what it is asked."""

    def __init__(self, door: RequestHandler) -> None:
        self._door, self.name, self.count = door, door.name, 0

    def handle(self, kind: str, request: Request) -> Reply:
        self.count += 1
        return self._door.handle(kind, request)


def test_a_question_without_privacy_is_trained_once() -> None:
    counting = Counting(make_institution(PLAIN))
    door = ReplyCache(counting)
    first, again = door.handle("train", ask(PLAIN)), door.handle("train", ask(PLAIN))
    assert again == first
    assert counting.count == 1
    door.handle("train", ask(PLAIN, server_round=2))
    door.handle("train", ask(PLAIN))  # only the last is kept
    assert counting.count == 3


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("evaluate", ask(PLAIN, splits=("test",))),
        ("train", ask(PRIVATE)),
        ("train", Request(plan="{")),
        ("train", ask(PLAIN, server_round=99)),
    ],
    ids=["evaluation", "private", "garbage", "refused"],
)
def test_other_answers_are_not_remembered(kind: str, request_: Request) -> None:
    counting = Counting(make_institution(PRIVATE if request_.plan == PRIVATE.to_json() else PLAIN))
    door = ReplyCache(counting)
    assert door.handle(kind, request_) == door.handle(kind, request_)
    assert counting.count == 2


def test_every_part_of_a_question_counts() -> None:
    counting = Counting(Door(lambda: Reply(institution="ward")))
    door = ReplyCache(counting)
    first = ask(PLAIN)
    assert first.arrays is not None
    fewer = type(first.arrays)(dict(list(first.arrays.items())[1:]))
    changes: list[dict[str, Any]] = [
        {},
        {"plan": replace(PLAIN, num_rounds=3).to_json()},
        {"splits": ["test"]},
        {"ledger_head": "1:a"},
        {"arrays": fewer},
        {"arrays": None},
        {"sum": ASKED},
        {"sum": replace(ASKED, threshold=3)},
        {"sum": replace(ASKED, cohort=("a", "b", "d"))},
        {"sum": replace(ASKED, before=(OPENED,))},
        {"sum": replace(ASKED, before=(replace(OPENED, survivors=("a", "c")),))},
    ]
    for number, fields in enumerate(changes, start=1):
        door.handle("train", replace(first, **fields))
        assert counting.count == number


def test_who_signed_sums_before_changes_no_answer() -> None:
    """Trained again, without a seed, the round would be another, and the same masks over it."""
    counting = Counting(Door(lambda: Reply(institution="ward")))
    door = ReplyCache(counting)
    for signatures in ({"a": b"signed"}, {"b": b"signed"}):
        before = (replace(OPENED, signatures=signatures),)
        door.handle("train", replace(ask(PLAIN), sum=replace(ASKED, before=before)))
    assert counting.count == 1


def test_a_stopped_job_is_for_the_door_to_refuse() -> None:
    counting, stopped = Counting(make_institution(PLAIN)), set[str]()
    door = ReplyCache(counting, is_stopped=stopped.__contains__)
    door.handle("train", ask(PLAIN))
    stopped.add(PLAIN.job)
    door.handle("train", ask(PLAIN))
    assert counting.count == 2


def test_memory_is_bounded() -> None:
    counting = Counting(Door(lambda: Reply(institution="ward")))
    door = ReplyCache(counting, most_jobs=2)
    requests = [ask(replace(PLAIN, job=f"job-{n}")) for n in range(3)]
    for request in [*requests, *requests[1:], requests[0]]:
        door.handle("train", request)
    assert counting.count == 4
