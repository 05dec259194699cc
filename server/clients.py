"""The institutions that take part, and how they are asked: every wait is bounded, every silence is named."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from confide.errors import ProtocolError, RunFailedError
from confide.exchange import Reply, Request, pack_request, unpack_reply
from confide.records import Shapes, decode
from confide.strategies.strategy import ClientUpdate

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 1.0
"""Between two looks for replies."""
NO_REPLY, ERROR_REPLY = "no_reply", "error_reply"

Answer = Reply | str
"""A reply, or the code of what stands in its place."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The enrolled institutions.

    Attributes:
        names: node id -> name.
        num_examples: name -> declared number of training units, in the order of the names.
        ledger_heads: name -> head of its ledger as it told last; kept up to date, and echoed with every question, so that an
            institution whose ledger is an older copy notices.
    """

    names: Mapping[int, str]
    num_examples: Mapping[str, int]
    ledger_heads: dict[str, str] = field(default_factory=dict)

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


def enrol(grid: Grid, plan: str, *, least: int, timeout: float) -> Clients:
    """Learn who is there, and how many records each declares.

    Args:
        grid: carries the messages.
        plan: as JSON; an institution may decline it here already.
        least: fewest institutions to begin with.
        timeout: seconds to wait for them, and again for their answers.

    Raises:
        RunFailedError: if too few take part, naming the others, or two have the same name.
    """
    nodes = _wait_for_nodes(grid, least, timeout)
    content = pack_request(Request(plan=plan))
    answered: dict[int, Answer] = dict.fromkeys(nodes, NO_REPLY)
    for reply in exchange(grid, [Message(content, node, "query") for node in nodes], timeout):
        if answered.get(reply.metadata.src_node_id) == NO_REPLY:  # the first answer counts
            answered[reply.metadata.src_node_id] = read_answer(reply)
    present, absent = {}, {}
    for node, answer in answered.items():
        if isinstance(answer, str):
            absent[f"node {node}"] = answer
        elif answer.refusal or answer.num_examples < 1:
            absent[f"node {node}, {answer.institution}"] = _declined(answer)
        else:
            present[node] = answer
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
        f"{when}: {got} institutions answered, server.min_clients={least} are needed. Missing: {who}. "
        "Their own logs say why; lower server.min_clients to go on without them.",
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


def exchange(grid: Grid, messages: Sequence[Message], timeout: float) -> Iterator[Message]:
    """Send messages and yield replies as they arrive, until all have or time is up."""
    waiting = set(grid.push_messages(messages))
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE_S
    while waiting:
        asked = time.monotonic()
        replies = list(grid.pull_messages(waiting))
        for reply in replies:
            waiting.discard(reply.metadata.reply_to_message_id)
            yield reply
        if replies:
            pause = _FIRST_PAUSE_S
        elif time.monotonic() < end:
            time.sleep(max(0.0, asked + pause - time.monotonic()))  # a grid that waits itself has waited enough
            pause = min(2 * pause, LONGEST_PAUSE_S)
        if waiting and time.monotonic() >= end:
            log.warning("%d institutions have not answered within %g s.", len(waiting), timeout)
            return


def _wait_for_nodes(grid: Grid, least: int, timeout: float) -> list[int]:
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE_S
    while len(nodes := sorted(grid.get_node_ids())) < least:
        if time.monotonic() >= end:
            raise RunFailedError(
                f"{len(nodes)} institutions connected within {timeout:g} s, server.min_clients={least} are needed."
            )
        log.info("%d of %d institutions are connected.", len(nodes), least)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    return nodes


__all__ = [
    "ERROR_REPLY",
    "LONGEST_PAUSE_S",
    "NO_REPLY",
    "Answer",
    "Clients",
    "accept",
    "check_reply",
    "enrol",
    "exchange",
    "read_answer",
    "too_few",
]
