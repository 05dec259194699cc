"""A federated algorithm composed of independent parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from confide.config.strategies.schedules import ScheduleConfig
from confide.config.strategies.strategy import ObjectiveConfig
from confide.errors import RunFailedError
from confide.protocol.tensors import Shapes, Tensors, shapes_of
from confide.strategies.aggregators import ExactSum, FixedPointMean, WeightedMean
from confide.strategies.algorithm import (
    Algorithm,
    Participation,
    ServerResult,
    ServerRound,
    join_extra,
    prefixed,
    split_extra,
    split_prefix,
)
from confide.strategies.mean_beside import MeanBeside
from confide.strategies.mechanisms.mechanism import CLIP_NORM, Mechanism, RoundSum
from confide.strategies.mechanisms.rule import ClippedSum, ClippedUpdates, sum_of
from confide.strategies.parts import build_algorithm
from confide.strategies.strategy import (
    Accumulator,
    Aggregator,
    Bounds,
    ClientUpdate,
    Countable,
    Dividing,
    Drawing,
    Judging,
    Keeping,
    Round,
    RoundAware,
    RoundStart,
    Selection,
    ServerOptimizer,
    SumRule,
    Surroundings,
)
from confide.strategies.timings.rounds import Rounds
from confide.strategies.timings.timing import Timing

_ALGORITHM, _AGGREGATOR, _MECHANISM = "algorithm/", "aggregator/", "mechanism/"
"""Prefixes of these parts' own tensors in a strategy's state; the others are the optimizer's."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A strategy composed of parts; a :class:`FederatedAlgorithm`.

    Attributes:
        selection: who takes part.
        aggregator: how updates become one.
        server_optimizer: how that changes the global tensors.
        objective: the algorithm, as the plan names it.
        timing: when a step is taken.
        mechanism: clips updates and adds noise, so that no client shows; None for none.
        schedule: how long the server optimizer's step is from round to round.
    """

    selection: Selection
    aggregator: Aggregator
    server_optimizer: ServerOptimizer
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    timing: Timing = field(default_factory=Rounds)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    mechanism: Mechanism | None = None

    @property
    def has_noise(self) -> bool:
        """Whether a round without clients changes the model all the same."""
        # Where clients bring the noise, nobody brings none
        return self.mechanism is not None and self.mechanism.share is None

    @property
    def wanted(self) -> int | None:
        """Updates after which a round is closed; None: all who were asked are waited for."""
        return self.selection.wanted

    @property
    def resumable(self) -> bool:
        """Always: a strategy of parts hides nothing."""
        return True

    @property
    def algorithm(self) -> Algorithm:
        """The client and the server part."""
        return build_algorithm(self.objective)

    @property
    def _aggregator(self) -> Aggregator:
        """The rule, or what the algorithm needs in its place."""
        algorithm, rule = self.algorithm, self.aggregator
        if algorithm.sum_shapes is not None:
            return ExactSum()
        # Beside any other rule there is nothing to average, as the config was checked
        if algorithm.averaged_fn is not None and isinstance(rule, WeightedMean):
            return MeanBeside(rule=rule, averaged_fn=algorithm.averaged_fn)
        return rule

    def init(self, params: Tensors) -> Tensors:
        """Return the first state of the server optimizer, the algorithm and the rule."""
        own = prefixed(_ALGORITHM, self.algorithm.first_state(params))
        rule, shapes = self._aggregator, self.reply_shapes(shapes_of(params))
        kept = rule.first_state(shapes) if isinstance(rule, RoundAware) else {}
        state = self.server_optimizer.init(params) | own | prefixed(_AGGREGATOR, kept)
        if self.mechanism is not None:
            state |= prefixed(_MECHANISM, self.mechanism.first_state(params))
        return state

    def select(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose this round's clients."""
        return self.selection(clients, secret=secret, server_round=server_round)

    @property
    def waits(self) -> bool:
        """Whether a round begins once ``server.min_clients`` are there."""
        return isinstance(self.selection, Drawing) and self.selection.waits

    @property
    def varies(self) -> bool:
        """Whether chance decides how many are drawn, so that it may be nobody."""
        return isinstance(self.selection, Drawing) and self.selection.varies

    def draw(
        self, clients: Sequence[str], seen: Surroundings, *, secret: bytes, server_round: int
    ) -> list[str]:
        """Choose this round's clients by all that the selection looks at."""
        if isinstance(self.selection, Drawing):
            return self.selection.draw(clients, seen, secret=secret, server_round=server_round)
        return self.select(clients, secret=secret, server_round=server_round)

    def request(self, params: Tensors, state: Tensors) -> Tensors:
        """Return the global tensors, with what the algorithm sends beside them."""
        _, own = split_prefix(_ALGORITHM, state)
        return join_extra(params, self.algorithm.sent_fn(own))

    def is_finished(self, state: Tensors) -> bool:
        """Say whether the algorithm has nothing left to do."""
        _, own = split_prefix(_ALGORITHM, state)
        return self.algorithm.finished_fn(own)

    def reply_shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of an update and what the algorithm's clients send beside it."""
        return self.algorithm.reply_shapes(shapes)

    def begin(self, start: RoundStart) -> Round:
        """Begin a round.

        Raises:
            ConfigError: if the rule cannot be used with those who are asked.
        """
        aggregator = self._aggregator
        if isinstance(aggregator, RoundAware):
            aggregator = aggregator.at(start, split_prefix(_AGGREGATOR, start.state)[1])
        if self.mechanism is not None:  # beside the weighted mean alone, as the config was checked
            aggregator = _rule_of(self.mechanism, split_prefix(_MECHANISM, start.state)[1])
        # A cohort without records would leave no scale to sum at.
        total_weight = max(1, aggregator.total_weight(start.cohort))
        share = None if self.mechanism is None else self.mechanism.share
        bounds = Bounds(
            max_value=start.max_value if share is None else share.largest,
            max_total_weight=total_weight,
            sum_bits=start.sum_bits,
        )
        # Extra tensors are summed with the update, as one vector.
        shapes = self.reply_shapes(shapes_of(start.params))
        return _ComposedRound(
            strategy=self,
            start=start,
            accumulator=aggregator.start(shapes, bounds),
            rule=(
                SumRule(aggregator=aggregator, shapes=shapes, bounds=bounds)
                if aggregator.additive
                else None
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _ComposedRound:
    strategy: Strategy
    start: RoundStart
    accumulator: Accumulator
    rule: SumRule | None

    def add(self, update: ClientUpdate) -> None:
        self.accumulator.add(update)

    def merge(self, total: Tensor, total_weight: int) -> None:
        self.accumulator.merge(total, total_weight)

    @property
    def set_aside(self) -> Mapping[str, float]:
        """Institution -> share of its update that the rule set aside, once the round is done."""
        return self.accumulator.set_aside if isinstance(self.accumulator, Judging) else {}

    def finish(self, participation: Participation) -> tuple[Tensors, Tensors]:
        # One flat state, so that a checkpoint knows nothing of its parts
        start = self.start
        others, own = split_prefix(_ALGORITHM, start.state)
        others, _ = split_prefix(_AGGREGATOR, others)
        optimizer_state, mechanism_state = split_prefix(_MECHANISM, others)
        extra: Tensors = {}
        if self.strategy.mechanism is not None:
            update, mechanism_state = self._released(
                self.strategy.mechanism, mechanism_state, participation.num_clients
            )
        else:
            update, extra = split_extra(self.accumulator.mean())
            update = _divided(update, self.strategy.selection, participation)

        # The algorithm decides when, and by which update; the optimizer keeps its own state
        def step(update: Tensors) -> ServerResult:
            params, after = self.strategy.server_optimizer.apply(
                start.params, update, optimizer_state
            )
            return ServerResult(params=self._scheduled(params), optimizer_state=after)

        given = ServerRound(
            params=start.params,
            update=update,
            extra=extra,
            state=own,
            participation=participation,
            cohort=start.cohort,
            server_round=start.server_round,
            plan=start.plan,
            released=start.released,
        )
        result = self.strategy.algorithm.server(given, step)
        kept = self.accumulator.state if isinstance(self.accumulator, Keeping) else {}
        state = result.optimizer_state | prefixed(_ALGORITHM, result.state)
        state |= prefixed(_AGGREGATOR, kept) | prefixed(_MECHANISM, mechanism_state)
        return result.params, state

    def _released(
        self, mechanism: Mechanism, state: Tensors, num_clients: int
    ) -> tuple[Tensors, Tensors]:
        """Return the noised mean of clipped updates, and the mechanism's state after it.

        Raises:
            RunFailedError: if fewer clients brought their shares of the noise than have to.
        """
        summed, selection = self.accumulator, self.strategy.selection
        assert isinstance(summed, FixedPointMean)
        assert isinstance(selection, Countable)  # as the config was checked
        share = mechanism.share
        if share is not None and summed.total_weight < share.honest:
            raise RunFailedError(
                f"{summed.total_weight} institutions brought their shares of the noise, and"
                f" strategy.mechanism.honest={share.honest} of them are counted on; have more take"
                " part, or lower it."
            )
        given = RoundSum(
            total=sum_of(summed),
            # Partial sums do not count it: where nobody needs it, engines must not differ by it
            within=(
                summed.within if mechanism.adapts and isinstance(summed, ClippedUpdates) else 0.0
            ),
            expected=selection.expected(num_clients),
            participations=selection.participations(num_clients, self.start.num_rounds),
            server_round=self.start.server_round,
            secret=self.start.secret,
            state=state,
        )
        released = mechanism.release(given)
        return released.update, released.state

    def _scheduled(self, params: Tensors) -> Tensors:
        """Go the round's share of a step, which is as long as the optimizer's learning rate."""
        start = self.start
        rate = self.strategy.schedule.rate(start.server_round, start.num_rounds)
        if rate == 1.0:  # the step itself, to the last bit
            return params
        return {name: value + rate * (params[name] - value) for name, value in start.params.items()}


def _rule_of(mechanism: Mechanism, state: Tensors) -> Aggregator:
    """Return the sum that a mechanism is made for."""
    if mechanism.share is not None:  # clipped, and with noise, as it comes
        return WeightedMean(weighting="uniform")
    return ClippedSum(clip_norm=float(state[CLIP_NORM][0]), counts=mechanism.adapts)


def _divided(update: Tensors, selection: Selection, participation: Participation) -> Tensors:
    """Divide a mean's sum by what the selection says, in place of the number that came."""
    if not isinstance(selection, Dividing):
        return update
    factor = selection.factor(len(participation.accepted), participation.num_clients)
    # By 1 nothing is multiplied: everybody's mean stays what it is to the last bit
    return update if factor == 1.0 else {name: value * factor for name, value in update.items()}


__all__ = ["Strategy"]
