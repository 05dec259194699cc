"""How the answers of a round get into its accumulator.

Updates arrive one by one and are checked and added here, or they are checked and added up where
they are made and arrive as one partial sum. A :data:`CollectFn` is one of these ways; the round
loop calls it and does not know which it is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from confide.protocol.codecs.travel import PLAIN, Travel
from confide.protocol.messages import Reply
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Shapes
from confide.server.rounds.participants import Answer, Question, accept, check_reply
from confide.server.rounds.tally import Tally
from confide.strategies.strategy import Round


@dataclass(frozen=True, kw_only=True)
class Intake:
    """One round, from its question to its accumulator.

    Attributes:
        server_round: from 1.
        ask_fn: sends a question, and yields an answer for each client that was asked.
        under_way: takes what is accepted.
        declared: name -> declared number of training records.
        shapes: of an update.
        max_value: bound on what is accepted.
        timeout_s: seconds for what is left to do after the last answer.
        question: what is asked; None where messages are on their way.
        wanted: accepted updates after which the round is closed; None: everybody is waited for.
        travel: how updates travel.
    """

    server_round: int
    ask_fn: Callable[[Question | None], Iterable[tuple[str, Answer]]]
    under_way: Round
    declared: Mapping[str, int]
    shapes: Shapes
    max_value: float
    timeout_s: float
    question: Question | None = None
    wanted: int | None = None
    travel: Travel = PLAIN

    def unneeded(self, tally: Tally) -> list[str]:
        """Return who has not answered once the round has all that it wants; else nobody."""
        if self.wanted is None or self.question is None or len(tally.accepted) < self.wanted:
            return []
        heard = {*tally.accepted, *tally.refused}
        return [name for name in self.question.names if name not in heard]

    def add(self, name: str, reply: Reply) -> None:
        """Check a reply and add its update.

        Raises:
            ProtocolError: if it is not what was asked for.
        """
        update = accept(
            reply,
            name,
            declared=self.declared[name],
            shapes=self.shapes,
            travel=self.travel,
            max_value=self.max_value,
        )
        self.under_way.add(update)

    def add_unless_summed(self, name: str, reply: Reply) -> None:
        """Check a reply whose update may be in a partial sum already, and add the update if not.

        Raises:
            ProtocolError: if it is not what was asked for.
        """
        if reply.arrays is None:  # the update was checked by `accept` where it was summed
            check_reply(reply, name, declared=self.declared[name])
        else:
            self.add(name, reply)

    def merge(self, partial: "PartialSum", tally: Tally) -> None:
        """Take the sum of a round's updates, and note whose updates were lost."""
        self.under_way.merge(partial.total, partial.total_weight)
        tally.lose(partial.lost)


class PartialSum(NamedTuple):
    """Updates of one round, added up where they were made.

    Attributes:
        total: int64, shape [d].
        total_weight: of the updates in it.
        lost: name -> code of clients whose reply arrived but whose update is not in the sum.
    """

    total: Tensor
    total_weight: int
    lost: Mapping[str, str]


CollectFn = Callable[[Intake], Tally]
"""Asks a round's question and fills its accumulator; returns what became of whom."""


def collect_updates(intake: Intake) -> Tally:
    """Take every update by itself, as it arrives."""
    return collect(intake, intake.add)


def collect(intake: Intake, take_fn: Callable[[str, Reply], None]) -> Tally:
    """Ask, and hand each reply that is no refusal to ``take_fn``, until the round is closed.

    Whoever is not needed may still compute, and its round is counted where it is.

    Args:
        intake: of the round.
        take_fn: takes (name, reply); raises ProtocolError if the reply is not what was asked for.
    """
    tally = Tally(intake.server_round)
    for name, answer in intake.ask_fn(intake.question):
        tally.note(name, answer, take_fn)
        unneeded = intake.unneeded(tally)
        if unneeded:
            tally.refused |= dict.fromkeys(unneeded, str(Refusal.NOT_NEEDED))
            break
    return tally


__all__ = ["CollectFn", "Intake", "PartialSum", "collect", "collect_updates"]
