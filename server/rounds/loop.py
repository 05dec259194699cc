"""The round loop, over any Flower grid.

One exchange a round: an institution scores the tensors it receives on its validation records,
trains, and answers with an update. Replies go into the aggregator as they arrive. Every wait is
bounded. An error reply, silence, or an update that does not fit is a failure of that institution
alone, named; the round goes on without it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from flwr.serverapp.strategy import Strategy as FlowerBase

from confide.config.server import ServerConfig
from confide.errors import ConfigError, ProtocolError, StorageError
from confide.protocol.messages import Evaluation, Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import (
    LARGEST_FLOAT32,
    Shapes,
    Tensors,
    decode,
    encode,
    num_bytes,
    shapes_of,
)
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.enrolment import check_same_clients, enrol, too_few
from confide.server.rounds.exchange import Reach, exchange
from confide.server.rounds.outcome import CommitFn, Observer, Outcome
from confide.server.rounds.partial_sums import SummingGrid, SumOrder
from confide.server.rounds.participants import Answer, Clients, accept, check_reply, read_answer
from confide.server.rounds.state import RunState, update_best
from confide.server.rounds.tally import Tally
from confide.strategies.strategy import FederatedAlgorithm, Round

log = logging.getLogger(__name__)


class RoundLoop(FlowerBase):
    """A federated algorithm run over a grid, as a Flower strategy with a ``start`` of its own.

    Args:
        algorithm: selection, aggregation, server optimizer.
        plan: what institutions are asked to do.
        settings: rounds, bounds, which model is kept.
        secret: 32 bytes that selection derives from.
        observers: told of every round.
        commit_fn: makes the state durable, before the first round and after each; a round counts
            once it returns.
        checkpoint: where an earlier process of the same run left off; None for a new run.
        reach: what is known of the grid's nodes, and when they are asked again.
    """

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        algorithm: FederatedAlgorithm,
        *,
        plan: TrainingPlan,
        settings: ServerConfig,
        secret: bytes,
        observers: Sequence[Observer] = (),
        commit_fn: CommitFn | None = None,
        checkpoint: Checkpoint | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._reach = reach or Reach()
        self._algorithm = algorithm
        self._plan, self._plan_json = plan, plan.to_json()
        self._settings = settings
        self._secret = secret
        self._observers = observers
        self._commit_fn = commit_fn
        self._checkpoint = checkpoint
        self._clients = Clients(names={}, num_examples={})
        self._shapes: Shapes = {}
        self._state: RunState | None = None
        self.outcome: Outcome | None = None

    # What flwr.serverapp.strategy.Strategy requires; `start` enrols institutions first and drives
    # the rounds.

    def summary(self) -> None:
        """Log what will be run."""
        log.info(
            "Job %s: %d rounds, %d institutions.",
            self._plan.job,
            self._settings.num_rounds,
            len(self._clients.num_examples),
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Select clients and write one message for all of them."""
        cohort = self._algorithm.select(
            list(self._clients.num_examples), secret=self._secret, server_round=server_round
        )
        return self._clients.messages(
            "train", cohort, Request(plan=self._plan_json, server_round=server_round, arrays=arrays)
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate a round's replies; the state moves on."""
        under_way, tally = (
            self._begin(server_round, list(self._clients.num_examples)),
            Tally(server_round),
        )
        for reply in replies:
            name, answer = self._clients.names[reply.metadata.src_node_id], read_answer(reply)
            tally.note(name, answer, self._take(under_way, name, answer, summed=False))
        self._finish_round(under_way, tally, started=time.perf_counter(), bytes_down=0)
        assert self._state is not None
        return encode(self._state.params), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nobody: a round is one exchange."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
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
            num_rounds: rounds to run; the privacy of the plan was calibrated for
                ``plan.num_rounds``.
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
        self._state = self._first_state(
            decode(initial_arrays, self._shapes, max_value=LARGEST_FLOAT32).tensors
        )
        settings = self._settings
        self._clients = enrol(
            grid,
            self._plan_json,
            least=settings.min_clients,
            timeout=settings.enrol_timeout_s,
            reach=self._reach,
        )
        self._announce()
        stopped_early = self._is_stale()
        while self._state.server_round < num_rounds and not stopped_early:
            self._run_round(grid, self._state.server_round + 1, timeout)
            stopped_early = self._is_stale()
        validation, test = self._evaluate_last(grid, timeout)
        self.outcome = Outcome(
            state=self._state,
            clients=dict(self._clients.num_examples),
            test=test,
            stopped_early=stopped_early,
            reproducible=self._clients.reproducible,
            validation=validation,
        )
        return Result(arrays=encode(self.kept()))

    def kept(self) -> Tensors:
        """Return the tensors that the run keeps, ``server.keep``."""
        assert self._state is not None
        return (
            self._state.best.params
            if self._settings.keep == "best" and self._state.best
            else self._state.params
        )

    def _first_state(self, params: Tensors) -> RunState:
        """Return the state to go on from: the checkpoint's, or a new run's."""
        if self._checkpoint is None:
            return RunState(
                server_round=0, params=params, strategy_state=self._algorithm.init(params)
            )
        if not self._algorithm.resumable:
            raise ConfigError(
                "This strategy keeps its state hidden inside Flower's own class, so its run cannot"
                " be resumed."
            )
        if shapes_of(self._checkpoint.state.params) != self._shapes:
            raise StorageError(
                "The checkpoint holds the tensors of another model; start the run anew."
            )
        return self._checkpoint.state

    def _announce(self) -> None:
        """Tell observers who takes part, and make the beginning durable."""
        assert self._state is not None
        declared = self._clients.num_examples
        check_same_clients(self._checkpoint.clients if self._checkpoint else {}, declared)
        if self._checkpoint:  # what an institution told then must still stand in its ledger
            self._clients.ledger_heads.update(self._checkpoint.ledger_heads)
        for observer in self._observers:
            observer.started(declared)
            if self._state.server_round:
                observer.resumed(self._state)
        self.summary()
        self._commit()

    def _commit(self) -> None:
        if self._commit_fn is not None:
            assert self._state is not None
            clients = self._clients
            self._commit_fn(
                Checkpoint(
                    state=self._state,
                    clients=clients.num_examples,
                    ledger_heads=clients.ledger_heads,
                )
            )

    def _is_stale(self) -> bool:
        assert self._state is not None
        return (
            self._settings.patience is not None
            and self._state.stale_rounds >= self._settings.patience
        )

    def _run_round(self, grid: Grid, server_round: int, timeout: float) -> None:
        assert self._state is not None
        started = time.perf_counter()
        messages = list(
            self.configure_train(server_round, encode(self._state.params), ConfigRecord(), grid)
        )
        asked = [self._clients.names[message.metadata.dst_node_id] for message in messages]
        under_way = self._begin(server_round, asked)
        summing = grid if under_way.rule is not None and isinstance(grid, SummingGrid) else None
        if summing is not None and under_way.rule is not None:
            order = SumOrder(
                rule=under_way.rule,
                declared=self._clients.num_examples,
                max_value=self._settings.max_update_value,
            )
            summing.begin_sum(order)
        tally = Tally(server_round)
        for name, answer in self._clients.answers(
            exchange(grid, messages, timeout, self._reach.again), asked
        ):
            tally.note(
                name, answer, self._take(under_way, name, answer, summed=summing is not None)
            )
        if summing is not None:
            collected = summing.collect_sum(timeout)
            under_way.merge(collected.total, collected.total_weight)
            tally.lose(collected.lost)
        self._finish_round(
            under_way,
            tally,
            started=started,
            bytes_down=num_bytes(self._state.params) * len(messages),
        )
        self._commit()  # before anybody hears of the round
        for observer in self._observers:
            observer.round_done(self._state)

    def _begin(self, server_round: int, asked: Sequence[str]) -> Round:
        assert self._state is not None
        return self._algorithm.begin(
            self._state.params,
            self._state.strategy_state,
            cohort=[self._clients.num_examples[name] for name in asked],
            max_value=self._settings.max_update_value,
            server_round=server_round,
        )

    def _finish_round(
        self, under_way: Round, tally: "Tally", *, started: float, bytes_down: int
    ) -> None:
        state = self._state
        assert state is not None
        if len(tally.accepted) < self._settings.min_clients:
            when = f"round {tally.server_round}"
            too_few(
                when,
                got=len(tally.accepted),
                least=self._settings.min_clients,
                missing=tally.refused,
            )
        params, strategy_state = under_way.finish(
            participation=len(tally.accepted) / len(self._clients.num_examples)
        )
        record = tally.record(
            num_bytes(params), bytes_down=bytes_down, seconds=time.perf_counter() - started
        )
        judged = update_best(
            state, tally.server_round - 1, tally.validation, metric=self._plan.task.primary_metric
        )
        self._state = replace(
            judged,
            server_round=tally.server_round,
            params=params,
            strategy_state=strategy_state,
            history=(*state.history, record),
        )

    def _take(self, under_way: Round, name: str, answer: Answer, *, summed: bool) -> str | None:
        """Check one answer and, unless its update is in a partial sum, add it.

        Return the code of what is wrong with it.
        """
        if isinstance(answer, str):
            return answer
        if answer.refusal:
            return answer.refusal
        declared = self._clients.num_examples[name]
        try:
            if summed and answer.arrays is None:  # where it was made, checked by the same function
                check_reply(answer, name, declared=declared)
            else:
                under_way.add(
                    accept(
                        answer,
                        name,
                        declared=declared,
                        shapes=self._shapes,
                        max_value=self._settings.max_update_value,
                    )
                )
        except ProtocolError as error:
            log.warning("The update of %s is refused: %s", name, error)
            return error.code
        return None

    def _evaluate_last(
        self, grid: Grid, timeout: float
    ) -> tuple[Mapping[str, Evaluation], Mapping[str, Evaluation]]:
        """Validate the last tensors, then score the kept ones on the test records, once.

        Return how the kept ones score.
        """
        assert self._state is not None
        last = self._state.server_round
        scored = self._evaluate(grid, self._state.params, ("validation", "test"), timeout)
        validation = {
            name: splits["validation"] for name, splits in scored.items() if "validation" in splits
        }
        self._state = update_best(
            self._state, last, validation, metric=self._plan.task.primary_metric
        )
        kept_round = last
        if self.kept() is not self._state.params:
            scored = self._evaluate(grid, self.kept(), ("test",), timeout)
            assert self._state.best is not None
            kept_round = self._state.best.server_round
        test = {name: splits["test"] for name, splits in scored.items() if "test" in splits}
        for observer in self._observers:
            observer.evaluated("validation", last, validation)
            observer.evaluated("test", kept_round, test)
        if kept_round != last:  # the next round was given the tensors, and scored them first
            validation = next(
                dict(r.validation) for r in self._state.history if r.server_round == kept_round + 1
            )
        return validation, test

    def _evaluate(
        self, grid: Grid, params: Tensors, splits: Sequence[str], timeout: float
    ) -> dict[str, Mapping[str, Evaluation]]:
        request = Request(plan=self._plan_json, arrays=encode(params), splits=splits)
        messages = self._clients.messages("evaluate", list(self._clients.num_examples), request)
        answers = self._clients.answers(
            exchange(grid, messages, timeout, self._reach.again), list(self._clients.num_examples)
        )
        return dict(
            sorted(
                (name, answer.evaluations) for name, answer in answers if isinstance(answer, Reply)
            )
        )


__all__ = ["RoundLoop"]
