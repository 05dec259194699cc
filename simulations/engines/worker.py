"""A worker, in whatever process: one model, and every institution of the simulation.

A worker is given a :class:`WorkItem` and answers with a :class:`WorkResult`.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from confide.client.app import RequestHandler, make_client_app
from confide.client.institution import Institution
from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.errors import ProtocolError
from confide.flower.messages import assign_message_id
from confide.protocol.codecs.travel import Travel, travel_of
from confide.protocol.masked_sums import SumQuestion
from confide.protocol.messages import Reply, Request, pack_reply, pack_request, unpack_reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, encode, num_values, unflatten
from confide.server.rounds.participants import accept
from confide.simulations.engines.shared_memory import SharedBlock
from confide.simulations.institutions import InstitutionFactory, Setup, faulty
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.strategy import ClientUpdate, SumRule

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RoundSpec:
    """What all work items of one exchange have in common; sent to a worker once.

    Attributes:
        kind: type of the messages: query, train, evaluate or query.unmask.
        plan: as JSON.
        server_round: from 1; 0 where it does not matter.
        splits: to evaluate on.
        sent: shapes of the question's tensors, which lie in shared memory; None if it has none.
        sum_rule: of the sum that updates go into; None: the updates themselves are sent.
        sum: what is said to all of a masked sum; None where none is asked for.
    """

    kind: str
    plan: str
    server_round: int
    splits: tuple[str, ...]
    sent: Shapes | None
    sum_rule: SumRule | None
    sum: SumQuestion | None = None


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One question to one institution.

    Attributes:
        message_id: of the coordinator's message.
        client: whom it is for.
        spent: what the institution has computed in this job so far.
        ledger_head: head of the institution's ledger as the coordinator knows it.
        declared: its number of training records where its update goes into the sum of this
            exchange, if there is one; None where the update itself is sent.
        boxes: survivor of a masked sum -> what it sealed for this institution.
    """

    message_id: str
    client: str
    spent: RoundsSpent
    ledger_head: str = ""
    declared: int | None = None
    boxes: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorkResult:
    """What became of a work item.

    Attributes:
        message_id: of the item.
        client: whom it was for.
        content: the reply; None where the app raised.
        spent: what the institution has computed in this job by now.
        weight: of the update that went into the sum; 0 where none did.
        seconds: wall time.
        logs: (logger, level, text) of what was logged meanwhile.
    """

    message_id: str
    client: str
    content: RecordDict | None
    spent: RoundsSpent
    weight: int
    seconds: float = 0.0
    logs: tuple[tuple[str, int, str], ...] = ()


class Records(Protocol):
    """Where a worker finds encoded records."""

    def __getitem__(self, name: str) -> InstitutionData:
        """Return an institution's records."""


class KeptLogs(logging.Handler):
    """Keeps what is logged in this process until it is taken along with an answer.

    A worker has no log file of its own.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._kept: list[tuple[str, int, str]] = []
        logging.getLogger().addHandler(self)
        # What is shown is decided where it is logged again
        logging.getLogger().setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._kept.append((record.name, record.levelno, self.format(record)))

    def take(self) -> tuple[tuple[str, int, str], ...]:
        """Return what was logged since this was last called: logger, level, text."""
        kept, self._kept = tuple(self._kept), []
        return kept


_ADDING, _ADDED, _BEGUN, _COUNTERS = range(4)


class SharedSum:
    """A partial sum in shared memory, and how far its worker is: both outlive the worker.

    Args:
        block: three int64 counters (whether something is being added, how many updates are in, how
            many tasks the worker has begun), then int64, long enough for the largest sum.
    """

    def __init__(self, block: SharedBlock) -> None:
        self._counters = block.tensor(torch.int64, (_COUNTERS,))
        self.total = block.tensor(torch.int64, (block.size // 8 - _COUNTERS,), 8 * _COUNTERS)
        self._accumulator: FixedPointMean | None = None

    @staticmethod
    def size(num_values: int) -> int:
        """Return the size of a block, in bytes."""
        return 8 * (num_values + _COUNTERS)

    @property
    def begun(self) -> int:
        """Tasks begun since the worker was started."""
        return int(self._counters[_BEGUN])

    @begun.setter
    def begun(self, count: int) -> None:
        self._counters[_BEGUN] = count

    def begin(self, rule: SumRule) -> None:
        """Begin a sum anew."""
        accumulator = rule.aggregator.start(rule.shapes, rule.bounds)
        # Additive custom rules are checked for this when the strategy is built.
        assert isinstance(accumulator, FixedPointMean)
        # The whole block: what an earlier, longer sum left must not be read again.
        accumulator.total = self.total.zero_()[
            : num_values(rule.shapes)
        ]  # from here on it sums in shared memory
        self._counters[_ADDING] = self._counters[_ADDED] = 0
        self._accumulator = accumulator

    def add(self, update: ClientUpdate) -> int:
        """Add an update and return its weight.

        Raises:
            ProtocolError: if the weights pass what the cohort declared; nothing is added then.
        """
        assert self._accumulator is not None
        before = self._accumulator.total_weight
        # Killed between these two marks, the sum cannot be trusted, which `is_whole` then says.
        self._counters[_ADDING] = 1
        try:
            self._accumulator.add(update)
        except ProtocolError:
            self._counters[_ADDING] = 0
            raise
        self._counters[_ADDED] += 1
        self._counters[_ADDING] = 0
        return self._accumulator.total_weight - before

    def is_whole(self, updates: int) -> bool:
        """Say whether the sum holds so many updates and none in part."""
        return self._counters[:_BEGUN].tolist() == [0, updates]


class Worker:
    """One model, and an institution for every client that was asked so far.

    Args:
        trainer: of this process, on its device.
        setup: of the institutions.
        records: of all institutions.
        partial_sum: where updates are added up.
    """

    def __init__(
        self, trainer: Trainer, setup: Setup, *, records: Records, partial_sum: SharedSum
    ) -> None:
        self._trainer = trainer
        self._setup = setup
        self._records = records
        self._factory = InstitutionFactory(trainer, setup)
        self._logs = KeptLogs()
        self._institutions: dict[str, Institution] = {}
        self._app: ClientApp = make_client_app(self._find)
        self._client = ""
        self._exchange: _Exchange | None = None
        self.sum = partial_sum

    def begin(self, round_spec: RoundSpec, params: Tensor | None) -> None:
        """Begin an exchange: encode its tensors once for all who are asked, and clear the sum.

        Args:
            round_spec: what is asked.
            params: float32, the question's tensors and maybe more behind them; None if it has none.
        """
        arrays = None
        if round_spec.sent is not None and params is not None:
            # A copy: the tensors that were given change with the next exchange.
            values = params[: num_values(round_spec.sent)].clone()
            arrays = encode(unflatten(values, round_spec.sent))
        plan = TrainingPlan.from_json(round_spec.plan)
        self._exchange = _Exchange(round_spec, plan.job, arrays, travel_of(plan.upload))
        if round_spec.sum_rule is not None:
            self.sum.begin(round_spec.sum_rule)

    def answer(self, item: WorkItem) -> WorkResult:
        """Answer one question; the app's errors are logged and leave no content."""
        started = time.perf_counter()
        self.sum.begun += 1  # before the work: a training that is cut off counts
        result = self._answer(item)
        return replace(result, seconds=time.perf_counter() - started, logs=self._logs.take())

    def _answer(self, item: WorkItem) -> WorkResult:
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError("Expected the round's description before its first work item.")
        institution = self._institution(item.client)
        # Another worker, or one that died, may have trained this client in an earlier round.
        institution.restore_spent(exchange.job, item.spent)
        self._client = item.client
        content, weight = None, 0
        try:
            # A new one each time: an app's state would depend on which worker it met
            context = Context(
                run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}
            )
            content = self._app(exchange.question(item), context).content
        except Exception:
            log.exception("%s raised.", item.client)
        if content is not None and exchange.sum_rule is not None and item.declared is not None:
            content, weight = self._add_up(exchange, exchange.sum_rule, item, content)
        return WorkResult(
            message_id=item.message_id,
            client=item.client,
            content=content,
            spent=institution.spent(exchange.job),
            weight=weight,
        )

    def _add_up(
        self, exchange: "_Exchange", rule: SumRule, item: WorkItem, content: RecordDict
    ) -> tuple[RecordDict, int]:
        """Check an update as the coordinator would, and move it from the reply to the sum.

        Returns:
            The reply without its update, and the update's weight.
        """
        client = item.client
        try:
            reply = unpack_reply(content)
        except ProtocolError as error:
            log.warning("The answer of %s is refused: %s", client, error)
            return pack_reply(Reply(institution=client, refusal=error.code)), 0
        if reply.refusal or item.declared is None:
            return content, 0
        try:
            update = accept(
                reply,
                client,
                declared=item.declared,
                shapes=rule.shapes,
                travel=exchange.travel,
                max_value=rule.bounds.max_value,
            )
            weight = self.sum.add(update)
        except ProtocolError as error:
            log.warning("The update of %s is refused: %s", client, error)
            # Nor is what it says of a model believed whose update is wrong
            return pack_reply(replace(reply, refusal=error.code, arrays=None, evaluations={})), 0
        return pack_reply(replace(reply, arrays=None)), weight

    def _institution(self, name: str) -> Institution:
        # A view of the shared memory on the CPU, a copy on a GPU: made once
        if name not in self._institutions:
            data = self._records[name].to(self._trainer.workload.compute.device)
            self._institutions[name] = self._factory.open(name, data)
        return self._institutions[name]

    def _find(self, context: Context) -> RequestHandler:
        job = self._exchange.job if self._exchange else ""
        return faulty(self._institution(self._client), self._setup.faults, job)


@dataclass(frozen=True)
class _Exchange:
    """The exchange under way in a worker.

    Attributes:
        round_spec: what is asked.
        job: of the plan.
        arrays: the global tensors, encoded; None where the question has none.
        travel: how updates travel.
    """

    round_spec: RoundSpec
    job: str
    arrays: ArrayRecord | None
    travel: Travel

    @property
    def sum_rule(self) -> SumRule | None:
        """How the sum was begun; None where updates are sent."""
        return self.round_spec.sum_rule

    def question(self, item: WorkItem) -> Message:
        """Write the message that a SuperNode would bring."""
        spec = self.round_spec
        request = Request(
            plan=spec.plan,
            server_round=spec.server_round,
            splits=spec.splits,
            arrays=self.arrays,
            ledger_head=item.ledger_head,
            sum=None if spec.sum is None else replace(spec.sum, boxes=item.boxes),
        )
        message = Message(pack_request(request), 1, spec.kind, group_id=str(spec.server_round))
        assign_message_id(message)
        return message


__all__ = ["KeptLogs", "Records", "RoundSpec", "SharedSum", "WorkItem", "WorkResult", "Worker"]
