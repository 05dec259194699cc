"""The grid of a deployment: the messages of one run, sent and received through a SuperLink.

Flower's own HTTP grid carries the bytes. Added here are errors instead of the end of this process,
a limited wait while a SuperLink restarts, replies that are fetched one by one, so that memory does
not grow with the number of institutions, and that a SuperLink's disk does not with that of rounds.
"""

import contextlib
import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Self, cast

from flwr.app import Error, Message
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
from confide.flower.copies import Copies
from confide.flower.messages import Run
from confide.flower.packing import packed, unpacked
from confide.flower.polling import PollingGrid
from confide.flower.runtime import Heartbeat, Runtime, TaskQueue, patient, runtime_errors

log = logging.getLogger(__name__)

_COMPONENT = "flwr-serverapp"
_POLL_S = 0.1
_HEARTBEAT_PATIENCE_S = 2.0


class DeployedGrid(PollingGrid):
    """Sends and receives the messages of a run that this process has taken.

    Args:
        runtime: runtime API of the SuperLink.
        token: token of the run's task.
    """

    pause_s = _POLL_S

    def __init__(self, runtime: Runtime, token: str) -> None:
        ca = None if runtime.ca is None else runtime.ca.read_bytes()
        self._http = HttpGrid(runtime.address, runtime.ca is None, ca, token=token)
        self._http._retry_invoker = patient(runtime.patience_s)
        # A heartbeat that fails is sent again anyway; long retries would hold up the end of a run
        # whose SuperLink is gone.
        self._heartbeat_client = replace(runtime, patience_s=_HEARTBEAT_PATIENCE_S).task_client(
            _COMPONENT, token
        )
        self._heartbeat = Heartbeat(self._heartbeat_client)
        # Replies that are announced and have not arrived, by the id of the message they answer.
        self._announced: dict[str, tuple[MessageProto, ObjectTree]] = {}
        self._copies = Copies()

    def __enter__(self) -> Self:
        with runtime_errors("begin the run"):
            answer = self._http._runtime_client.PullTaskInput(PullTaskInputRequest())
        # Process-global, and read by each new `Message`; Flower's runner would set them.
        TaskIdentity.task_id = answer.task_id
        TaskIdentity.run_id = answer.run.run_id
        TaskIdentity.node_id = context_from_proto(answer.context).node_id
        self._http.set_run(run_from_proto(answer.run))
        self._heartbeat.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Report how the run ended: of an error its class, never its text."""
        self._heartbeat.__exit__()
        # The run is over either way; a SuperLink that is gone should not delay the exit.
        self._http._retry_invoker.max_tries = 1
        if kind is None:
            output = PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details="")
        else:
            output = PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=kind.__name__)
        with contextlib.suppress(FlowerError), runtime_errors("end the run"):
            self._http._runtime_client.PushTaskOutput(output)
        self._http.close()
        self._heartbeat_client.close()

    def set_run(self, run: Run) -> None:
        """Set the run; called by Flower, although entering the context has set it already."""
        self._http.set_run(run)

    @property
    def run(self) -> Run:
        """The run that this process has taken."""
        return self._http.run

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of connected nodes.

        Raises:
            FlowerError: if the run was abandoned or the SuperLink does not answer.
        """
        with self._call("list nodes"):
            return list(self._http.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages and return their ids.

        Raises:
            FlowerError: if the run was abandoned or the SuperLink does not answer.
        """
        ids: list[str] = []
        # One by one, so that only one copy of a large payload is in memory.
        for message in messages:
            with self._call("send a message"):
                accepted = list(self._http.push_messages([packed(message)]))
            # SuperLink accepts no message that is too large or to an unknown node. Such a message
            # gets an invented id: when asked for it, SuperLink replies with an error, as for a
            # message that it lost.
            ids.append(accepted[0] if accepted and accepted[0] else uuid.uuid4().hex)
            self._copies.sent(ids[-1], message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the reply to one of these messages, if any has arrived completely.

        Raises:
            FlowerError: if the run was abandoned or the SuperLink does not answer.
        """
        # Flower's own method would wait for up to two hours for a reply whose upload broke off,
        # and fetch no other reply meanwhile. Here announcing and fetching are two steps.
        wanted = list(message_ids)
        left_over = self._copies.left_over(wanted)
        unannounced = [name for name in (*wanted, *left_over) if name not in self._announced]
        with self._call("receive a reply"):
            if unannounced:
                answer = self._http._runtime_client.PullMessages(
                    PullAppMessagesRequest(message_ids=unannounced)
                )
                pairs = zip(answer.messages_list, answer.message_object_trees, strict=True)
                for reply_head, tree in pairs:
                    self._announced[reply_head.metadata.reply_to_message_id] = reply_head, tree
            for message_id in left_over:
                self._drop(message_id)
            for message_id in wanted:
                reply = self._fetch(message_id)
                if reply is not None:
                    return [reply]
        return []

    def _fetch(self, message_id: str) -> Message | None:
        """Fetch an announced reply; None until all of its parts have arrived."""
        announced, tree = self._announced.get(message_id, (None, None))
        if announced is None or tree is None:
            return None
        reply_id = announced.metadata.message_id
        # In reverse order: the message itself is uploaded last, so while it is missing, no other
        # part is fetched in vain.
        parts = reversed(list(iterate_object_tree(tree)))
        try:
            contents = {part.object_id: self._pull(part.object_id) for part in parts}
        except ObjectUnavailableError:
            return None
        except ObjectPullError:
            lost = Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason=None)
            reply = make_message(metadata=metadata_from_proto(announced.metadata), error=lost)
        else:
            self._release(reply_id)
            reply = cast(Message, inflate_object_from_contents(reply_id, contents))
            # A deflated message does not contain its id.
            reply.metadata.__dict__["_message_id"] = reply_id
            reply = unpacked(reply)
        if reply.has_error():
            self._release(message_id)  # which its node may never have fetched
        del self._announced[message_id]
        self._copies.answered(message_id)
        return reply

    def _drop(self, message_id: str) -> None:
        """Have SuperLink delete the reply to a question once it has arrived, unseen."""
        announced, _ = self._announced.get(message_id, (None, None))
        is_expired = self._copies.is_expired(message_id)
        if announced is None and not is_expired:
            return
        if announced is not None:
            reply_id = announced.metadata.message_id
            try:
                # Earlier, its node would upload parts that are unknown
                self._pull(reply_id)
            except ObjectUnavailableError:
                if not is_expired:
                    return
            except ObjectPullError:
                pass
            self._release(reply_id)
            del self._announced[message_id]
        self._release(message_id)
        self._copies.forget(message_id)

    def _pull(self, object_id: str) -> bytes:
        """Fetch a part of a message.

        Raises:
            ObjectUnavailableError: if it has not arrived yet.
            ObjectPullError: if SuperLink knows no such part.
        """
        client, run_id = self._http._runtime_client, self._http.run.run_id
        return make_pull_object_fn_protobuf(client.PullObject, self._http.node, run_id)(object_id)

    def _release(self, message_id: str) -> None:
        """Have SuperLink delete the contents of a message, if it has them."""
        self._http._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._http.node, run_id=self._http.run.run_id, message_object_id=message_id
            )
        )

    @contextlib.contextmanager
    def _call(self, action: str) -> Iterator[None]:
        """Check that the run still belongs to this process, and convert errors."""
        if self._heartbeat.is_lost:
            raise FlowerError(f"SuperLink has abandoned the run, so it cannot {action}.")
        with runtime_errors(action):
            yield


def take_run(runtime: Runtime, *, timeout_s: float) -> DeployedGrid:
    """Take the run that was submitted.

    Args:
        runtime: runtime API of the SuperLink.
        timeout_s: longest wait for the run, in seconds.

    Raises:
        FlowerError: if no run is offered in time.
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
