"""Replies that arrive in parts, or never.

A look for them does not wait, and one that is lost is an error.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto, run_from_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.run_pb2 import Run as RunProto
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.runtime import RuntimeHttpClient

from confide.flower.grid import DeployedGrid
from confide.flower.messages import task_identity
from confide.flower.runtime import Runtime

NODE = 7


class SuperLink:
    """The part of a SuperLink's runtime API that hands out replies."""

    def __init__(self) -> None:
        self._announced: dict[str, Message] = {}
        self.there: dict[str, bytes] = {}
        self.lost: set[str] = set()
        self.confirmed: list[str] = []
        self.pulled: list[str] = []

    def announce(self, question: str) -> Message:
        """Announce the reply to a question, none of whose parts is there."""
        asked = Message(RecordDict({"a": ConfigRecord({"x": 1})}), NODE, "train")
        asked.metadata.__dict__["_message_id"] = question
        reply = Message(RecordDict({"b": ConfigRecord({"answers": question})}), reply_to=asked)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self._announced[question] = reply
        return reply

    def upload(self, reply: Message, *, without: int = 0) -> None:
        """Upload its parts, all but the last few: the message itself comes last."""
        parts = list(get_all_nested_objects(reply).items())
        self.there |= {name: part.deflate() for name, part in parts[: len(parts) - without]}

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        replies = [
            self._announced.pop(asked) for asked in request.message_ids if asked in self._announced
        ]
        return PullAppMessagesResponse(
            messages_list=[
                message_to_proto(remove_content_from_message(reply)) for reply in replies
            ],
            message_object_trees=[get_object_tree(reply) for reply in replies],
        )

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        name = request.object_id
        self.pulled.append(name)
        content = self.there.get(name, b"")
        return PullObjectResponse(
            object_found=name not in self.lost,
            object_available=bool(content),
            object_content=content,
        )

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        self.confirmed.append(request.message_object_id)


@pytest.fixture
def superlink() -> Iterator[SuperLink]:
    with task_identity(run_id=1, node_id=1):
        yield SuperLink()


@pytest.fixture
def grid(superlink: SuperLink, tmp_path: Path) -> DeployedGrid:
    made = DeployedGrid(Runtime(address="127.0.0.1:1", secret=tmp_path / "secret"), "token")
    made.set_run(run_from_proto(RunProto(run_id=1)))
    made._http._client = cast(RuntimeHttpClient, superlink)
    return made


def test_whole_reply_is_handed_over_once(grid: DeployedGrid, superlink: SuperLink) -> None:
    reply = superlink.announce("q")
    superlink.upload(reply)
    (arrived,) = grid.pull_messages(["q"])
    assert arrived.content["b"] == ConfigRecord({"answers": "q"})
    assert arrived.metadata.reply_to_message_id == "q"
    assert superlink.confirmed == [reply.object_id]
    assert list(grid.pull_messages(["q"])) == []


@pytest.mark.parametrize("without", [1, 2])
def test_reply_that_is_still_uploaded_keeps_no_other_waiting(
    grid: DeployedGrid, superlink: SuperLink, without: int
) -> None:
    slow, quick = superlink.announce("slow"), superlink.announce("quick")
    superlink.upload(slow, without=without)
    superlink.upload(quick)
    (first,) = grid.pull_messages(["slow", "quick"])
    assert first.metadata.reply_to_message_id == "quick"
    assert list(grid.pull_messages(["slow"])) == []
    superlink.upload(slow)
    (second,) = grid.pull_messages(["slow"])
    assert second.metadata.reply_to_message_id == "slow"


def test_nothing_is_fetched_before_the_message_itself_is_there(
    grid: DeployedGrid, superlink: SuperLink
) -> None:
    reply = superlink.announce("q")
    superlink.upload(reply, without=1)
    grid.pull_messages(["q"])
    assert superlink.pulled == [reply.object_id]


def test_reply_whose_upload_was_given_up_is_an_error_of_its_node(
    grid: DeployedGrid, superlink: SuperLink
) -> None:
    reply = superlink.announce("q")
    superlink.lost.add(reply.object_id)
    (lost,) = grid.pull_messages(["q"])
    assert lost.has_error()
    assert lost.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert lost.metadata.reply_to_message_id == "q"
    assert lost.metadata.src_node_id == reply.metadata.src_node_id
    assert list(grid.pull_messages(["q"])) == []


# --- copies that nobody waits for


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ask(grid: DeployedGrid, *names: str) -> None:
    """Have the grid know of a question that was sent under these names."""
    for name in names:
        grid._copies.sent(name, Message(RecordDict(), NODE, "train", group_id="1", ttl=60))


def test_the_second_answer_is_deleted_unseen_once_it_is_there(
    grid: DeployedGrid, superlink: SuperLink
) -> None:
    ask(grid, "q", "again")
    first, second = superlink.announce("q"), superlink.announce("again")
    superlink.upload(first)
    assert len(list(grid.pull_messages(["q", "again"]))) == 1
    assert list(grid.pull_messages([])) == []
    assert superlink.confirmed == [first.object_id]  # its node still uploads the other
    superlink.upload(second)
    assert list(grid.pull_messages([])) == []
    assert superlink.confirmed == [first.object_id, second.object_id, "again"]
    grid.pull_messages([])
    assert len(superlink.confirmed) == 3


def test_what_is_left_of_a_question_whose_time_is_over_is_deleted(
    grid: DeployedGrid, superlink: SuperLink
) -> None:
    clock = Clock()
    grid._copies.clock = clock
    ask(grid, "late", "silent")
    unfinished = superlink.announce("late")
    grid.pull_messages(["late", "silent"])
    grid.pull_messages([])
    assert superlink.confirmed == []
    clock.now += 61
    grid.pull_messages([])
    assert set(superlink.confirmed) == {unfinished.object_id, "late", "silent"}
    grid.pull_messages([])
    assert len(superlink.confirmed) == 3
