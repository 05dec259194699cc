"""Takes an institution's messages from its SuperNode, one by one, and hands them to the app that is installed here.

One long-lived process instead of one a message. The coordinator's bundle is received with each task
and dropped unread: it is never unpacked, installed or imported. An error reply tells a code, never
the text of an exception, which could quote a record.
"""

import contextlib
import logging
import threading

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from confide.errors import FlowerError
from confide.flower.messages import raised
from confide.flower.runtime import Heartbeat, Runtime, TaskQueue, telling
from confide.flower.stalls import StalledError, bound_stalls

log = logging.getLogger(__name__)

_COMPONENT = "flwr-clientapp"
_POLL_S = 0.1
_PAUSE_S = 2.0


def run_tasks(runtime: Runtime, app: ClientApp, stop: threading.Event) -> None:
    """Answer messages until told to stop; a SuperNode that is gone is waited for.

    It returns too where a message is told of and its parts do not come: the SuperNode keeps such a
    message, of a run that ended while it was received, and an answer to it would be taken for the
    answer to the next one. Both should begin anew.

    Args:
        runtime: of the SuperNode.
        app: answers.
        stop: ends the loop between two messages.
    """
    while not stop.is_set():
        try:
            with contextlib.closing(TaskQueue(runtime, TaskType.CLIENT_APP)) as queue:
                _run_tasks_of(queue, runtime, app, stop)
        except StalledError:
            log.warning(
                "A message's parts do not come; its run may have ended. Executor and SuperNode"
                " begin anew."
            )
            return
        except (
            FlowerError,
            OSError,
        ) as error:  # the secret is read again: a SuperNode that was started anew has another
            log.warning("%s Trying again.", error)
            stop.wait(_PAUSE_S)


def _run_tasks_of(
    queue: TaskQueue, runtime: Runtime, app: ClientApp, stop: threading.Event
) -> None:
    while not stop.is_set():
        token = queue.acquire()
        if token is None:
            stop.wait(_POLL_S)
        else:
            _carry_out(runtime, token, app)


def _carry_out(runtime: Runtime, token: str, app: ClientApp) -> None:
    """Answer one message.

    A task that fails before there is a reply is not given back: a SuperNode would wait for its
    reply for ever. Its token runs out within a minute instead, and the SuperNode answers with an
    error in its place.

    Raises:
        FlowerError: if the message cannot be received, or the reply not be sent.
    """
    client = runtime.holding(_COMPONENT, token)
    bound_stalls(client)
    with contextlib.closing(client), Heartbeat(client):
        message, context = _receive(client)
        reply, status = _answer(app, message, context)
        with telling("send a reply"):
            push_message(client, reply, context)
        with telling("end a task"):
            push_task_output(client=client, context=context, sub_status=status, details="")


def _receive(client: RuntimeHttpClient) -> tuple[Message, Context]:
    try:
        with telling("receive a message"):
            message, context, _, _ = pull_task_input(client)
    except (FlowerError, StalledError):
        raise
    except Exception as error:  # whatever Flower raises for objects that are not what they say
        raise FlowerError(f"A message cannot be read: {type(error).__name__}.") from error
    return message, context


def _answer(app: ClientApp, message: Message, context: Context) -> tuple[Message, str]:
    try:
        return app(message, context), SubStatus.COMPLETED
    except Exception:
        log.exception("The app failed to answer a %s message.", message.metadata.message_type)
        return raised(message), SubStatus.FAILED


__all__ = ["run_tasks"]
