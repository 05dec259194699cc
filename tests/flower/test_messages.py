"""What is relied on of Flower's private corners.

A release that changes one of them fails here first.
"""

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from confide.flower.messages import assign_message_id, task_identity

NODE = 7


def instruction(kind: str = "train") -> Message:
    return Message(RecordDict({"ask": ConfigRecord({"x": 1})}), NODE, kind, group_id="3")


def identity() -> tuple[int | None, int | None, int | None]:
    return TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id


def test_new_message_has_no_id_of_its_own() -> None:
    with task_identity():
        assert instruction().metadata.message_id == ""


def test_assigned_id_survives_in_the_metadata() -> None:
    with task_identity():
        message = instruction()
    message_id = assign_message_id(message)
    assert message_id
    assert message.metadata.message_id == message_id


def test_assigned_ids_differ() -> None:
    with task_identity():
        ids = {assign_message_id(instruction()) for _ in range(100)}
    assert len(ids) == 100


def test_assigning_an_id_leaves_the_other_fields_alone() -> None:
    with task_identity(run_id=5, node_id=9):
        message = instruction()
    assign_message_id(message)
    metadata = message.metadata
    assert (metadata.run_id, metadata.src_node_id, metadata.dst_node_id) == (5, 9, NODE)
    assert (metadata.message_type, metadata.group_id) == ("train", "3")


@pytest.mark.parametrize("body", [RecordDict(), Error(code=1, reason="")])
def test_reply_carries_the_id_and_comes_from_who_was_asked(body: RecordDict | Error) -> None:
    with task_identity(run_id=5, node_id=9):
        message = instruction()
    message_id = assign_message_id(message)
    reply = Message(
        body, reply_to=message
    )  # needs no identity: all of it comes from the instruction
    assert reply.metadata.reply_to_message_id == message_id
    assert (reply.metadata.run_id, reply.metadata.src_node_id, reply.metadata.dst_node_id) == (
        5,
        NODE,
        9,
    )
    assert (reply.metadata.message_type, reply.metadata.group_id) == ("train", "3")


def test_messages_share_the_record_they_were_given() -> None:
    content = RecordDict()
    with task_identity():
        assert Message(content, NODE, "query").content is content


def test_message_outside_an_identity_is_an_error_of_flowers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TaskIdentity, "_run_id", None)
    with pytest.raises(RuntimeError, match="run_id is not set"):
        instruction()


def test_identity_is_what_new_messages_carry() -> None:
    with task_identity(run_id=5, node_id=9, task_id=11):
        metadata = instruction().metadata
    assert (metadata.run_id, metadata.src_node_id, metadata.src_task_id) == (5, 9, 11)


def test_identity_is_put_back() -> None:
    before = identity()
    with task_identity(run_id=5, node_id=9, task_id=11):
        with task_identity(run_id=6, node_id=10, task_id=12):
            assert identity() == (6, 10, 12)
        assert identity() == (5, 9, 11)
    assert identity() == before


def test_identity_is_put_back_after_an_exception() -> None:
    before = identity()
    with pytest.raises(ZeroDivisionError), task_identity(run_id=5, node_id=9, task_id=11):
        raise ZeroDivisionError
    assert identity() == before
