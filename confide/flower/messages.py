"""Gives messages their ids where there is no SuperLink to do so.

In Flower 1.41 and 1.42 a message gets its id from the SuperLink, and its run, node and task ids
from a process-global ``TaskIdentity``. A grid in one process must provide both.
``tests/flower/test_messages.py`` checks what is relied on here.
"""

import contextlib
import itertools
import uuid
from collections.abc import Iterator

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_PREFIX = uuid.uuid4().hex
_COUNT = itertools.count()
_IDENTITY = ("_run_id", "_node_id", "_task_id")


def assign_message_id(message: Message) -> str:
    """Give a message a unique id, and return it."""
    # Not Flower's `object_id`, which hashes the whole payload; and past the property, which is
    # read-only.
    message_id = f"{_PREFIX}-{next(_COUNT)}"
    message.metadata.__dict__["_message_id"] = message_id
    return message_id


def raised(message: Message) -> Message:
    """Return the reply that Flower sends for an app that raised, without the exception's text."""
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=None), reply_to=message)


@contextlib.contextmanager
def task_identity(*, run_id: int = 1, node_id: int = 1, task_id: int = 1) -> Iterator[None]:
    """Set the identity that new messages carry inside this context."""
    # The private attributes are saved, because the properties raise if they were never set.
    before = {name: getattr(TaskIdentity, name) for name in _IDENTITY}
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, task_id
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


__all__ = ["Run", "assign_message_id", "raised", "task_identity"]
