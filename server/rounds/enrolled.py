"""A job together with those who take part in it: who is chosen, and how they are asked."""

import functools
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from confide.privacy.randomness import derive_key
from confide.protocol.codecs.travel import Travel, travel_of
from confide.protocol.messages import Request, RequestKind
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Shapes, Tensors
from confide.server.rounds.clock import Clock, Presence, enough
from confide.server.rounds.enrolment import join, too_few
from confide.server.rounds.exchange import FIRST_PAUSE_S, LONGEST_PAUSE_S, exchange
from confide.server.rounds.job import Job
from confide.server.rounds.participants import Answer, Clients, Question
from confide.server.rounds.state import RunState
from confide.strategies.strategy import Drawing, Surroundings


@dataclass(frozen=True, kw_only=True, eq=False)
class Connected:
    """Whom a grid is connected to, as of the last look; a round looks once.

    Attributes:
        grid: lists its nodes.
        clients: who takes part.
        clock: by which is waited.
        timeout_s: for so long at most.
    """

    grid: Grid
    clients: Clients
    clock: Clock
    timeout_s: float

    @functools.cached_property
    def _nodes(self) -> Container[int]:
        nodes = self.grid.get_node_ids()
        return nodes if isinstance(nodes, range) else set(nodes)  # of a population a range

    def is_there(self, client: str) -> bool:
        """Tell whether a client was connected at the last look."""
        return self.clients.node_of(client) in self._nodes

    def wait(self, clients: Sequence[str], least: int) -> None:
        """Look again until ``least`` of ``clients`` are connected, or time is up."""
        end, pause = self.clock.now() + self.timeout_s, FIRST_PAUSE_S
        while not enough(self, clients, least) and self.clock.now() < end:
            self.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            del self.__dict__["_nodes"]


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

    @property
    def presence(self) -> Presence:
        """Who is there at the beginning of a round."""
        known = self.job.reach.presence
        return known or Connected(
            grid=self.grid,
            clients=self.clients,
            clock=self.job.reach.clock,
            timeout_s=self.job.settings.round_timeout_s,
        )

    def question(self, names: Sequence[str], request: Request) -> Question:
        """Write down what ``names`` are asked."""
        return Question(
            clients=self.clients,
            names=names,
            request=request,
            countersign_fn=self.job.reach.countersign_fn,
        )

    def ask(self, kind: RequestKind, question: Question) -> Iterator[tuple[str, Answer]]:
        """Send a question, and yield one answer for each who was asked."""
        reach, timeout = self.job.reach, self.job.settings.round_timeout_s
        left = [name for name in question.names if name not in reach.gone]
        messages = replace(question, names=left).messages(kind)
        replies = exchange(self.grid, messages, timeout, reach.again, reach.clock)
        for name, answer in self.clients.answers(replies, question.names):
            is_gone = answer == Refusal.NO_REPLY and name in reach.gone
            yield name, Refusal.REVOKED if is_gone else answer


def select(enrolled: Enrolled, state: RunState) -> list[str]:
    """Choose the clients of the round after ``state``.

    Raises:
        RunFailedError: if nobody is there to choose from.
    """
    job, server_round, clients = enrolled.job, state.server_round + 1, enrolled.clients.everybody
    algorithm, least = job.algorithm, job.settings.min_clients
    if not isinstance(algorithm, Drawing):
        return algorithm.select(clients, secret=job.secret, server_round=server_round)
    presence = enrolled.presence
    if algorithm.waits:
        presence.wait(clients, least)
    seen = Surroundings(
        is_there_fn=presence.is_there, asked_fn=lambda rounds: _asked_in(state, rounds)
    )
    drawn = algorithm.draw(clients, seen, secret=job.secret, server_round=server_round)
    if algorithm.waits and len(drawn) < least:
        missing = (name for name in enrolled.clients.num_examples if not presence.is_there(name))
        absent = dict.fromkeys(missing, "not_connected")
        too_few(f"round {server_round}", got=len(drawn), least=least, missing=absent)
    return drawn


def _asked_in(state: RunState, rounds: int) -> frozenset[str]:
    """Return who was asked in the last rounds, whatever came of it."""
    recent = state.history[max(0, len(state.history) - rounds) :]
    return frozenset(name for record in recent for name in (*record.accepted, *record.refused))


def varies(job: Job) -> bool:
    """Tell whether chance decides how many clients a round has."""
    return isinstance(job.algorithm, Drawing) and job.algorithm.varies


__all__ = ["Connected", "Enrolled", "select", "varies"]
