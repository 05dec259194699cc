"""The process engine: a grid that carries Flower messages to worker processes over shared memory."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from flwr.app import ArrayRecord, Message

from confide.client.ledger.ledger import RoundsSpent
from confide.flower.messages import assign_message_id, raised
from confide.protocol.messages import Request, unpack_request
from confide.protocol.tensors import LARGEST_FLOAT32, Shapes, decode, flatten
from confide.server.rounds.exchange import LONGEST_PAUSE_S
from confide.server.rounds.partial_sums import CollectedSum, SumOrder
from confide.simulations.engines.inline import LocalGrid
from confide.simulations.engines.pool import Failed, WorkerPool
from confide.simulations.engines.worker import RoundSpec, WorkItem, WorkResult
from confide.simulations.faults import FaultyDelivery

LOST = "worker_lost"


class ProcessGrid(LocalGrid):
    """Hands messages to a pool of workers.

    A :class:`~confide.server.rounds.partial_sums.SummingGrid`.

    Where a sum is begun, updates are checked and added up in the workers, and one int64 sum a
    worker comes back.

    Args:
        pool: the workers.
        names: node id -> institution.
        shapes: of the global tensors.
        params: where the global tensors are shared, float32 of shape [d].
        spent: what each institution has computed in this job; kept up to date.
        delivery: what happens to questions and replies on their way; None brings each at once.
    """

    def __init__(
        self,
        pool: WorkerPool,
        names: Mapping[int, str],
        *,
        shapes: Shapes,
        params: torch.Tensor,
        spent: dict[str, RoundsSpent],
        delivery: FaultyDelivery | None = None,
    ) -> None:
        super().__init__(list(names))
        self._pool = pool
        self._names = names
        self._shapes = shapes
        self._params = params
        self._spent = spent
        self._delivery = delivery
        self._order: SumOrder | None = None
        self._round_spec: RoundSpec | None = None
        self._asked: dict[str, Message] = {}

    def begin_sum(self, order: SumOrder) -> None:
        """Begin a round: what is asked next goes into a new sum."""
        self._order = order

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue instructions, all with the same request, and return their ids.

        What still waits from before is nobody's any more: a worker that is busy with it is
        replaced.

        Raises:
            ValueError: if the requests differ.
        """
        asked = list(messages)
        self._stop()
        if self._delivery:
            self._delivery.forget()
        self._asked = {assign_message_id(message): message for message in asked}
        if not asked:
            return []
        requests = [
            unpack_request(content)
            for content in {id(m.content): m.content for m in asked}.values()
        ]
        request = requests[0]
        if any(replace(other, ledger_head=request.ledger_head) != request for other in requests):
            raise ValueError("Expected one request for all, but for the heads of ledgers.")
        self._round_spec = self._make_brief(asked[0].metadata.message_type, request)
        self._pool.begin(
            self._round_spec, self._tasks(), prepare=lambda: self._share(request.arrays)
        )
        return list(self._asked)

    def _tasks(self) -> list[WorkItem]:
        """Write a task for each client that hears its question.

        A late update is not summed where it is made.
        """
        tasks = []
        for message_id, message in self._asked.items():
            if self._delivery is None or self._delivery.is_heard(message):
                client = self._names[message.metadata.dst_node_id]
                is_summed = self._delivery is None or not self._delivery.is_late(message)
                spent, head = (
                    self._spent.get(client, RoundsSpent()),
                    unpack_request(message.content).ledger_head,
                )
                tasks.append(
                    WorkItem(
                        message_id=message_id,
                        client=client,
                        spent=spent,
                        ledger_head=head,
                        is_summed=is_summed,
                    )
                )
        return tasks

    def _stop(self) -> None:
        """Stop who is still at work for nobody.

        A training that was cut off counts, a spending may only be too high.
        """
        for task in self._pool.stop():
            if (
                task.message_id in self._asked
                and self._round_spec is not None
                and self._round_spec.kind == "train"
            ):
                self._spent[task.client] = self._spent.get(task.client, RoundsSpent()).plus(
                    f"cut-off/{self._round_spec.server_round}"
                )

    def _make_brief(self, kind: str, request: Request) -> RoundSpec:
        return RoundSpec(
            kind=kind,
            plan=request.plan,
            server_round=request.server_round,
            splits=tuple(request.splits),
            has_params=request.arrays is not None,
            order=self._order if kind == "train" else None,
        )

    def _share(self, arrays: ArrayRecord | None) -> None:
        if arrays is not None:
            tensors = decode(arrays, self._shapes, max_value=LARGEST_FLOAT32).tensors
            self._params.copy_(flatten(tensors, self._shapes))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies that have arrived.

        Wait for the first for as long as the round loop pauses between looks.
        """
        wanted = message_ids if isinstance(message_ids, set) else set(message_ids)
        replies = [
            reply
            for result in self._pool.poll(LONGEST_PAUSE_S if wanted & self._asked.keys() else 0.0)
            if (reply := self._reply(result)) is not None
        ]
        return self._delivery.deliver(replies) if self._delivery else replies

    def _reply(self, result: WorkResult | Failed) -> Message | None:
        if isinstance(result, Failed):
            instruction = self._asked.pop(result.task.message_id, None)
            return None if instruction is None else raised(instruction)
        instruction = self._asked.pop(result.message_id, None)
        if instruction is None:
            return None
        self._spent[result.client] = result.spent
        if result.content is None:
            return raised(instruction)
        return Message(result.content, reply_to=instruction)

    def collect_sum(self, timeout: float) -> CollectedSum:
        """End the round and hand over the sum."""
        self._stop()
        partial = self._pool.finish_sum(timeout)
        self._order = None
        return CollectedSum(
            total=partial.total,
            total_weight=partial.weight,
            lost={task.client: LOST for task in partial.lost},
        )


__all__ = ["ProcessGrid"]
