"""Answers an institution's messages, one by one, with the app that is installed on its machine.

One long-lived process does it, instead of Flower's one per message. The coordinator's bundle, which
comes with each task, is dropped unread: it is never unpacked, installed or imported. An error reply
contains a code and never the text of an exception, which could quote a record.
"""

import contextlib
import logging
import threading

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.supercore.constant import TaskType
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from confide.errors import FlowerError
from confide.flower.messages import raised
from confide.flower.pace import Pace
from confide.flower.packing import packed, unpacked
from confide.flower.runtime import Heartbeat, Runtime, TaskQueue, runtime_errors
from confide.flower.stalls import StalledError, bound_stalls

log = logging.getLogger(__name__)

_COMPONENT = "flwr-clientapp"
_SHORTEST_S, _LONGEST_S = 0.05, 0.5
"""Between two looks for a message."""
_PAUSE_S = 2.0


def run_tasks(runtime: Runtime, app: ClientApp, stop: threading.Event) -> None:
    """Answer messages until ``stop`` is set, or until a message's parts do not arrive.

    A SuperNode keeps a message whose run ended while it was received, and would take the answer to
    it for the answer to the next one. Executor and SuperNode should then both be restarted.

    Args:
        runtime: runtime API of the SuperNode.
        app: app that answers.
        stop: event that ends the loop between two messages.
    """
    pace = Pace(_SHORTEST_S, _LONGEST_S)
    while not stop.is_set():
        try:
            # Opened again after an error, because a restarted SuperNode has another secret.
            with contextlib.closing(TaskQueue(runtime, TaskType.CLIENT_APP)) as queue:
                while not stop.is_set():
                    token = queue.acquire()
                    if token is None:
                        stop.wait(pace.pause_s)
                    else:
                        _carry_out(runtime, token, app)
                        pace.begin()
        except StalledError:
            log.warning(
                "Parts of a message do not arrive; its run may have ended. Executor and SuperNode"
                " start again."
            )
            return
        except (FlowerError, OSError) as error:
            log.warning("%s Trying again.", error)
            stop.wait(_PAUSE_S)


def _carry_out(runtime: Runtime, token: str, app: ClientApp) -> None:
    """Answer one message.

    Raises:
        FlowerError: if the message cannot be received, or the reply cannot be sent.
    """
    client = runtime.task_client(_COMPONENT, token)
    bound_stalls(client)
    # A task that fails before there is a reply is not returned: the SuperNode would wait for its
    # reply for ever. Without heartbeats its token expires within a minute, and the SuperNode
    # replies with an error instead.
    with contextlib.closing(client), Heartbeat(client):
        try:
            with runtime_errors("receive a message"):
                # The other two values are run and bundle, of which nothing is used.
                message, context, _, _ = pull_task_input(client)
        except (FlowerError, StalledError):
            raise
        except Exception as error:  # Flower has no one error for objects that it cannot decode
            raise FlowerError(f"A message cannot be read: {type(error).__name__}.") from error
        reply, status = _answer(app, message, context)
        with runtime_errors("send a reply"):
            push_message(client, reply, context)
        with runtime_errors("end a task"):
            push_task_output(client=client, context=context, sub_status=status, details="")


def _answer(app: ClientApp, message: Message, context: Context) -> tuple[Message, str]:
    # Caught here, because Flower would send the exception's text to the coordinator.
    try:
        return packed(app(unpacked(message), context)), SubStatus.COMPLETED
    except Exception:
        log.exception("The app failed to answer a %s message.", message.metadata.message_type)
        return raised(message), SubStatus.FAILED


__all__ = ["run_tasks"]
