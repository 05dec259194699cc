"""Messages without a SuperLink.

Flower 1.41 and 1.42 give a message its id in the SuperLink and read run, node and task ids from a
process-global ``TaskIdentity``. A grid in one process must do both.
``tests/flower/test_messages.py`` holds what is relied on.
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
    """Give a message an id of its own; Flower's own hashes the whole payload."""
    message_id = f"{_PREFIX}-{next(_COUNT)}"
    message.metadata.__dict__["_message_id"] = message_id
    return message_id


def raised(message: Message) -> Message:
    """Write the reply that Flower's runtime sends for an app that raised.

    Without the exception's text.
    """
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=None), reply_to=message)


@contextlib.contextmanager
def task_identity(*, run_id: int = 1, node_id: int = 1, task_id: int = 1) -> Iterator[None]:
    """Set the identity that new messages carry, and put back what was there."""
    before = {name: getattr(TaskIdentity, name) for name in _IDENTITY}
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, task_id
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


__all__ = ["Run", "assign_message_id", "raised", "task_identity"]
