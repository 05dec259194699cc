"""The tally of one round: who was accepted, who was refused and why."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confide.errors import ProtocolError
from confide.protocol.messages import Evaluation, Reply
from confide.protocol.refusals import with_figures
from confide.server.rounds.participants import Answer, told_steps
from confide.server.rounds.state import RoundRecord

log = logging.getLogger(__name__)

WITH_PEERS = ("epsilon_with_peers", "honest_peers")
"""Figures of a reply: epsilon against who sees sums alone, and the honest it counts on."""


@dataclass
class Tally:
    """What became of those who were asked in one round.

    Attributes:
        server_round: from 1.
        accepted: names of those whose updates went in.
        refused: name -> code of those whose did not.
        validation: name -> metrics of the tensors that the round started from.
        epsilon: name -> privacy spent so far.
        with_peers: name -> what of it who sees sums alone can learn, and how many honest
            institutions that counts on.
        staleness: of each accepted update, where clients are not asked in rounds.
        steps: name -> number of local steps in its last update, where plans allow for fewer.
    """

    server_round: int
    accepted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    validation: dict[str, Evaluation] = field(default_factory=dict)
    epsilon: dict[str, float] = field(default_factory=dict)
    with_peers: dict[str, Mapping[str, float]] = field(default_factory=dict)
    staleness: list[int] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, record: RoundRecord) -> "Tally":
        """Go on with what an earlier process counted of clients that are not asked in rounds."""
        return cls(
            record.server_round,
            accepted=list(record.order),
            refused=dict(record.refused),
            validation=dict(record.validation),
            epsilon=dict(record.epsilon),
            with_peers=dict(record.with_peers),
            staleness=list(record.staleness),
            steps=dict(record.steps),
        )

    def note(self, name: str, answer: Answer, take_fn: Callable[[str, Reply], None]) -> None:
        """Count one answer: accepted, or refused with a code.

        Args:
            name: of the client.
            answer: its reply, or the code of what stands in its place.
            take_fn: takes the update; raises ProtocolError if it is not what was asked for.
        """
        if isinstance(answer, str):
            self.refused[name] = answer
            return
        if "epsilon" in answer.figures:  # spent, whether or not the update goes in
            self.epsilon[name] = answer.figures["epsilon"]
            self.with_peers |= with_peers_of({name: answer})
        if answer.refusal:
            self.refused[name] = answer.refusal
            told = with_figures(answer.refusal, answer.figures)
            if told != answer.refusal:  # only the code is kept with the round
                log.warning("%s declines round %d: %s.", name, self.server_round, told)
            return
        try:
            steps = told_steps(answer)
            take_fn(name, answer)
        except ProtocolError as error:
            log.warning("The update of %s is refused: %s", name, error)
            self.refused[name] = error.code
            return
        self.accepted.append(name)
        if steps is not None:
            self.steps[name] = steps
        if "validation" in answer.evaluations:
            self.validation[name] = answer.evaluations["validation"]

    def lose(self, lost: Mapping[str, str]) -> None:
        """Take back those whose update was lost after it was accepted: name -> code."""
        # What they spent stays; what they scored goes, as for any other refused update.
        for name in lost.keys() & set(self.accepted):
            self.accepted.remove(name)
            self.steps.pop(name, None)
            self.validation.pop(name, None)
            self.refused[name] = lost[name]

    def join(self, other: "Tally") -> None:
        """Count what became of others who were asked in the same round."""
        self.accepted += other.accepted
        self.refused |= other.refused
        self.validation |= other.validation
        self.epsilon |= other.epsilon
        self.with_peers |= other.with_peers
        self.steps |= other.steps

    def record(
        self,
        update_bytes: int,
        *,
        bytes_down: int,
        seconds: float,
        virtual_s: float | None = None,
    ) -> RoundRecord:
        """Write down what happened."""
        return RoundRecord(
            server_round=self.server_round,
            accepted=tuple(sorted(self.accepted)),
            refused=dict(sorted(self.refused.items())),
            validation=dict(sorted(self.validation.items())),
            epsilon=dict(sorted(self.epsilon.items())),
            with_peers=dict(sorted(self.with_peers.items())),
            bytes_up=update_bytes * len(self.accepted),
            bytes_down=bytes_down,
            seconds=seconds,
            virtual_s=virtual_s,
            staleness=tuple(self.staleness),
            order=tuple(self.accepted) if self.staleness else (),
            steps=dict(sorted(self.steps.items())),
        )


def with_peers_of(replies: Mapping[str, Reply]) -> dict[str, Mapping[str, float]]:
    """Return what who sees sums alone can learn: name -> figures, of those who tell any."""
    told = {
        name: {key: reply.figures[key] for key in WITH_PEERS if key in reply.figures}
        for name, reply in replies.items()
    }
    return {name: figures for name, figures in told.items() if figures}


__all__ = ["WITH_PEERS", "Tally", "with_peers_of"]
