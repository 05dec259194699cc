"""How a run's rounds end, and who is told on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Evaluation
from confide.protocol.tensors import Tensors
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.state import RunState

CommitFn = Callable[[Checkpoint], None]
"""Makes a checkpoint durable, or raises."""


class Observer(Protocol):
    """Hears of a run as it goes."""

    def started(self, clients: Mapping[str, int]) -> None:
        """Hear who takes part: name -> declared number of training records.

        Empty where institutions are asked for their consent when they are first drawn.
        """

    def resumed(self, state: RunState) -> None:
        """Hear, after ``started``, of rounds that an earlier process did."""

    def round_done(self, state: RunState) -> None:
        """Hear of a round; its record is the last of ``state.history``."""

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Hear how the model after a round scores: name -> metrics."""


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """The model that a run started from, scored as the one that it keeps.

    Attributes:
        params: its tensors.
        test: name -> metrics on test records.
        old: name -> metrics on test records that it was tested on before.
        tallies: split -> name -> sums over its records.
    """

    params: Tensors
    test: Mapping[str, Evaluation]
    old: Mapping[str, Evaluation]
    tallies: Mapping[str, Mapping[str, ScoreTally]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: after the last round.
        kept: the tensors that the run keeps, ``server.keep``.
        kept_round: the round they are of; 0 for the initial ones.
        clients: name -> declared number of training records.
        test: name -> metrics of the kept model on test records; where they left in a masked sum,
            those of :data:`~confide.protocol.masked_sums.EVERYBODY` alone, and so with the others.
        personal: name -> metrics of an institution's own model on its test records, where it has
            one beside the kept model.
        validation: name -> metrics of the kept model on validation records, or where institutions
            predict with tensors of their own, of these; what sweeps choose by.
        stopped_early: whether patience ran out, or the algorithm had nothing left to do.
        epsilon: name -> privacy spent by the end, where scores of the last models cost some.
        with_peers: name -> what of it who sees sums alone can learn, as in a round's record.
        tallies: split -> name -> sums over its records, of the kept model.
        num_clients: how many institutions the run drew from; of a population that is not listed,
            ``clients`` has those who were ever asked.
        num_scorers: how many were asked to score the kept model.
        reproducible: names of those who say that their noise derives from the plan's seed.
        lost_sums: masked sums that were not opened, for want of answers, and were done again.
        old: name -> metrics of the kept model on test records that the model which the run started
            from was tested on before; ``test`` is without them then.
        predecessor: the model that the run started from, where it is compared with that one.
    """

    state: RunState
    kept: Tensors
    kept_round: int
    clients: Mapping[str, int]
    test: Mapping[str, Evaluation]
    stopped_early: bool
    reproducible: Sequence[str] = ()
    personal: Mapping[str, Evaluation] = field(default_factory=dict)
    validation: Mapping[str, Evaluation] = field(default_factory=dict)
    epsilon: Mapping[str, float] = field(default_factory=dict)
    with_peers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tallies: Mapping[str, Mapping[str, ScoreTally]] = field(default_factory=dict)
    num_clients: int = 0
    num_scorers: int = 0
    lost_sums: int = 0
    old: Mapping[str, Evaluation] = field(default_factory=dict)
    predecessor: Predecessor | None = None

    @property
    def is_sampled(self) -> bool:
        """Whether some institutions alone scored the kept model, drawn at random."""
        return self.num_scorers < self.num_clients


__all__ = ["CommitFn", "Observer", "Outcome", "Predecessor"]
