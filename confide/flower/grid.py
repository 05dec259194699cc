"""The grid of a deployment: messages through a SuperLink, a run of which this process holds.

Flower's own HTTP grid carries the bytes. What is added: errors of ours instead of a process that
ends itself, bounded patience while a SuperLink restarts, and one reply at a time, so that memory
does not grow with the number of institutions.
"""

import contextlib
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Self, cast

from flwr.app import Error, Message, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from confide.errors import FlowerError
from confide.flower.messages import Run
from confide.flower.runtime import Heartbeat, Runtime, TaskQueue, patient, telling

log = logging.getLogger(__name__)

_COMPONENT = "flwr-serverapp"
_POLL_S = 0.1
_HEARTBEAT_PATIENCE_S = 2.0


class DeployedGrid(Grid):
    """Carries the messages of one run that this process has taken.

    Args:
        runtime: of the SuperLink.
        token: of the task.
    """

    def __init__(self, runtime: Runtime, token: str) -> None:
        ca = None if runtime.ca is None else runtime.ca.read_bytes()
        self._http = HttpGrid(runtime.address, runtime.ca is None, ca, token=token)
        self._http._retry_invoker = patient(runtime.patience_s)
        # A heartbeat that fails is sent again anyway; a patient one would hold up the end of a run
        # whose SuperLink is gone.
        self._beating = replace(runtime, patience_s=_HEARTBEAT_PATIENCE_S).holding(
            _COMPONENT, token
        )
        self._heartbeat = Heartbeat(self._beating)
        self._announced: dict[
            str, tuple[MessageProto, ObjectTree]
        ] = {}  # id of the question -> reply under way

    def __enter__(self) -> Self:
        with telling("begin the run"):
            answer = self._http._runtime_client.PullTaskInput(PullTaskInputRequest())
        context = context_from_proto(answer.context)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = (
            answer.task_id,
            answer.run.run_id,
            context.node_id,
        )
        self._http.set_run(run_from_proto(answer.run))
        self._heartbeat.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Tell how the run ended; of an error its class, never its text."""
        self._heartbeat.__exit__()
        self._http._retry_invoker.max_tries = 1
        sub_status, details = (
            (SubStatus.COMPLETED, "") if kind is None else (SubStatus.FAILED, kind.__name__)
        )
        with contextlib.suppress(FlowerError), telling("end the run"):
            self._http._runtime_client.PushTaskOutput(
                PushTaskOutputRequest(sub_status=sub_status, details=details)
            )
        self._http.close()
        self._beating.close()

    def set_run(self, run: Run) -> None:
        """Set the run; it is set already."""
        self._http.set_run(run)

    @property
    def run(self) -> Run:
        """The run that was taken."""
        return self._http.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Write a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are connected.

        Raises:
            FlowerError: if the run was given up, or nobody answers.
        """
        with self._telling("list nodes"):
            return list(self._http.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages one by one, so that one copy of a large payload is held.

        SuperLink takes none that is too large, or to a node that it does not know. Such a message
        gets an id of its own, about which SuperLink replies with an error, as about one that it
        lost.

        Raises:
            FlowerError: if the run was given up, or nobody answers.
        """
        ids: list[str] = []
        for message in messages:
            with self._telling("send a message"):
                taken = list(self._http.push_messages([message]))
            ids.append(taken[0] if taken and taken[0] else uuid.uuid4().hex)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the reply to one of these messages, if there is any that has arrived whole.

        Flower's own would wait for a reply whose upload broke off, up to two hours, and look for no
        other meanwhile.

        Raises:
            FlowerError: if the run was given up, or nobody answers.
        """
        wanted = list(message_ids)
        with self._telling("receive a reply"):
            self._look_for(
                [message_id for message_id in wanted if message_id not in self._announced]
            )
            for message_id in wanted:
                reply = self._pull(message_id)
                if reply is not None:
                    return [reply]
        return []

    def _look_for(self, message_ids: Sequence[str]) -> None:
        """Ask which replies were announced; what is in them comes later, or never."""
        if not message_ids:
            return
        answer = self._http._runtime_client.PullMessages(
            PullAppMessagesRequest(message_ids=message_ids)
        )
        for announced, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            self._announced[announced.metadata.reply_to_message_id] = announced, tree

    def _pull(self, message_id: str) -> Message | None:
        """Fetch a reply that was announced; None until all of it is there."""
        announced, tree = self._announced.get(message_id, (None, None))
        if announced is None or tree is None:
            return None
        client, run_id = self._http._runtime_client, self._http.run.run_id
        pull = make_pull_object_fn_protobuf(client.PullObject, self._http.node, run_id)
        reply_id = announced.metadata.message_id
        try:
            # The message itself is sent last: while it is not there, nothing else is fetched for
            # nothing.
            contents = {
                part.object_id: pull(part.object_id)
                for part in reversed(list(iterate_object_tree(tree)))
            }
        except ObjectUnavailableError:
            return None
        except ObjectPullError:
            del self._announced[message_id]
            lost = Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason=None)
            return make_message(metadata=metadata_from_proto(announced.metadata), error=lost)
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._http.node, run_id=run_id, message_object_id=reply_id
            )
        )
        del self._announced[message_id]
        reply = cast(Message, inflate_object_from_contents(reply_id, contents))
        reply.metadata.__dict__["_message_id"] = reply_id
        return reply

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return the replies that come in time."""
        waiting, replies = set(self.push_messages(messages)), list[Message]()
        end = time.monotonic() + (timeout or 0)
        while waiting and (timeout is None or time.monotonic() < end):
            arrived = list(self.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            replies += arrived
            if not arrived:
                time.sleep(_POLL_S)
        return replies

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        if self._heartbeat.is_lost:
            raise FlowerError(f"SuperLink has given the run up, so it cannot {what}.")
        with telling(what):
            yield


def take_run(runtime: Runtime, *, timeout_s: float) -> DeployedGrid:
    """Take the run that was submitted.

    Raises:
        FlowerError: if there is none within ``timeout_s``.
    """
    queue, end = TaskQueue(runtime, TaskType.SERVER_APP), time.monotonic() + timeout_s
    with contextlib.closing(queue):
        while time.monotonic() < end:
            token = queue.acquire()
            if token is not None:
                return DeployedGrid(runtime, token)
            time.sleep(_POLL_S)
    raise FlowerError(
        f"SuperLink at {runtime.address} offers no run within {timeout_s:g} s; its log says why."
    )


__all__ = ["DeployedGrid", "take_run"]
