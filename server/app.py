"""The coordinator as Flower knows it: a ServerApp, and a Strategy that it starts.

The same for a simulated grid and for a SuperLink.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from confide.errors import ConfigError
from confide.protocol.tensors import LARGEST_FLOAT32, Tensors, decode, encode
from confide.server.rounds import loop, steps
from confide.server.rounds.asynchronous.buffers import buffered, run_buffers
from confide.server.rounds.collect import Intake, collect_updates
from confide.server.rounds.enrolled import Enrolled, select, varies
from confide.server.rounds.job import Job
from confide.server.rounds.masked import is_masked
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RunState


@dataclass
class RunResult(Result):
    """What Flower's ``start`` returns, and how the run ended."""

    outcome: Outcome = field(kw_only=True)


@dataclass(frozen=True, kw_only=True)
class _Driven:
    """A job whose rounds somebody else drives.

    Attributes:
        enrolled: the job and who takes part.
        state: after the last round that was aggregated.
        cohort: names of those asked in the round under way.
    """

    enrolled: Enrolled
    state: RunState
    cohort: list[str]


class RoundStrategy(Strategy):
    """A job as one of Flower's strategies.

    ``start`` runs all rounds by :func:`~confide.server.rounds.loop.run_rounds`. Whoever drives
    rounds by the other methods, as Flower's own ``start`` does, gets the same tensors, bit for bit,
    but nobody validates or tests them.

    Args:
        job: what is run.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._driven: _Driven | None = None

    def start(  # noqa: PLR0913 - Flower's signature
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> RunResult:
        """Run all rounds.

        Args:
            grid: carries the messages.
            initial_arrays: initial trainable tensors.
            num_rounds: rounds to run, in place of the job's.
            timeout: seconds until a round goes on without those who have not answered, in place of
                the job's.
            train_config: not used; institutions follow the plan.
            evaluate_config: not used.
            evaluate_fn: not used; the outcome holds the institutions' own evaluations.

        Raises:
            RunFailedError: if fewer than ``server.min_clients`` take part, or answer in a round.
        """
        # Flower's arguments win, as for any other strategy.
        settings = replace(
            self._job.settings, num_rounds=num_rounds, round_timeout_s=float(timeout)
        )
        job = replace(self._job, settings=settings)
        run_fn = loop.run_rounds if buffered(job.algorithm) is None else run_buffers
        outcome = run_fn(job, grid, _decoded(initial_arrays))
        return RunResult(arrays=encode(outcome.kept), outcome=outcome)

    def summary(self) -> None:
        """Log nothing: the round loop logs who takes part once it knows."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Select clients and write one message for all of them; the first call enrols them.

        Raises:
            ConfigError: if the strategy is asynchronous, which rounds of Flower's are not, or sums
                are masked.
        """
        if buffered(self._job.algorithm) is not None:
            raise ConfigError(
                "strategy.timing: an asynchronous strategy has no rounds that Flower could drive;"
                " choose strategy=fedavg."
            )
        if is_masked(self._job):
            raise ConfigError(
                "aggregation=secure: a masked sum takes two exchanges, and a round that Flower"
                " drives has one; run it by confide, or set aggregation=plain."
            )
        if self._driven is None:
            enrolled, state = loop.begin(self._job, grid, _decoded(arrays))
        else:
            enrolled, state = self._driven.enrolled, self._driven.state
        drawn = select(enrolled, replace(state, server_round=server_round - 1))
        declined = enrolled.admit(drawn)
        cohort = [name for name in drawn if name not in declined]
        self._driven = _Driven(enrolled=enrolled, state=state, cohort=cohort)
        request = self._job.algorithm.request(_decoded(arrays), state.strategy_state)
        arrays = enrolled.encode(request, server_round)
        return steps.train_question(enrolled, cohort, server_round, arrays).messages("train")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate a round's replies; the state moves on.

        Raises:
            RuntimeError: if nobody was asked before.
        """
        driven = self._driven
        if driven is None:
            raise RuntimeError("Expected configure_train before aggregate_train.")
        enrolled, settings = driven.enrolled, self._job.settings
        # The cohort as it was asked: it fixes the scale of the sum, and thereby its bits.
        under_way = steps.begin_round(enrolled, driven.state, driven.cohort)
        intake = Intake(
            server_round=server_round,
            ask_fn=lambda _: enrolled.clients.answers(replies, driven.cohort),
            under_way=under_way,
            declared=enrolled.clients.num_examples,
            shapes=enrolled.reply_shapes,
            travel=enrolled.upload,
            max_value=settings.max_update_value,
            timeout_s=settings.round_timeout_s,
        )
        started = perf_counter()
        sent = steps.Sent(asked=driven.cohort, started=started, num_bytes=0)
        if not driven.cohort and varies(self._job):
            state = steps.without_clients(enrolled, driven.state, started, {})
        else:
            tally = collect_updates(intake)
            state = steps.finish_round(enrolled, driven.state, under_way, tally, sent)
        steps.commit(enrolled, state)
        self._driven = replace(driven, state=state)
        return encode(state.params), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nobody: institutions score the global tensors when they are asked to train."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate nothing."""
        return None


def _decoded(arrays: ArrayRecord) -> Tensors:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    return decode(arrays, shapes, max_value=LARGEST_FLOAT32).tensors


def run_server_app(job: Job, grid: Grid, *, initial: Tensors) -> Outcome:
    """Run a job's rounds in a ServerApp, as Flower would run it.

    Arguments and errors are those of :func:`~confide.server.rounds.loop.run_rounds`.
    """
    app = ServerApp()
    results: list[RunResult] = []  # a ServerApp's main returns nothing

    def main(grid: Grid, context: Context) -> None:
        settings = job.settings
        result = RoundStrategy(job).start(
            grid,
            encode(initial),
            num_rounds=settings.num_rounds,
            timeout=settings.round_timeout_s,
        )
        results.append(result)

    app.main()(main)
    app(grid, Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={}))
    return results[0].outcome


__all__ = ["RoundStrategy", "RunResult", "run_server_app"]
