"""A job together with those who take part in it, and how they are asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from confide.privacy.randomness import derive_key
from confide.protocol.codecs.travel import Travel, travel_of
from confide.protocol.messages import Request
from confide.protocol.tensors import Shapes, Tensors
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

    @property
    def upload(self) -> Travel:
        """How updates travel."""
        return travel_of(self.job.plan.upload)

    @property
    def download(self) -> Travel:
        """How the tensors of a round travel."""
        return travel_of(self.job.plan.download)

    def encode(self, tensors: Tensors, number: int) -> ArrayRecord:
        """Write the tensors of a round, the same whichever process writes them.

        Args:
            tensors: what the algorithm sends.
            number: of the round, or of the steps that they are the result of.
        """
        key = derive_key(self.job.secret, "download", self.job.plan.job, number)
        return self.download.encode(tensors, key=key)

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
