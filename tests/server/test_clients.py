"""Questions that are asked again: after an error, after a long silence, never without need."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from confide.exchange import Reply, pack_reply
from confide.flower.messages import assign_message_id, task_identity
from confide.server import clients
from confide.server.clients import AskAgain, exchange

NODES = (11, 12)


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_SILENCE_S", "_FIRST_AGAIN_S"):
        monkeypatch.setattr(clients, name, 0.05)


@dataclass
class ForgetfulGrid:
    """A grid as a SuperLink is one: what it has told once it knows no more, and asked for it, it says so by an error.

    ``outcomes`` gives each node's answers in turn: an error's code, None for silence, or "" for a reply.
    """

    outcomes: dict[int, list[int | str | None]]
    sent: list[int] = field(default_factory=list)
    errors_told: int = 0
    _waiting: dict[str, tuple[Message, int | str | None]] = field(default_factory=dict)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.sent.append(node)
            ids.append(assign_message_id(message))
            self._waiting[ids[-1]] = (message, self.outcomes[node].pop(0))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [reply for message_id in list(message_ids) for reply in self._pull(message_id)]

    def _pull(self, message_id: str) -> Sequence[Message]:
        message, outcome = self._waiting[message_id]
        if outcome is None:
            return []
        self._waiting[message_id] = (message, ErrorCode.MESSAGE_UNAVAILABLE)
        if isinstance(outcome, int):
            self.errors_told += 1
            return [Message(Error(code=outcome), reply_to=message)]
        return [Message(pack_reply(Reply(institution="north", num_examples=1)), reply_to=message)]


def ask(grid: Any, *, timeout: float = 5.0) -> list[Message]:
    questions = [Message(RecordDict(), node, "train") for node in NODES]
    return list(exchange(grid, questions, timeout, AskAgain()))


def test_an_error_is_asked_about_once() -> None:
    """A message that a SuperLink has answered with an error is forgotten there; looking for it makes errors without end."""
    grid = ForgetfulGrid({11: [ErrorCode.NODE_UNAVAILABLE, None, ""], 12: [""]})
    replies = ask(grid)
    assert [reply.has_error() for reply in replies] == [False, False]
    assert grid.errors_told == 1
    assert grid.sent == [11, 12, 11, 11]


def test_whoever_answers_is_not_asked_again() -> None:
    grid = ForgetfulGrid({11: [""], 12: [""]})
    assert len(ask(grid)) == 2
    assert grid.sent == [11, 12]


def test_nobody_is_waited_for_beyond_the_deadline_and_the_last_error_is_told() -> None:
    grid = ForgetfulGrid({11: [ErrorCode.NODE_UNAVAILABLE] * 99, 12: [None] * 99})
    replies = ask(grid, timeout=0.5)
    assert [reply.error.code for reply in replies] == [ErrorCode.NODE_UNAVAILABLE]
    assert grid.errors_told < 6
