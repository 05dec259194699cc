"""Rounds in virtual time: who answers before the round is closed, and when that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import BYTES_PER_VALUE, Tensors
from confide.server.rounds.arrivals import Load
from confide.server.rounds.collect import CollectFn, Intake
from confide.server.rounds.participants import Question
from confide.server.rounds.tally import Tally
from confide.simulations.virtual.clock import VirtualClock
from confide.simulations.virtual.delays import Delays, Due
from confide.strategies.algorithm import Participation
from confide.strategies.strategy import ClientUpdate, SumRule


@dataclass(frozen=True, kw_only=True)
class VirtualRounds:
    """Collects a round's answers as its engine does, of those alone who answer in time.

    Attributes:
        clock: the run's.
        delays: when answers come.
        collect_fn: the engine's own way.
        charges: whether a client that is not waited for has to compute all the same, because what
            it computes is accounted for, or kept by it.
    """

    clock: VirtualClock
    delays: Delays
    collect_fn: CollectFn
    charges: bool

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question and fill its accumulator; the clock moves to the round's end."""
        question = intake.question
        assert question is not None  # of every round that the round loop runs
        began, load = self.clock.now(), _load(intake, question)
        dues = sorted(
            (
                (self.delays.due(name, intake.server_round, began, load), name)
                for name in question.names
            ),
            key=lambda pair: (pair[0].at, pair[1]),
        )
        heard = [(due, name) for due, name in dues if due.is_heard]
        tally, taken = self._first(intake, question, heard)
        unheard = [name for due, name in dues if not due.is_heard]
        if self.charges:
            late = [*unheard, *(name for _, name in heard[taken:])]
            dropped = replace(intake, under_way=_Dropped(), wanted=None)
            self.collect_fn(replace(dropped, question=_to(question, late)))
        is_closed = intake.wanted is not None and len(tally.accepted) >= intake.wanted
        if is_closed:
            unheard += [name for _, name in heard[taken:]]
        code = Refusal.NOT_NEEDED if is_closed else Refusal.NO_REPLY
        tally.refused |= dict.fromkeys(unheard, str(code))
        ends = heard[:taken] if is_closed else dues
        self.clock.advance_to(max((due.at for due, _ in ends), default=began))
        return tally

    def _first(
        self, intake: Intake, question: Question, heard: Sequence[tuple[Due, str]]
    ) -> tuple[Tally, int]:
        """Take answers in the order in which they come, until the round has what it wants.

        Returns:
            What became of them, and how many were looked at.
        """
        tally, taken = Tally(intake.server_round), 0
        wanted = math.inf if intake.wanted is None else intake.wanted
        while taken < len(heard) and len(tally.accepted) < wanted:
            # As many at a time as are missing: one that is refused makes room for the next
            missing = min(wanted - len(tally.accepted), len(heard) - taken)
            names = [name for _, name in heard[taken : taken + int(missing)]]
            # Who comes first is decided here
            now = replace(intake, question=_to(question, names), wanted=None)
            tally.join(self.collect_fn(now))
            taken += len(names)
        return tally, taken


def _to(question: Question, names: Sequence[str]) -> Question:
    return replace(question, names=sorted(names))


def _load(intake: Intake, question: Question) -> Load:
    arrays = question.request.arrays
    down = 0 if arrays is None else sum(math.prod(array.shape) for array in arrays.values())
    return Load(
        bytes_down=BYTES_PER_VALUE * down,
        bytes_up=intake.travel.num_bytes(intake.shapes),
        num_examples=intake.declared,
        client=TrainingPlan.from_json(question.request.plan).client,
    )


class _Dropped:
    """A round whose updates nobody waits for."""

    rule: SumRule | None = None

    def add(self, update: ClientUpdate) -> None:
        """Drop an update."""

    def merge(self, total: Tensor, total_weight: int) -> None:
        """Refuse: there are no sums where there is no rule.

        Raises:
            TypeError: always.
        """
        raise TypeError("Nothing is summed of answers that are not waited for.")

    def finish(self, participation: Participation) -> tuple[Tensors, Tensors]:
        """Refuse, as for :meth:`merge`.

        Raises:
            TypeError: always.
        """
        raise TypeError("Nothing is made of answers that are not waited for.")


__all__ = ["VirtualRounds"]
