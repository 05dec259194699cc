"""A job together with those who take part in it, and how they are asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flwr.serverapp import Grid

from confide.protocol.messages import Request
from confide.protocol.tensors import Shapes
from confide.server.rounds.enrolment import join
from confide.server.rounds.exchange import exchange
from confide.server.rounds.job import Job
from confide.server.rounds.participants import Answer, Clients, Question


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """A job together with those who take part in it.

    Attributes:
        job: what is run.
        grid: carries the messages.
        clients: who takes part.
        shapes: of the global tensors.
        plan: the job's plan as JSON, the same text for everybody.
    """

    job: Job
    grid: Grid
    clients: Clients
    shapes: Shapes
    plan: str

    @property
    def reply_shapes(self) -> Shapes:
        """Shapes of an update, and of what the algorithm's clients send beside it."""
        return self.job.algorithm.reply_shapes(self.shapes)

    def admit(self, names: Sequence[str]) -> dict[str, str]:
        """Ask those for their consent who were not asked before, where not everybody was.

        Args:
            names: of those who are about to be asked something else.

        Returns:
            Name -> code of those who do not take part; they are asked again another time.
        """
        if self.clients.roster is None:
            return {}
        settings, reach = self.job.settings, self.job.reach
        return join(
            self.grid,
            self.plan,
            self.clients,
            names,
            timeout=settings.enrol_timeout_s,
            reach=reach,
        )

    def question(self, names: Sequence[str], request: Request) -> Question:
        """Write down what ``names`` are asked."""
        return Question(
            clients=self.clients,
            names=names,
            request=request,
            countersign_fn=self.job.reach.countersign_fn,
        )

    def ask(self, kind: str, question: Question) -> Iterator[tuple[str, Answer]]:
        """Send a question, and yield one answer for each who was asked."""
        reach, timeout = self.job.reach, self.job.settings.round_timeout_s
        messages = question.messages(kind)
        replies = exchange(self.grid, messages, timeout, reach.again, reach.clock)
        return self.clients.answers(replies, question.names)


__all__ = ["Enrolled"]
