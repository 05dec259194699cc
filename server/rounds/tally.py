"""The tally of one round: who was accepted, who was refused and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confide.protocol.messages import Evaluation, Reply
from confide.server.rounds.participants import Answer
from confide.server.rounds.state import RoundRecord


@dataclass
class Tally:
    """What became of those who were asked in one round."""

    server_round: int
    accepted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    validation: dict[str, Evaluation] = field(default_factory=dict)
    epsilon: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, answer: Answer, refusal: str | None) -> None:
        """Count one answer: accepted, or refused with a code."""
        if isinstance(answer, Reply) and "epsilon" in answer.figures:
            self.epsilon[name] = answer.figures[
                "epsilon"
            ]  # spent, whether or not the update goes in
        if refusal:
            self.refused[name] = refusal
            return
        assert isinstance(answer, Reply)
        self.accepted.append(name)
        if "validation" in answer.evaluations:
            self.validation[name] = answer.evaluations["validation"]

    def lose(self, lost: Mapping[str, str]) -> None:
        """Take back those whose update was lost after it was accepted: name -> code."""
        for name, code in lost.items():
            if (
                name in self.accepted
            ):  # what it spent stays, what it scored goes as for any other refused update
                self.accepted.remove(name)
                self.validation.pop(name, None)
                self.refused[name] = code

    def record(self, update_bytes: int, *, bytes_down: int, seconds: float) -> RoundRecord:
        """Write down what happened."""
        return RoundRecord(
            server_round=self.server_round,
            accepted=tuple(sorted(self.accepted)),
            refused=dict(sorted(self.refused.items())),
            validation=dict(sorted(self.validation.items())),
            epsilon=dict(sorted(self.epsilon.items())),
            bytes_up=update_bytes * len(self.accepted),
            bytes_down=bytes_down,
            seconds=seconds,
        )


__all__ = ["Tally"]
