"""Messages through a real SuperLink and a real SuperNode, to an executor and back."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from flower.executor_child import CANARY
from flower_link import Node, SuperLink, run_node
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode

from confide.errors import FlowerError
from confide.flower.grid import DeployedGrid, take_run

NOBODY = 4711
CONTENT = RecordDict({"ask": ConfigRecord({"x": 1})})
LONGEST_S = 40.0


@pytest.fixture(scope="module")
def node(superlink: SuperLink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with run_node(superlink, tmp_path_factory.mktemp("node")) as node:
        yield node


@dataclass(frozen=True)
class Exchanged:
    """What came back from one run."""

    number: int
    sent: Sequence[Message]
    replies: Sequence[Message]
    pulls: Sequence[int]
    nodes: Sequence[int]
    again: Sequence[Message]
    run_id: int


@pytest.fixture(scope="module")
def exchanged(superlink: SuperLink, node: Node) -> Exchanged:
    """Send an echo, a message that the app raises at, and one to nobody.

    Pull until all are answered, and once more.
    """
    number = superlink.control.start_run("trial")
    with take_run(superlink.runtime(), timeout_s=10) as grid:
        sent = [
            Message(CONTENT, to, kind, group_id="3", ttl=60.0)
            for to, kind in ((node.node_id, "query"), (node.node_id, "train"))
        ]
        ids = set(grid.push_messages(sent))
        replies, pulls, waiting, end = (
            list[Message](),
            list[int](),
            set(ids),
            time.monotonic() + LONGEST_S,
        )
        while waiting and time.monotonic() < end:
            arrived = list(grid.pull_messages(waiting))
            pulls.append(len(arrived))
            replies += arrived
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            time.sleep(0.1)
        again = list(grid.pull_messages(ids))
        return Exchanged(
            number, sent, replies, pulls, list(grid.get_node_ids()), again, grid.run.run_id
        )


def reply_to(exchanged: Exchanged, kind: str) -> Message:
    (reply,) = [reply for reply in exchanged.replies if reply.metadata.message_type == kind]
    return reply


def test_a_message_goes_there_and_comes_back_from_the_node_that_was_asked(
    exchanged: Exchanged, node: Node
) -> None:
    reply = reply_to(exchanged, "query")
    assert not reply.has_error()
    assert reply.content == CONTENT
    assert (reply.metadata.src_node_id, reply.metadata.group_id) == (node.node_id, "3")


def test_the_run_that_was_submitted_is_the_one_that_is_taken(
    exchanged: Exchanged, node: Node
) -> None:
    assert exchanged.run_id == exchanged.number
    assert exchanged.nodes == [node.node_id]


def test_an_app_that_raises_is_an_error_without_its_text(exchanged: Exchanged, node: Node) -> None:
    reply = reply_to(exchanged, "train")
    assert reply.has_error()
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert not reply.error.reason
    assert CANARY in node.log.read_text()  # the institution's own log says why


def test_a_message_that_was_answered_is_an_error_for_who_asks_once_more(
    exchanged: Exchanged,
) -> None:
    (reply,) = exchanged.again
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE


def test_the_bundle_is_not_unpacked_at_a_node(exchanged: Exchanged, node: Node) -> None:
    found = [path for path in node.home.rglob("*") if path.is_file()]
    assert not [
        path for path in found if path.suffix in (".py", ".toml", ".fab") or "apps" in path.parts
    ]


# --- runs that go wrong


@pytest.fixture
def grid(superlink: SuperLink) -> Iterator[DeployedGrid]:
    superlink.control.start_run("wrong")
    with take_run(superlink.runtime(), timeout_s=10) as taken:
        yield taken


def test_replies_are_pulled_one_at_a_time(grid: DeployedGrid) -> None:
    ids = set(
        grid.push_messages([Message(CONTENT, NOBODY, "query", group_id="1") for _ in range(2)])
    )
    first = list(grid.pull_messages(ids))
    second = list(grid.pull_messages(ids - {reply.metadata.reply_to_message_id for reply in first}))
    assert [len(first), len(second)] == [1, 1]
    assert all(reply.has_error() for reply in (*first, *second))


def test_a_message_to_nobody_is_told_at_once(grid: DeployedGrid) -> None:
    (reply,) = grid.send_and_receive([Message(CONTENT, NOBODY, "query", group_id="1")], timeout=5)
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE


def test_a_run_that_was_stopped_is_an_error_and_not_the_end_of_this_process(
    superlink: SuperLink,
) -> None:
    number = superlink.control.start_run("stopped")
    with take_run(superlink.runtime(), timeout_s=10) as grid:
        superlink.control.stop_run(number)
        with pytest.raises(FlowerError, match="list nodes"):
            grid.get_node_ids()
        with pytest.raises(FlowerError, match="send a message"):
            grid.push_messages([Message(CONTENT, NOBODY, "query", group_id="1")])


def test_without_a_run_there_is_none_to_take(superlink: SuperLink) -> None:
    with pytest.raises(FlowerError, match=r"offers no run within 0\.3 s"):
        take_run(superlink.runtime(), timeout_s=0.3)
