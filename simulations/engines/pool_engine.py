"""An engine over a pool of workers: a grid that carries Flower messages to them."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from flwr.app import ArrayRecord, Message
from torch import Tensor

from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.flower.messages import assign_message_id, raised
from confide.protocol.messages import Request, message_type, unpack_request
from confide.protocol.tensors import Shapes, read_values
from confide.server.rounds.collect import Intake, collect
from confide.server.rounds.exchange import LONGEST_PAUSE_S
from confide.server.rounds.tally import Tally
from confide.simulations.engines.inline import LocalGrid
from confide.simulations.engines.pool import Failed, WorkerPool
from confide.simulations.engines.worker import RoundSpec, WorkItem, WorkResult
from confide.simulations.faults import Faults, FaultyDelivery, delivery_of
from confide.strategies.strategy import SumRule

_SHARES_S = 10.0
"""For shares, which take milliseconds, while another worker takes seconds to start."""


def shapes_in(arrays: ArrayRecord) -> Shapes:
    """Return the signature of encoded tensors."""
    return {name: tuple(array.shape) for name, array in arrays.items()}


def values_of(arrays: ArrayRecord) -> Tensor:
    """Return encoded tensors as one of float32, shape [d]."""
    # Without a look at them: these are the coordinator's own, and may be words of a codec
    return read_values(arrays, shapes_in(arrays))


class PoolGrid(LocalGrid):
    """Hands messages to a pool of workers.

    Where the aggregation rule is a sum, updates are checked and added up in the workers, and one
    int64 sum a worker comes back.

    Args:
        pool: the workers.
        names: node id -> institution.
        spent: what each institution has computed in this job; kept up to date.
        delivery: what happens to questions and replies on their way; None brings each at once.
    """

    def __init__(
        self,
        pool: WorkerPool,
        names: Mapping[int, str],
        *,
        spent: dict[str, RoundsSpent],
        delivery: FaultyDelivery | None = None,
    ) -> None:
        super().__init__(list(names))
        self._pool = pool
        self._names = names
        self._spent = spent
        self._delivery = delivery
        self._sum_rule: SumRule | None = None
        self._declared: Mapping[str, int] = {}
        self._round_spec: RoundSpec | None = None
        self._asked: dict[str, Message] = {}

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question and fill its accumulator, by partial sums if the rule is one."""
        rule = intake.under_way.rule
        if rule is None:
            return super().collect(intake)
        self._sum_rule, self._declared = rule, intake.declared  # for the question that is next
        try:
            tally = collect(intake, intake.add_unless_summed)
        finally:
            self._sum_rule = None
        self._stop()  # whoever has not answered by now is not in the sum either
        intake.merge(self._pool.finish_sum(intake.timeout_s), tally)
        return tally

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue instructions, all with the same request but for what is each one's own.

        What still waits from before is nobody's any more: a worker that is busy with it is
        replaced.

        Returns:
            Their ids.

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
        # Messages of institutions without a ledger share one content, which is unpacked once.
        contents = {id(message.content): message.content for message in asked}
        requests = {key: unpack_request(content) for key, content in contents.items()}
        self._round_spec, arrays = self._describe(asked[0].metadata.message_type, requests)
        params = None if arrays is None else values_of(arrays)
        self._pool.begin(self._round_spec, self._items(requests), params=params)
        return list(self._asked)

    def _items(self, requests: Mapping[int, Request]) -> list[WorkItem]:
        """Write a work item for each client that hears its question."""
        items = []
        for message_id, message in self._asked.items():
            if self._delivery is not None and not self._delivery.is_heard(message):
                continue
            client = self._names[message.metadata.dst_node_id]
            # A late update is not summed where it is made: the sum does not wait for it.
            is_late = self._delivery is not None and self._delivery.is_late(message)
            request = requests[id(message.content)]
            item = WorkItem(
                message_id=message_id,
                client=client,
                spent=self._spent.get(client, RoundsSpent()),
                ledger_head=request.ledger_head,
                declared=None if is_late else self._declared.get(client),
                boxes={} if request.sum is None else request.sum.boxes,
            )
            items.append(item)
        return items

    def _stop(self) -> None:
        """Stop who is still at work for nobody.

        A training that was cut off counts: what is charged may only be too high.
        """
        spec = self._round_spec
        # No more shares are waited for than open a sum
        if spec is not None and spec.kind == message_type("unmask"):
            self._pool.settle(_SHARES_S)
        stopped = self._pool.stop()
        if spec is None or spec.kind != "train":
            return
        for item in stopped:
            if item.message_id in self._asked:
                spent = self._spent.get(item.client, RoundsSpent())
                self._spent[item.client] = spent.plus(f"cut-off/{spec.server_round}")

    def _describe(
        self, kind: str, requests: Mapping[int, Request]
    ) -> tuple[RoundSpec, ArrayRecord | None]:
        """Return what all messages ask, but for what is each one's own, and with which tensors.

        Raises:
            ValueError: if they ask for different things.
        """
        first, *others = map(_common, requests.values())
        if any(other != first for other in others):
            raise ValueError("Expected one request for all, but for ledgers' heads and boxes.")
        spec = RoundSpec(
            kind=kind,
            plan=first.plan,
            server_round=first.server_round,
            splits=tuple(first.splits),
            sent=None if first.arrays is None else shapes_in(first.arrays),
            sum_rule=self._sum_rule,
            sum=first.sum,
        )
        return spec, first.arrays

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies that have arrived.

        Wait for the first for as long as the round loop pauses between looks.
        """
        wanted = message_ids if isinstance(message_ids, Set) else set(message_ids)
        patience_s = 0.0 if self._asked.keys().isdisjoint(wanted) else LONGEST_PAUSE_S
        arrived = [self._reply(result) for result in self._pool.poll(patience_s)]
        replies = [reply for reply in arrived if reply is not None]
        return self._delivery.deliver(replies) if self._delivery else replies

    def _reply(self, result: WorkResult | Failed) -> Message | None:
        """Write the reply to a question; None if it is asked no more."""
        if isinstance(result, Failed):
            question = self._asked.pop(result.item.message_id, None)
            return None if question is None else raised(question)
        question = self._asked.pop(result.message_id, None)
        if question is None:  # of an exchange that is over
            return None
        self._spent[result.client] = result.spent
        if result.content is None:
            return raised(question)
        return Message(result.content, reply_to=question)


def _common(request: Request) -> Request:
    """Leave out what each institution is told for itself: its ledger's head, boxes for it."""
    question = None if request.sum is None else replace(request.sum, boxes={})
    return replace(request, ledger_head="", sum=question)


class PoolEngine:
    """Workers with a model each, of whatever kind.

    Args:
        pool: the workers.
        data: encoded records by institution, as this process holds them.
        faults: what fails on purpose; None for nothing.
    """

    def __init__(
        self, pool: WorkerPool, data: Mapping[str, InstitutionData], *, faults: Faults | None
    ) -> None:
        self.pool = pool
        self.data = data
        self._faults = faults
        self._spent: dict[str, dict[str, RoundsSpent]] = {}

    def grid(self, job: str, names: Sequence[str]) -> LocalGrid:
        """Return a grid over the workers."""
        by_node = dict(enumerate(names, start=1))
        return PoolGrid(
            self.pool,
            by_node,
            spent=self._spent.setdefault(job, {}),  # the grid writes, and `spent` reads
            delivery=delivery_of(self._faults, job, by_node),
        )

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""
        return dict(self._spent.get(job, {}))

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""
        self._spent[job] = dict(spent)

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


__all__ = ["PoolEngine", "PoolGrid"]
