"""The round loop, over any Flower grid.

One exchange a round: an institution scores the tensors it receives on its validation records, trains, and answers with an
update. Replies go into the aggregator as they arrive. Every wait is bounded. An error reply, silence, or an update that
does not fit is a failure of that institution alone, named; the round goes on without it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from flwr.serverapp.strategy import Strategy as FlowerBase

from confide.config import ServerConfig
from confide.errors import ProtocolError
from confide.exchange import Evaluation, Reply, Request
from confide.plan import TrainingPlan
from confide.records import LARGEST_FLOAT32, Shapes, Tensors, decode, encode, num_bytes
from confide.server.clients import Answer, Clients, enrol, exchange, read_answer, too_few
from confide.server.state import RoundRecord, RunState, judge
from confide.strategies.strategy import ClientUpdate, FederatedAlgorithm, Round

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Hears of a run as it goes."""

    def started(self, clients: Mapping[str, int]) -> None:
        """Hear who takes part: name -> declared number of training records."""

    def round_done(self, state: RunState) -> None:
        """Hear of a round; its record is the last of ``state.history``."""

    def evaluated(self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Hear how the model after a round scores: name -> metrics."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: after the last round.
        clients: name -> declared number of training records.
        test: name -> metrics of the kept model on test records.
        stopped_early: whether patience ran out.
    """

    state: RunState
    clients: Mapping[str, int]
    test: Mapping[str, Evaluation]
    stopped_early: bool


class RoundLoop(FlowerBase):
    """A federated algorithm run over a grid, as a Flower strategy with a ``start`` of its own.

    Args:
        algorithm: selection, aggregation, server optimizer.
        plan: what institutions are asked to do.
        settings: rounds, bounds, which model is kept.
        secret: 32 bytes that selection derives from.
        observers: told of every round.
    """

    def __init__(
        self,
        algorithm: FederatedAlgorithm,
        *,
        plan: TrainingPlan,
        settings: ServerConfig,
        secret: bytes,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._algorithm = algorithm
        self._plan, self._plan_json = plan, plan.to_json()
        self._settings = settings
        self._secret = secret
        self._observers = observers
        self._clients = Clients(names={}, num_examples={})
        self._shapes: Shapes = {}
        self._state: RunState | None = None
        self.outcome: Outcome | None = None

    # What flwr.serverapp.strategy.Strategy requires; `start` enrols institutions first and drives the rounds.

    def summary(self) -> None:
        """Log what will be run."""
        log.info(
            "Job %s: %d rounds, %d institutions.", self._plan.job, self._settings.num_rounds, len(self._clients.num_examples)
        )

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Select clients and write one message for all of them."""
        cohort = self._algorithm.select(list(self._clients.num_examples), secret=self._secret, server_round=server_round)
        return self._clients.messages("train", cohort, Request(plan=self._plan_json, server_round=server_round, arrays=arrays))

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate a round's replies; the state moves on."""
        answers = ((self._clients.names[reply.metadata.src_node_id], read_answer(reply)) for reply in replies)
        state = self._finish_round(server_round, answers, started=time.perf_counter(), bytes_down=0)
        return encode(state.params), None

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask nobody: a round is one exchange."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate nothing."""
        return None

    def start(  # noqa: PLR0913 - Flower's signature
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run all rounds.

        Args:
            grid: carries the messages.
            initial_arrays: initial trainable tensors.
            num_rounds: rounds to run; the privacy of the plan was calibrated for ``plan.num_rounds``.
            timeout: seconds until a round goes on without those who have not answered.
            train_config: not used; institutions follow the plan.
            evaluate_config: not used.
            evaluate_fn: not used; ``outcome`` holds the institutions' own evaluations.

        Returns:
            The final tensors; :attr:`outcome` says more.

        Raises:
            RunFailedError: if fewer than ``server.min_clients`` take part, or answer in a round.
        """
        self._shapes = {name: tuple(array.shape) for name, array in initial_arrays.items()}
        params = decode(initial_arrays, self._shapes, max_value=LARGEST_FLOAT32)
        self._state = RunState(server_round=0, params=params, strategy_state=self._algorithm.init(params))
        self._clients = enrol(grid, self._plan_json, least=self._settings.min_clients, timeout=timeout)
        for observer in self._observers:
            observer.started(self._clients.num_examples)
        self.summary()
        stopped_early = False
        while self._state.server_round < num_rounds and not stopped_early:
            self._run_round(grid, self._state.server_round + 1, timeout)
            stopped_early = self._settings.patience is not None and self._state.stale_rounds >= self._settings.patience
        test = self._evaluate_last(grid, timeout)
        self.outcome = Outcome(
            state=self._state, clients=dict(self._clients.num_examples), test=test, stopped_early=stopped_early
        )
        return Result(arrays=encode(self.kept()))

    def kept(self) -> Tensors:
        """Return the tensors that the run keeps, ``server.keep``."""
        assert self._state is not None
        return self._state.best.params if self._settings.keep == "best" and self._state.best else self._state.params

    def _run_round(self, grid: Grid, server_round: int, timeout: float) -> None:
        assert self._state is not None
        started = time.perf_counter()
        arrays = encode(self._state.params)
        messages = list(self.configure_train(server_round, arrays, ConfigRecord(), grid))
        asked = [self._clients.names[message.metadata.dst_node_id] for message in messages]
        answers = self._clients.answers(exchange(grid, messages, timeout), asked)
        self._finish_round(
            server_round,
            answers,
            started=started,
            bytes_down=num_bytes(self._state.params) * len(messages),
            asked=asked,
        )
        for observer in self._observers:
            observer.round_done(self._state)

    def _finish_round(
        self,
        server_round: int,
        answers: Iterable[tuple[str, Answer]],
        *,
        started: float,
        bytes_down: int,
        asked: Sequence[str] = (),
    ) -> RunState:
        state = self._state
        assert state is not None
        under_way = self._algorithm.begin(
            state.params,
            state.strategy_state,
            cohort=[self._clients.num_examples[name] for name in asked or self._clients.num_examples],
            max_value=self._settings.max_update_value,
            server_round=server_round,
        )
        accepted, refused = [], {}
        validation: dict[str, Evaluation] = {}
        epsilon: dict[str, float] = {}
        for name, answer in answers:
            code = self._take(under_way, name, answer)
            if code:
                refused[name] = code
                continue
            assert isinstance(answer, Reply)
            accepted.append(name)
            if "validation" in answer.evaluations:
                validation[name] = answer.evaluations["validation"]
            if "epsilon" in answer.figures:
                epsilon[name] = answer.figures["epsilon"]
        if len(accepted) < self._settings.min_clients:
            too_few(f"round {server_round}", got=len(accepted), least=self._settings.min_clients, missing=refused)
        params, strategy_state = under_way.finish()
        record = RoundRecord(
            server_round=server_round,
            accepted=tuple(sorted(accepted)),
            refused=dict(sorted(refused.items())),
            validation=dict(sorted(validation.items())),
            epsilon=dict(sorted(epsilon.items())),
            bytes_up=num_bytes(params) * len(accepted),
            bytes_down=bytes_down,
            seconds=time.perf_counter() - started,
        )
        judged = judge(state, server_round - 1, validation, metric=self._plan.task.primary_metric)
        self._state = replace(
            judged,
            server_round=server_round,
            params=params,
            strategy_state=strategy_state,
            history=(*state.history, record),
        )
        return self._state

    def _take(self, under_way: Round, name: str, answer: Answer) -> str | None:
        """Check one answer and add it; return the code of what is wrong with it."""
        if isinstance(answer, str):
            return answer
        if answer.refusal:
            return answer.refusal
        try:
            if answer.institution != name:
                raise ProtocolError(f"{answer.institution} answers for {name}.", code="institution")
            if answer.arrays is None:
                raise ProtocolError(f"{name} sends no update.", code="tensor_names")
            if answer.num_examples != self._clients.num_examples[name]:
                raise ProtocolError(
                    f"{name} declared {self._clients.num_examples[name]} records and now {answer.num_examples}.",
                    code="num_examples",
                )
            update = decode(answer.arrays, self._shapes, max_value=self._settings.max_update_value)
            under_way.add(ClientUpdate(client=name, tensors=update, num_examples=answer.num_examples))
        except ProtocolError as error:
            log.warning("The update of %s is refused: %s", name, error)
            return error.code
        return None

    def _evaluate_last(self, grid: Grid, timeout: float) -> dict[str, Evaluation]:
        """Validate the last tensors, then score the kept ones on the test records, once."""
        assert self._state is not None
        last = self._state.server_round
        scored = self._evaluate(grid, self._state.params, ("validation", "test"), timeout)
        validation = {name: splits["validation"] for name, splits in scored.items() if "validation" in splits}
        self._state = judge(self._state, last, validation, metric=self._plan.task.primary_metric)
        kept_round = last
        if self.kept() is not self._state.params:
            scored = self._evaluate(grid, self.kept(), ("test",), timeout)
            assert self._state.best is not None
            kept_round = self._state.best.server_round
        test = {name: splits["test"] for name, splits in scored.items() if "test" in splits}
        for observer in self._observers:
            observer.evaluated("validation", last, validation)
            observer.evaluated("test", kept_round, test)
        return test

    def _evaluate(
        self, grid: Grid, params: Tensors, splits: Sequence[str], timeout: float
    ) -> dict[str, Mapping[str, Evaluation]]:
        request = Request(plan=self._plan_json, arrays=encode(params), splits=splits)
        messages = self._clients.messages("evaluate", list(self._clients.num_examples), request)
        answers = self._clients.answers(exchange(grid, messages, timeout), list(self._clients.num_examples))
        return dict(sorted((name, answer.evaluations) for name, answer in answers if isinstance(answer, Reply)))


__all__ = ["Observer", "Outcome", "RoundLoop"]
