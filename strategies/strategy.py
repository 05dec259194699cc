"""A strategy: a value made of independent parts, and what the round loop asks of it.

Sign convention everywhere: an *update* is local minus global, so that FedAvg adds the mean update
to the global tensors.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.algorithm import Participation


@dataclass(frozen=True, kw_only=True)
class ClientUpdate:
    """One institution's accepted answer.

    Attributes:
        client: the institution's name.
        tensors: local minus global, and any extra tensors beside it.
        num_examples: its declared number of training records, >= 1.
        discount: what its tensors are multiplied by, in (0, 1]; its weight stays.
        steps: number of local steps in it, as the institution tells it, >= 1; None where all take
            what was planned.
    """

    client: str
    tensors: Tensors
    num_examples: int
    discount: float = 1.0
    steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What is known before the first update arrives.

    Attributes:
        max_value: no update holds a larger absolute value.
        max_total_weight: the cohort's weights add up to at most this.
        sum_bits: of each value of a sum, 64 or 32.
    """

    max_value: float
    max_total_weight: int
    sum_bits: int = 64


class Accumulator(Protocol):
    """Takes updates as they arrive; the result does not depend on their order."""

    def add(self, update: ClientUpdate) -> None:
        """Take one update."""

    def merge(self, total: Tensor, total_weight: int) -> None:
        """Take a sum that was begun elsewhere by the same rule.

        Int64, shape [d]; only where the rule is additive.
        """

    def mean(self) -> Tensors:
        """Return the aggregated update.

        Raises:
            ValueError: if nothing was added.
        """


class Aggregator(Protocol):
    """An aggregation rule."""

    @property
    def additive(self) -> bool:
        """Whether the rule is a sum, so that parts of it may be made anywhere."""

    def start(self, shapes: Shapes, bounds: Bounds) -> Accumulator:
        """Begin a round."""

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Add up what a cohort would weigh."""


@dataclass(frozen=True, kw_only=True)
class SumRule:
    """How to begin a partial sum of a round, in any process and with the same result.

    Attributes:
        aggregator: an additive rule.
        shapes: of what a client sends.
        bounds: of the whole round.
    """

    aggregator: Aggregator
    shapes: Shapes
    bounds: Bounds


class Selection(Protocol):
    """Who takes part in a round."""

    @property
    def wanted(self) -> int | None:
        """Accepted updates after which a round is closed; None: everybody is waited for."""

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose from ``clients``; the same for the same secret and round, whatever their order."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a selection may look at beside names.

    Attributes:
        is_there_fn: tells whether a client is there now.
        asked_fn: number of rounds, >= 0 -> names of those who were asked in the last so many.
    """

    is_there_fn: Callable[[str], bool]
    asked_fn: Callable[[int], Collection[str]] = lambda rounds: ()


@runtime_checkable
class Drawing(Protocol):
    """A selection, or a strategy with one, that looks at more than names."""

    @property
    def waits(self) -> bool:
        """Whether a round begins once ``server.min_clients`` clients are there."""

    @property
    def varies(self) -> bool:
        """Whether chance decides how many are drawn, so that it may be nobody.

        A round with nobody leaves the model as it is, and one with fewer than
        ``server.min_clients`` is done with these.
        """

    def draw(
        self, clients: Sequence[str], seen: Surroundings, *, secret: bytes, server_round: int
    ) -> list[str]:
        """Choose from ``clients``; the same for the same secret, round and surroundings."""


@runtime_checkable
class Dividing(Protocol):
    """A selection that says by how many a round's sum is divided."""

    def factor(self, accepted: int, num_clients: int) -> float:
        """Return what the mean of ``accepted`` updates is multiplied by, > 0."""


@runtime_checkable
class Countable(Protocol):
    """A selection of which it is known beforehand how many it draws, and how often one."""

    def expected(self, num_clients: int) -> float:
        """Return how many of so many clients a round asks on average, > 0."""

    def participations(self, num_clients: int, num_rounds: int) -> int:
        """Return in how many of so many rounds one client may take part at most."""


@runtime_checkable
class Noising(Protocol):
    """A strategy that may add noise to its rounds, those with nobody too."""

    @property
    def has_noise(self) -> bool:
        """Whether a round without clients changes the model all the same."""


class ServerOptimizer(Protocol):
    """How the aggregated update changes the global tensors."""

    def init(self, params: Tensors) -> Tensors:
        """Return the state before the first round."""

    def apply(self, params: Tensors, update: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return new tensors and new state; the arguments are left as they are.

        Args:
            params: global tensors.
            update: the aggregated update.
            state: of the round before.
        """


@dataclass(frozen=True, kw_only=True)
class RoundStart:
    """What a round begins with.

    Attributes:
        params: global tensors.
        state: state that the last round returned.
        cohort: declared numbers of training records of the clients asked.
        max_value: bound on the absolute values that are accepted.
        server_round: number of the round, from 1.
        num_rounds: rounds of the run; 1 where nobody says.
        plan: what institutions were asked to do; None where nobody needs to know.
        released: what they released before the run, where the algorithm rests on it.
        secret: of the run; random choices of a rule derive from it.
        sum_bits: of each value of a sum, 64 or 32.
    """

    params: Tensors
    state: Tensors
    cohort: Sequence[int]
    max_value: float
    server_round: int
    num_rounds: int = 1
    plan: TrainingPlan | None = None
    released: Tensors = field(default_factory=dict)
    secret: bytes = field(default=b"", repr=False)
    sum_bits: int = 64


@runtime_checkable
class RoundAware(Aggregator, Protocol):
    """A rule that keeps something between rounds, or draws anew in each."""

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return what it keeps before the first round, for updates of such shapes."""

    def at(self, start: RoundStart, state: Tensors) -> Aggregator:
        """Return the rule for a round, from what the round before kept.

        Raises:
            ConfigError: if it cannot be used with those who are asked.
        """


@runtime_checkable
class Judging(Protocol):
    """What tells, once its update is made, how much of whose update was set aside."""

    @property
    def set_aside(self) -> Mapping[str, float]:
        """Institution -> share in [0, 1]."""


@runtime_checkable
class Keeping(Protocol):
    """An accumulator that keeps something for the next round, once its update is made."""

    @property
    def state(self) -> Tensors:
        """What the next round starts from."""


class Round(Protocol):
    """One round under way."""

    def add(self, update: ClientUpdate) -> None:
        """Take one accepted update."""

    @property
    def rule(self) -> SumRule | None:
        """How to begin a partial sum; None where the algorithm needs every update."""

    def merge(self, total: Tensor, total_weight: int) -> None:
        """Take a partial sum, int64 of shape [d], in place of the updates in it."""

    def finish(self, participation: Participation) -> tuple[Tensors, Tensors]:
        """Return the new global tensors and the new state."""


class FederatedAlgorithm(Protocol):
    """What the round loop asks of a strategy, composed here or adapted from Flower."""

    @property
    def resumable(self) -> bool:
        """Whether :meth:`init` and what a round returns are all the state there is."""

    def init(self, params: Tensors) -> Tensors:
        """Return the state before the first round."""

    def select(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose this round's clients."""

    def request(self, params: Tensors, state: Tensors) -> Tensors:
        """Return what clients are sent in a round: the global tensors, and any extra ones."""

    def reply_shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of what clients send back, from those of the global tensors."""

    def begin(self, start: RoundStart) -> Round:
        """Begin a round."""


# Apart from FederatedAlgorithm: a strategy of one's own need not have it
@runtime_checkable
class Finishing(Protocol):
    """A strategy that may be done before the last round."""

    def is_finished(self, state: Tensors) -> bool:
        """Say, from the state that a round returned, whether there is nothing left to do."""


@runtime_checkable
class Closing(Protocol):
    """A strategy that may ask more clients than it waits for."""

    @property
    def wanted(self) -> int | None:
        """Accepted updates after which a round is closed; None: everybody is waited for."""


__all__ = [
    "Accumulator",
    "Aggregator",
    "Bounds",
    "ClientUpdate",
    "Closing",
    "Countable",
    "Dividing",
    "Drawing",
    "FederatedAlgorithm",
    "Finishing",
    "Judging",
    "Keeping",
    "Noising",
    "Round",
    "RoundAware",
    "RoundStart",
    "Selection",
    "ServerOptimizer",
    "SumRule",
    "Surroundings",
]
