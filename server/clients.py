"""The institutions that take part, and how they are asked: every wait is bounded, every silence is named."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from confide.errors import ProtocolError, RunFailedError
from confide.protocol.messages import Reply, Request, pack_request, unpack_reply
from confide.protocol.tensors import Shapes, decode
from confide.strategies.strategy import ClientUpdate

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 1.0
"""Between two looks for replies."""
NO_REPLY, ERROR_REPLY = "no_reply", "error_reply"

_LONGEST_SILENCE_S, _LONGEST_AGAIN_S = 600.0, 30.0
_MOST_DOUBLINGS = 10
_SHORTEST_TTL_S = 1.0

Answer = Reply | str
"""A reply, or the code of what stands in its place."""


@dataclass(frozen=True, kw_only=True)
class AskAgain:
    """When a question is asked again: after an error, after a long silence, and where an institution says 'not yet'.

    Asking again is safe: an institution answers the same question from what it keeps, and spends nothing more.

    Attributes:
        names: node id -> name, for whoever watches.
        not_yet: codes of refusals that time, or the institution's people, may lift.
        after_error_s: how long to wait after the first error; twice as long after each further one, up to 30 s.
        after_silence_s: how long the first silence lasts; each further one twice as long, up to 10 minutes.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    not_yet: frozenset[str] = frozenset({"policy_approval", "policy_hours"})
    after_error_s: float = 2.0
    after_silence_s: float = 60.0

    def name_of(self, node: int) -> str:
        """Return how a node is called."""
        return self.names.get(node, f"node {node}")

    def is_no_answer(self, reply: Message) -> bool:
        """Say whether a reply does not answer."""
        return reply.has_error() or _refusal_of(reply) in self.not_yet

    def pause_s(self, errors: int) -> float:
        """Return how long to wait after so many errors."""
        return min(_LONGEST_AGAIN_S, self.after_error_s * 2.0 ** min(errors - 1, _MOST_DOUBLINGS))

    def silence_s(self, silences: int) -> float:
        """Return how long silence lasts before the question is asked again, after so many silences; errors are none."""
        return min(_LONGEST_SILENCE_S, self.after_silence_s * 2.0 ** min(silences, _MOST_DOUBLINGS))


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What is known of a grid's nodes beforehand.

    Attributes:
        names: node id -> name, by the keys that were registered; empty where a node's own word is taken.
        again: when a question is asked again; None in a simulation, whose grid loses nothing by itself.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    again: AskAgain | None = None


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The enrolled institutions.

    Attributes:
        names: node id -> name.
        num_examples: name -> declared number of training units, in the order of the names.
        ledger_heads: name -> head of its ledger as it told last; kept up to date, and echoed with every question, so that an
            institution whose ledger is an older copy notices.
        reproducible: names of those who say that their noise derives from the plan's seed.
    """

    names: Mapping[int, str]
    num_examples: Mapping[str, int]
    ledger_heads: dict[str, str] = field(default_factory=dict)
    reproducible: Sequence[str] = ()

    def messages(self, kind: str, names: Sequence[str], request: Request) -> list[Message]:
        """Write the same request to each of ``names``, with the head of its ledger; it is encoded once where there is none."""
        nodes, group = {name: node for node, name in self.names.items()}, str(request.server_round)
        for_all = pack_request(request)

        def content(name: str) -> RecordDict:
            head = self.ledger_heads.get(name)
            return pack_request(replace(request, ledger_head=head)) if head else for_all

        return [Message(content(name), nodes[name], kind, group_id=group) for name in names]

    def answers(self, replies: Iterable[Message], asked: Sequence[str]) -> Iterator[tuple[str, Answer]]:
        """Yield one answer for each who was asked: as they arrive, then those who did not answer."""
        waiting = set(asked)
        for reply in replies:
            name = self.names.get(reply.metadata.src_node_id)
            if name in waiting:  # a second answer to one question, or a stranger's, is ignored
                waiting.remove(name)
                answer = read_answer(reply)
                if isinstance(answer, Reply) and answer.ledger_head and answer.refusal != "ledger":
                    self.ledger_heads[name] = answer.ledger_head
                yield name, answer
        for name in sorted(waiting):
            yield name, NO_REPLY


def enrol(grid: Grid, plan: str, *, least: int, timeout: float, reach: Reach) -> Clients:
    """Learn who is there, and how many records each declares.

    Args:
        grid: carries the messages.
        plan: as JSON; an institution may decline it here already.
        least: fewest institutions to begin with.
        timeout: seconds to wait for them, and again for their answers.
        reach: what is known of them.

    Raises:
        RunFailedError: if too few take part, naming the others, or two have the same name.
    """
    nodes = _wait_for_nodes(grid, least, timeout, reach.names)
    content = pack_request(Request(plan=plan))
    answered: dict[int, Answer] = dict.fromkeys(nodes, NO_REPLY)
    for reply in exchange(grid, [Message(content, node, "query") for node in nodes], timeout, reach.again):
        if answered.get(reply.metadata.src_node_id) == NO_REPLY:  # the first answer counts
            answered[reply.metadata.src_node_id] = read_answer(reply)
    present, absent = {}, {}
    for node, answer in answered.items():
        known = reach.names.get(node)
        if isinstance(answer, str):
            absent[known or f"node {node}"] = answer
        elif known is not None and answer.institution != known:
            absent[known] = "institution"
        elif answer.refusal or answer.num_examples < 1:
            absent[known or f"node {node}, {answer.institution}"] = _declined(answer)
        else:
            present[node] = answer
    absent |= {name: "not_connected" for node, name in reach.names.items() if node not in answered}
    for who, code in absent.items():
        log.warning("%s does not take part: %s.", who, code)
    names = {node: answer.institution for node, answer in present.items()}
    if len(set(names.values())) < len(names):
        raise RunFailedError(
            f"Two nodes call themselves alike: {', '.join(sorted(names.values()))}; give each institution a name of its own."
        )
    if len(present) < least:
        too_few("enrol", got=len(present), least=least, missing=absent)
    return Clients(
        names=names,
        num_examples=dict(sorted((a.institution, a.num_examples) for a in present.values())),
        ledger_heads={a.institution: a.ledger_head for a in present.values() if a.ledger_head},
        reproducible=sorted(a.institution for a in present.values() if a.figures.get("reproducible")),
    )


def _declined(answer: Reply) -> str:
    """Write a refusal's code, with its figures if it has any."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in answer.figures.items())
    code = answer.refusal or "no_records"
    return f"{code}: {figures}" if answer.refusal and figures else code


def too_few(when: str, *, got: int, least: int, missing: Mapping[str, str]) -> NoReturn:
    """End a run, naming who is missing and why.

    Raises:
        RunFailedError: always.
    """
    who = ", ".join(f"{name} ({code})" for name, code in sorted(missing.items())) or "nobody else is there"
    raise RunFailedError(
        f"{when}: {got} institutions {'take part' if when == 'enrol' else 'answered'}, server.min_clients={least} are needed. "
        f"Missing: {who}. Their own logs say why; change what they decline, or lower server.min_clients to go on without them.",
        when=when,
        missing=missing,
    )


def read_answer(message: Message) -> Answer:
    """Read a reply, or say by a code why it is none."""
    if message.has_error():
        log.warning("Node %s answers with an error, code %s.", message.metadata.src_node_id, message.error.code)
        return ERROR_REPLY
    try:
        return unpack_reply(message.content)
    except ProtocolError as error:
        log.warning("Node %s: %s", message.metadata.src_node_id, error)
        return error.code


def _refusal_of(message: Message) -> str | None:
    """Return the code of a refusal; None for any other answer."""
    answer = read_answer(message)
    return answer.refusal if isinstance(answer, Reply) else None


def check_reply(reply: Reply, name: str, *, declared: int) -> None:
    """Check that a reply is of the institution asked, about the records it declared.

    Raises:
        ProtocolError: if not.
    """
    if reply.institution != name:
        raise ProtocolError(f"{reply.institution} answers for {name}.", code="institution")
    if reply.num_examples != declared:
        raise ProtocolError(
            f"{name} declared {declared} records and now {reply.num_examples}.",
            code="num_examples",
        )


def accept(reply: Reply, name: str, *, declared: int, shapes: Shapes, max_value: float) -> ClientUpdate:
    """Check a reply to a train request, whole, and take the update out of it.

    Raises:
        ProtocolError: if it is not what was asked for.
    """
    check_reply(reply, name, declared=declared)
    if reply.arrays is None:
        raise ProtocolError(f"{name} sends no update.", code="tensor_names")
    tensors = decode(reply.arrays, shapes, max_value=max_value)
    return ClientUpdate(client=name, tensors=tensors, num_examples=reply.num_examples)


def exchange(grid: Grid, messages: Sequence[Message], timeout: float, again: AskAgain | None = None) -> Iterator[Message]:
    """Send questions and yield replies as they arrive, until all have or time is up.

    Args:
        grid: carries them.
        messages: the questions, one a node.
        timeout: seconds until nobody is waited for any more.
        again: when a question is asked again; None: never, and an error is a reply like any other.
    """
    if again is not None:
        for message in messages:  # nobody is to begin, and to pay for, what nobody waits for any more
            message.metadata.ttl = _ttl(timeout)
    questions = _Questions(messages, list(grid.push_messages(messages)))
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE_S
    while questions.waiting:
        asked = time.monotonic()
        replies = list(grid.pull_messages(questions.ids)) if questions.ids else []
        yield from (reply for reply in replies if questions.settles(reply, again))
        if replies:
            pause = _FIRST_PAUSE_S
        elif time.monotonic() < end:
            time.sleep(max(0.0, asked + pause - time.monotonic()))  # a grid that waits itself has waited enough
            pause = min(2 * pause, LONGEST_PAUSE_S)
        if questions.waiting and time.monotonic() >= end:
            log.warning("%d institutions have not answered within %g s.", len(questions.waiting), timeout)
            yield from questions.last_errors()
            return
        if again is not None:
            questions.ask_again(grid, again, end=end)


def _ttl(seconds: float) -> float:
    """Return how long a message lives that is of use for so long."""
    return max(seconds, _SHORTEST_TTL_S)


@dataclass(eq=False)
class _Question:
    """One question, however often it was asked.

    Attributes:
        message: as it was sent first.
        ids: of the copies that may still be answered.
        again_at: when it is asked again; infinite where nothing was said about it yet.
        errors: replies that were no answer.
        seen: errors by the time it was asked last.
        silences: how often it was asked again because nothing came.
        error: the last reply that was no answer.
    """

    message: Message
    ids: set[str]
    again_at: float = math.inf
    errors: int = 0
    seen: int = 0
    silences: int = 0
    error: Message | None = None

    def told(self) -> str:
        """Say what is asked, and what came instead of an answer."""
        about = self.message.metadata
        what = f"{about.message_type} of round {about.group_id}" if about.group_id not in ("", "0") else about.message_type
        if self.errors == self.seen or self.error is None:
            return f"{what} is not answered yet"
        return f"{what} is answered with {'an error' if self.error.has_error() else _refusal_of(self.error)}"


class _Questions:
    """Questions that wait for their answers.

    Args:
        messages: as they were sent.
        ids: that the grid gave them.
    """

    def __init__(self, messages: Sequence[Message], ids: Sequence[str]) -> None:
        asked = [_Question(message, {message_id}) for message, message_id in zip(messages, ids, strict=True)]
        self.waiting = dict.fromkeys(asked)
        self._by_id = {message_id: question for question in asked for message_id in question.ids}

    @property
    def ids(self) -> set[str]:
        """Of all messages that may still be answered; asked about one that was, SuperLink would reply with errors for ever."""
        return set(self._by_id)

    def settles(self, reply: Message, again: AskAgain | None) -> bool:
        """Take a reply in; say whether it is the answer to a question that waits."""
        question = self._by_id.pop(reply.metadata.reply_to_message_id, None)
        if question is None:
            return False
        question.ids.discard(reply.metadata.reply_to_message_id)
        if again is not None and again.is_no_answer(reply):
            question.error, question.errors = reply, question.errors + 1
            question.again_at = min(question.again_at, time.monotonic() + again.pause_s(question.errors))
            return False
        for message_id in question.ids:
            del self._by_id[message_id]
        del self.waiting[question]
        return True

    def ask_again(self, grid: Grid, again: AskAgain, *, end: float) -> None:
        """Ask again where an error came, or nothing for long."""
        now = time.monotonic()
        for question in self.waiting:
            if math.isinf(question.again_at):
                question.again_at, question.seen = now + again.silence_s(question.silences), question.errors
            if now < question.again_at:
                continue
            question.silences += question.errors == question.seen  # an error is none: it does not lengthen the next silence
            message, about = question.message, question.message.metadata
            log.info("%s: %s; asked again.", again.name_of(about.dst_node_id), question.told())
            ttl = _ttl(end - time.monotonic())
            copy = Message(message.content, about.dst_node_id, about.message_type, ttl=ttl, group_id=about.group_id)
            for message_id in grid.push_messages([copy]):
                question.ids.add(message_id)
                self._by_id[message_id] = question
            question.again_at = math.inf

    def last_errors(self) -> Iterator[Message]:
        """Yield the last error of each that has not answered."""
        yield from (question.error for question in self.waiting if question.error is not None)


def _wait_for_nodes(grid: Grid, least: int, timeout: float, expected: Mapping[int, str]) -> list[int]:
    """Wait for those that are expected, or for ``least`` where nobody is known beforehand."""
    end, pause, seen = time.monotonic() + timeout, _FIRST_PAUSE_S, -1
    while True:
        nodes = sorted(node for node in grid.get_node_ids() if not expected or node in expected)
        absent = sorted(name for node, name in expected.items() if node not in nodes)
        if len(nodes) >= max(least, len(expected)):
            return nodes
        if time.monotonic() >= end:
            break
        if len(nodes) != seen:
            seen = len(nodes)
            who = f"; not there yet: {', '.join(absent)}" if absent else ""
            log.info("%d of %d institutions are connected%s.", len(nodes), max(least, len(expected)), who)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    if len(nodes) < least:
        missing = ", ".join(absent)
        raise RunFailedError(
            f"{len(nodes)} institutions connected within {timeout:g} s, server.min_clients={least} are needed."
            + (f" Missing: {missing}. `confide doctor` on their side says why." if missing else ""),
            when="enrol",
            missing=dict.fromkeys(absent, "not_connected"),
        )
    return nodes


__all__ = [
    "ERROR_REPLY",
    "LONGEST_PAUSE_S",
    "NO_REPLY",
    "Answer",
    "AskAgain",
    "Clients",
    "Reach",
    "accept",
    "check_reply",
    "enrol",
    "exchange",
    "read_answer",
    "too_few",
]
