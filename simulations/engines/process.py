"""The process engine: a grid that carries Flower messages to worker processes."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import torch
from flwr.app import ArrayRecord, Message

from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.flower.messages import assign_message_id, raised
from confide.protocol.messages import unpack_request
from confide.protocol.tensors import (
    BYTES_PER_VALUE,
    LARGEST_FLOAT32,
    Shapes,
    decode,
    flatten,
    num_values,
    shapes_of,
)
from confide.server.rounds.collect import Intake, collect
from confide.server.rounds.exchange import LONGEST_PAUSE_S
from confide.server.rounds.tally import Tally
from confide.simulations.engines.inline import LocalGrid
from confide.simulations.engines.pool import Failed, WorkerPool
from confide.simulations.engines.shared_memory import SharedBlock, SharedRecords
from confide.simulations.engines.worker import RoundSpec, WorkerSpec, WorkItem, WorkResult
from confide.simulations.faults import FaultyDelivery, delivery_of
from confide.simulations.institutions import Setup
from confide.strategies.parts import build_algorithm
from confide.strategies.strategy import SumRule


@dataclass(frozen=True, kw_only=True)
class SharedParams:
    """The tensors of a question, where workers read them.

    Attributes:
        values: float32, long enough for the largest question.
    """

    values: torch.Tensor

    def write(self, arrays: ArrayRecord) -> None:
        """Write other tensors; only while no worker reads."""
        shapes = shapes_in(arrays)
        # No bound but float32's: these are the coordinator's own
        tensors = decode(arrays, shapes, max_value=LARGEST_FLOAT32).tensors
        self.values[: num_values(shapes)].copy_(flatten(tensors, shapes))


def shapes_in(arrays: ArrayRecord) -> Shapes:
    """Return the signature of encoded tensors."""
    return {name: tuple(array.shape) for name, array in arrays.items()}


class ProcessGrid(LocalGrid):
    """Hands messages to a pool of workers.

    Where the aggregation rule is a sum, updates are checked and added up in the workers, and one
    int64 sum a worker comes back.

    Args:
        pool: the workers.
        names: node id -> institution.
        params: where the global tensors are shared.
        spent: what each institution has computed in this job; kept up to date.
        delivery: what happens to questions and replies on their way; None brings each at once.
    """

    def __init__(
        self,
        pool: WorkerPool,
        names: Mapping[int, str],
        *,
        params: SharedParams,
        spent: dict[str, RoundsSpent],
        delivery: FaultyDelivery | None = None,
    ) -> None:
        super().__init__(list(names))
        self._pool = pool
        self._names = names
        self._params = params
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
        self._round_spec, arrays = self._describe(asked)

        def write_params() -> None:
            if arrays is not None:
                self._params.write(arrays)

        self._pool.begin(self._round_spec, self._items(), prepare=write_params)
        return list(self._asked)

    def _items(self) -> list[WorkItem]:
        """Write a work item for each client that hears its question."""
        items = []
        for message_id, message in self._asked.items():
            if self._delivery is not None and not self._delivery.is_heard(message):
                continue
            client = self._names[message.metadata.dst_node_id]
            # A late update is not summed where it is made: the sum does not wait for it.
            is_late = self._delivery is not None and self._delivery.is_late(message)
            item = WorkItem(
                message_id=message_id,
                client=client,
                spent=self._spent.get(client, RoundsSpent()),
                ledger_head=unpack_request(message.content).ledger_head,
                declared=None if is_late else self._declared.get(client),
            )
            items.append(item)
        return items

    def _stop(self) -> None:
        """Stop who is still at work for nobody.

        A training that was cut off counts: what is charged may only be too high.
        """
        stopped = self._pool.stop()
        spec = self._round_spec
        if spec is None or spec.kind != "train":
            return
        for item in stopped:
            if item.message_id in self._asked:
                spent = self._spent.get(item.client, RoundsSpent())
                self._spent[item.client] = spent.plus(f"cut-off/{spec.server_round}")

    def _describe(self, asked: Sequence[Message]) -> tuple[RoundSpec, ArrayRecord | None]:
        """Return what all messages ask, but for the heads of ledgers, and with which tensors.

        Raises:
            ValueError: if they ask for different things.
        """
        # Messages of institutions without a ledger share one content, which is unpacked once.
        contents = {id(message.content): message.content for message in asked}
        first, *others = [unpack_request(content) for content in contents.values()]
        if any(replace(other, ledger_head=first.ledger_head) != first for other in others):
            raise ValueError("Expected one request for all, but for the heads of ledgers.")
        spec = RoundSpec(
            kind=asked[0].metadata.message_type,
            plan=first.plan,
            server_round=first.server_round,
            splits=tuple(first.splits),
            sent=None if first.arrays is None else shapes_in(first.arrays),
            sum_rule=self._sum_rule,
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


class ProcessEngine:
    """Worker processes with a model each, which share records and global tensors.

    Args:
        records: encoded, of all institutions.
        make_trainer: number of a worker -> its trainer; it and what it needs can be pickled.
        initial: initial trainable tensors.
        setup: what institutions have in common.
        workers: how many.
        num_threads: of torch, in each.
    """

    def __init__(
        self,
        records: SharedRecords,
        *,
        make_trainer: Callable[[int], Trainer],
        initial: Mapping[str, torch.Tensor],
        setup: Setup,
        workers: int,
        num_threads: int = 1,
    ) -> None:
        # Other jobs of the run, its baselines, are plain, and so need no more.
        algorithm, shapes = build_algorithm(setup.serves.objective), shapes_of(initial)
        size = num_values(algorithm.request_shapes(shapes))
        block = SharedBlock(BYTES_PER_VALUE * size)
        self._params = SharedParams(values=block.tensor(torch.float32, (size,)))
        self._faults = setup.faults
        self._spent: dict[str, dict[str, RoundsSpent]] = {}
        spec = WorkerSpec(
            make_trainer=make_trainer,
            setup=setup,
            num_threads=num_threads,
            records=records,
            params=block,
        )
        self.data: Mapping[str, InstitutionData] = {name: records[name] for name in records.names}
        self.pool = WorkerPool(
            spec, largest_sum=num_values(algorithm.reply_shapes(shapes)), count=workers
        )

    def grid(self, job: str, names: Sequence[str]) -> LocalGrid:
        """Return a grid over the workers."""
        by_node = dict(enumerate(names, start=1))
        return ProcessGrid(
            self.pool,
            by_node,
            params=self._params,
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


__all__ = ["ProcessEngine", "ProcessGrid", "SharedParams"]
