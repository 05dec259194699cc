"""Asking again: after an error soon, after silence later, and never more often than that."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from confide.flower.messages import task_identity
from confide.protocol.messages import Reply, pack_reply
from confide.server.rounds.exchange import AskAgain, exchange

QUESTION = RecordDict({"request": ConfigRecord({"plan": ""})})
TIMEOUT_S = 1200.0
Network = Callable[[float, int], Message | None]
"""(seconds since the begin, number of the copy, from 1) -> what comes of a copy; None for
silence."""


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


@dataclass
class Clock:
    seconds: float = 0.0
    is_virtual: bool = True

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += max(seconds, 1e-3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class LossyGrid:
    """One node behind a network that loses messages as it is told."""

    clock: Clock
    network: Network
    sent_at: list[float] = field(default_factory=list)
    lives: list[float] = field(default_factory=list)
    most_polled: int = 0
    _open: dict[str, Message] = field(default_factory=dict)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self.sent_at.append(self.clock.now())
            self.lives.append(message.metadata.ttl)
            ids.append(f"copy-{len(self.sent_at)}")
            self._open[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = sorted(message_ids)
        self.most_polled = max(self.most_polled, len(wanted))
        for message_id in wanted:
            reply = (
                self.network(self.clock.now(), int(message_id.removeprefix("copy-")))
                if message_id in self._open
                else None
            )
            if reply is not None:
                del self._open[message_id]
                reply.metadata.__dict__["_reply_to_message_id"] = message_id
                return [reply]
        return []


def answered(institution: str = "ward", refusal: str | None = None) -> Message:
    message = Message(QUESTION, 7, "train", group_id="1")
    return Message(pack_reply(Reply(institution=institution, refusal=refusal)), reply_to=message)


def failed() -> Message:
    return Message(Error(code=5, reason=None), reply_to=Message(QUESTION, 7, "train", group_id="1"))


def asked(
    clock: Clock, network: Network, *, timeout_s: float = TIMEOUT_S
) -> tuple[LossyGrid, list[Message]]:
    grid = LossyGrid(clock, network)
    question = Message(QUESTION, 7, "train", group_id="1")
    return grid, list(exchange(cast(Grid, grid), [question], timeout_s, AskAgain(), clock))


def pauses(grid: LossyGrid) -> list[int]:
    return [round(later - earlier) for earlier, later in itertools.pairwise(grid.sent_at)]


def test_answer_ends_the_wait_and_nothing_is_asked_twice(clock: Clock) -> None:
    grid, replies = asked(clock, lambda now, copy: answered() if now > 50 else None)
    assert len(replies) == len(grid.sent_at) == 1


def test_silence_is_asked_again_after_a_minute_then_two(clock: Clock) -> None:
    grid, replies = asked(clock, lambda now, copy: answered() if copy == 3 else None)
    assert not replies[0].has_error()
    assert pauses(grid) == pytest.approx([60, 120], abs=2)


def test_late_answer_to_the_first_copy_counts(clock: Clock) -> None:
    grid, replies = asked(clock, lambda now, copy: answered() if copy == 1 and now > 100 else None)
    assert len(replies) == 1
    assert len(grid.sent_at) == 2


def test_errors_while_a_node_is_offline_do_not_lengthen_the_silence_after_it(clock: Clock) -> None:
    def network(now: float, copy: int) -> Message | None:
        if now < 90:
            return failed()
        return (
            answered() if copy > first_lost else None
        )  # the first copy after the node is back is lost

    first_lost = 7
    grid, replies = asked(clock, network)
    assert not replies[0].has_error()
    assert pauses(grid)[:6] == pytest.approx([2, 4, 8, 16, 30, 30], abs=2)
    assert pauses(grid)[6] == pytest.approx(60, abs=2)


@pytest.mark.parametrize("refusal", ["policy_approval", "policy_hours"])
def test_who_says_not_yet_is_asked_every_half_minute_without_a_growing_pile(
    clock: Clock, refusal: str
) -> None:
    grid, replies = asked(clock, lambda now, copy: answered(refusal=refusal), timeout_s=36_000)
    assert grid.most_polled == 1
    assert len(grid.sent_at) == pytest.approx(36_000 / 30, rel=0.1)
    assert len(replies) == 1, "the last word is handed over at the end"


def test_other_refusals_are_answers(clock: Clock) -> None:
    grid, replies = asked(clock, lambda now, copy: answered(refusal="budget_exhausted"))
    assert len(grid.sent_at) == len(replies) == 1


def test_nobody_waits_beyond_the_timeout(clock: Clock) -> None:
    asked(clock, lambda now, copy: None, timeout_s=100)
    assert clock.now() == pytest.approx(100, abs=2)


def test_message_lives_no_longer_than_the_round(clock: Clock) -> None:
    grid, _ = asked(clock, lambda now, copy: None, timeout_s=100)
    assert grid.lives[1] == pytest.approx(40, abs=2)
