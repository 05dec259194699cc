"""The institutions that take part, and how they are asked.

Every wait is bounded, every silence is named.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import Message

from confide.errors import ProtocolError
from confide.protocol.codecs.travel import PLAIN, Travel
from confide.protocol.messages import (
    STEPS,
    Reply,
    Request,
    RequestKind,
    message_type,
    pack_request,
    unpack_reply,
)
from confide.protocol.refusals import Refusal, with_figures
from confide.protocol.tensors import Shapes
from confide.strategies.roster import Roster
from confide.strategies.strategy import ClientUpdate

log = logging.getLogger(__name__)

_MOST_STEPS = 1_000_000
"""More than any plan may ask for."""

CountersignFn = Callable[[str], str]
"""Head of a ledger -> the same head with the coordinator's countersignature."""

Answer = Reply | str
"""A reply, or the code of what stands in its place."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The enrolled institutions.

    Attributes:
        names: node id -> name.
        num_examples: name -> declared number of training units, in the order of the names; where
            there is a roster, of those who were asked so far, in the order in which they were.
        ledger_heads: name -> head of its ledger as it told last; kept up to date, and echoed with
            every question, so that an institution whose ledger is an older copy notices.
        reproducible: names of those who say that their noise derives from the plan's seed.
        absent: who does not take part -> why.
        adverts: name -> its key of the job, signed, as text; empty where no sums are masked.
        roster: names of a population that is not listed, whose nodes are numbered from 1 in their
            order; institutions join as they are first asked. None where everybody was.
    """

    names: dict[int, str] = field(default_factory=dict)
    num_examples: dict[str, int] = field(default_factory=dict)
    ledger_heads: dict[str, str] = field(default_factory=dict)
    reproducible: list[str] = field(default_factory=list)
    absent: Mapping[str, str] = field(default_factory=dict)
    adverts: dict[str, str] = field(default_factory=dict)
    roster: Roster | None = None

    @property
    def everybody(self) -> Sequence[str]:
        """Who may be asked, in the order of the names; not listed where there is a roster."""
        return list(self.num_examples) if self.roster is None else self.roster

    @functools.cached_property
    def _nodes(self) -> dict[str, int]:
        return {name: node for node, name in self.names.items()}

    def node_of(self, name: str) -> int:
        """Return the node of an institution."""
        return self._nodes[name] if self.roster is None else self.roster.number(name) + 1

    def know(self, declared: Mapping[str, int]) -> None:
        """Take in institutions of the roster that joined before, in another process of the run."""
        self.num_examples.update(declared)
        self.names.update({self.node_of(name): name for name in declared})

    def forget(self, names: Iterable[str]) -> None:
        """Let institutions go that were enrolled; none of a roster."""
        for name in names:
            for known in (self.num_examples, self.ledger_heads, self.adverts):
                known.pop(name, None)
            del self.names[self.node_of(name)]
            if name in self.reproducible:
                self.reproducible.remove(name)

    def take_in(self, reply: Reply) -> None:
        """Take in an institution of the roster that joins."""
        self.know({reply.institution: reply.num_examples})
        if reply.ledger_head:
            self.ledger_heads[reply.institution] = reply.ledger_head
        if reply.figures.get("reproducible"):
            self.reproducible.append(reply.institution)

    @classmethod
    def of(cls, present: Mapping[int, Reply]) -> "Clients":
        """Take in those who enrol: node id -> reply, each of another institution."""
        replies = sorted(present.values(), key=lambda reply: reply.institution)
        return cls(
            names={node: reply.institution for node, reply in present.items()},
            num_examples={it.institution: it.num_examples for it in replies},
            ledger_heads={it.institution: it.ledger_head for it in replies if it.ledger_head},
            reproducible=[it.institution for it in replies if it.figures.get("reproducible")],
            adverts={it.institution: it.advert for it in replies if it.advert},
        )

    def requests(
        self, names: Sequence[str], request: Request, countersign_fn: CountersignFn | None = None
    ) -> Iterator[tuple[str, Request]]:
        """Yield what each of ``names`` is asked: the same, with the head of its ledger, if any.

        Heads are countersigned where there is a function.
        """
        for name in names:
            head = self.ledger_heads.get(name)
            if head and countersign_fn is not None:
                head = countersign_fn(head)
            yield name, replace(request, ledger_head=head) if head else request

    def hear(self, name: str, answer: Answer) -> None:
        """Remember the head of a ledger that an answer tells."""
        # A ledger that was found to be unsound has no head that could be relied on.
        if isinstance(answer, Reply) and answer.ledger_head and answer.refusal != Refusal.LEDGER:
            self.ledger_heads[name] = answer.ledger_head

    def answers(
        self, replies: Iterable[Message], asked: Sequence[str]
    ) -> Iterator[tuple[str, Answer]]:
        """Yield one answer for each who was asked.

        As they arrive, then those who did not answer.
        """
        waiting = set(asked)
        for reply in replies:
            name = self.names.get(reply.metadata.src_node_id)
            if name in waiting:  # a second answer to one question, or a stranger's, is ignored
                waiting.remove(name)
                answer = read_answer(reply)
                self.hear(name, answer)
                yield name, answer
        for name in sorted(waiting):
            yield name, Refusal.NO_REPLY


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request to several institutions.

    Attributes:
        clients: the enrolled institutions.
        names: of those who are asked.
        request: what is asked.
        countersign_fn: countersigns heads of ledgers; None for nothing.
        own_fn: (name, the request) -> what this one is asked; None where all are asked the same.
    """

    clients: Clients
    names: Sequence[str]
    request: Request
    countersign_fn: CountersignFn | None = None
    own_fn: Callable[[str, Request], Request] | None = None

    def requests(self) -> Iterator[tuple[str, Request]]:
        """Yield what each is asked."""
        for name, request in self.clients.requests(self.names, self.request, self.countersign_fn):
            yield name, request if self.own_fn is None else self.own_fn(name, request)

    def messages(self, kind: RequestKind) -> list[Message]:
        """Write it to each; it is encoded once where all are asked the same."""
        group = str(self.request.server_round)
        for_all = pack_request(self.request)  # tensors are encoded once, however many are asked
        return [
            Message(
                for_all if own is self.request else pack_request(own),
                self.clients.node_of(name),
                message_type(kind),
                group_id=group,
            )
            for name, own in self.requests()
        ]


def why_absent(answer: Answer, known: str | None) -> str | None:
    """Return why an institution does not take part, as a code; None if it does.

    Args:
        answer: its answer to the question of enrolment.
        known: its name by its registered key; None where there are no keys.
    """
    if isinstance(answer, str):
        return answer
    # A registered key says who a node is; a node's own word counts only where there are no keys.
    if known is not None and answer.institution != known:
        return Refusal.INSTITUTION
    if answer.refusal:
        return with_figures(answer.refusal, answer.figures)
    return Refusal.NO_RECORDS if answer.num_examples < 1 else None


def read_answer(message: Message) -> Answer:
    """Read a reply, or say by a code why it is none."""
    if message.has_error():
        # Without its text, which may quote a record.
        log.warning(
            "Node %s answers with an error, code %s.",
            message.metadata.src_node_id,
            message.error.code,
        )
        return Refusal.ERROR_REPLY
    try:
        return unpack_reply(message.content)
    except ProtocolError as error:
        log.warning("Node %s: %s", message.metadata.src_node_id, error)
        return error.code


def refusal_of(message: Message) -> str | None:
    """Return the code of a refusal; None for any other answer."""
    answer = read_answer(message)
    return answer.refusal if isinstance(answer, Reply) else None


def check_reply(reply: Reply, name: str, *, declared: int) -> None:
    """Check that a reply is of the institution asked, about the records it declared.

    Raises:
        ProtocolError: if not.
    """
    if reply.institution != name:
        raise ProtocolError(f"{reply.institution} answers for {name}.", code=Refusal.INSTITUTION)
    # The declared number fixes an institution's weight, and the scale of the sums.
    if reply.num_examples != declared:
        raise ProtocolError(
            f"{name} declared {declared} records and now {reply.num_examples}.",
            code=Refusal.NUM_EXAMPLES,
        )


def accept(
    reply: Reply,
    name: str,
    *,
    declared: int,
    shapes: Shapes,
    max_value: float,
    travel: Travel = PLAIN,
) -> ClientUpdate:
    """Check a reply to a train request, whole, and take the update out of it.

    Args:
        reply: the answer.
        name: of the institution that was asked.
        declared: number of training records that it declared.
        shapes: of an update.
        max_value: bound on what is accepted.
        travel: how updates travel.

    Raises:
        ProtocolError: if it is not what was asked for.
    """
    check_reply(reply, name, declared=declared)
    if reply.arrays is None:
        raise ProtocolError(f"{name} sends no update.", code=Refusal.TENSOR_NAMES)
    tensors = travel.decode(reply.arrays, shapes, max_value=max_value).tensors
    steps = told_steps(reply)
    return ClientUpdate(client=name, tensors=tensors, num_examples=reply.num_examples, steps=steps)


def told_steps(reply: Reply) -> int | None:
    """Return how many local steps an update has; None where its institution does not tell.

    Raises:
        ProtocolError: if it is no number of steps.
    """
    told = reply.figures.get(STEPS)
    if told is None:
        return None
    if not 1 <= told <= _MOST_STEPS or told != int(told):
        raise ProtocolError(
            f"{reply.institution} tells {told:g} steps, expected a whole number from 1 to"
            f" {_MOST_STEPS}.",
            code=Refusal.INVALID_MESSAGE,
        )
    return int(told)


__all__ = [
    "Answer",
    "Clients",
    "Question",
    "accept",
    "check_reply",
    "read_answer",
    "refusal_of",
    "told_steps",
    "why_absent",
]
