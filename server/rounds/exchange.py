"""Messages out, replies in: every wait is bounded, and silence is asked again."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from confide.protocol.refusals import NOT_YET
from confide.server.rounds.arrivals import ArrivalsFn
from confide.server.rounds.clock import REAL, Clock, Deadline, Presence
from confide.server.rounds.collect import CollectFn, collect_updates
from confide.server.rounds.participants import CountersignFn, refusal_of
from confide.strategies.roster import Roster

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 1.0
"""Between two looks for replies."""
_GROWTH = 1.25
_LONGEST_SILENCE_S, _LONGEST_AGAIN_S = 600.0, 30.0
_MOST_DOUBLINGS = 10
_SHORTEST_TTL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class AskAgain:
    """When a question is asked again.

    After an error, after a long silence, and where an institution says 'not yet'.

    Asking again is safe: an institution answers the same question from what it keeps, and spends
    nothing more.

    Attributes:
        names: node id -> name, for whoever watches.
        not_yet: codes of refusals that time, or the institution's people, may lift.
        gone_fn: names of those who are asked nothing more, as of now, and not waited for.
        after_error_s: how long to wait after the first error; twice as long after each further one,
            up to 30 s.
        after_silence_s: how long the first silence lasts; each further one twice as long, up to 10
            minutes.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    not_yet: frozenset[str] = NOT_YET
    gone_fn: Callable[[], frozenset[str]] = frozenset
    after_error_s: float = 2.0
    after_silence_s: float = 60.0

    def name_of(self, node: int) -> str:
        """Return how a node is called."""
        return self.names.get(node, f"node {node}")

    def is_gone(self, node: int) -> bool:
        """Say whether a node is not waited for."""
        return self.names.get(node) in self.gone_fn()

    def is_no_answer(self, reply: Message) -> bool:
        """Say whether a reply does not answer."""
        return reply.has_error() or refusal_of(reply) in self.not_yet

    def pause_s(self, errors: int) -> float:
        """Return how long to wait after so many errors."""
        return min(_LONGEST_AGAIN_S, self.after_error_s * 2.0 ** min(errors - 1, _MOST_DOUBLINGS))

    def silence_s(self, silences: int) -> float:
        """Return how long silence lasts before the question is asked again, after so many silences.

        Errors are none.
        """
        return min(_LONGEST_SILENCE_S, self.after_silence_s * 2.0 ** min(silences, _MOST_DOUBLINGS))


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What is known of a grid beforehand.

    Attributes:
        names: node id -> name, by the keys that were registered; empty where a node's own word is
            taken.
        again: when a question is asked again; None in a simulation, whose grid loses nothing by
            itself.
        collect_fn: how the updates of a round arrive.
        countersign_fn: how heads of ledgers are countersigned; None where there is no key.
        roster: names of a population that is not listed; None where everybody is asked who is
            there.
        clock: by which deadlines are kept.
        arrivals_fn: how answers come where clients are not asked in rounds; None: by messages, each
            when it comes.
        presence: who is there; None: whoever the grid is connected to.
        emulates_sums: whether updates are added up in the open where a plan asks for masked sums,
            in a simulation.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    again: AskAgain | None = None
    collect_fn: CollectFn = collect_updates
    countersign_fn: CountersignFn | None = None
    roster: Roster | None = None
    clock: Clock = REAL
    arrivals_fn: ArrivalsFn | None = None
    presence: Presence | None = None
    emulates_sums: bool = False

    @property
    def gone(self) -> frozenset[str]:
        """Names of those who are asked nothing more, as of now."""
        return frozenset() if self.again is None else self.again.gone_fn()


def exchange(
    grid: Grid,
    messages: Sequence[Message],
    timeout: float,
    again: AskAgain | None = None,
    clock: Clock = REAL,
) -> Iterator[Message]:
    """Send questions and yield replies as they arrive, until all have or time is up.

    Args:
        grid: carries them.
        messages: the questions, one a node.
        timeout: seconds until nobody is waited for any more.
        again: when a question is asked again; None: never, and an error is a reply like any other.
        clock: by which time is up.
    """
    questions = send(grid, messages, timeout, again, clock)
    end, deadline = clock.now() + timeout, Deadline.after(timeout, clock)
    pause = FIRST_PAUSE_S
    while questions.waiting:
        asked = clock.now()
        replies = list(grid.pull_messages(questions.ids)) if questions.ids else []
        # Each at once: the caller adds an update while the next one is still on its way.
        yield from (reply for reply in replies if questions.settles(reply, again))
        if replies:
            pause = FIRST_PAUSE_S
        elif clock.now() < end:
            # A grid that waits by itself has waited long enough.
            clock.sleep(max(0.0, asked + pause - clock.now()))
            pause = longer(pause)
        if questions.waiting and clock.now() >= end:
            log.warning(
                "%d institutions have not answered within %g s.", len(questions.waiting), timeout
            )
            yield from questions.last_errors()
            return
        if questions.waiting and clock.is_virtual:
            deadline.is_past(len(questions.waiting))
        if again is not None:
            questions.drop(again)
            questions.ask_again(grid, again, end=end)


def longer(pause: float) -> float:
    """Return the pause, in seconds, after one in which no reply came.

    Always a quarter more: a reply waits for at most a quarter of what its institution took.
    """
    return min(_GROWTH * pause, LONGEST_PAUSE_S)


def send(
    grid: Grid,
    messages: Sequence[Message],
    timeout: float,
    again: AskAgain | None = None,
    clock: Clock = REAL,
) -> "Questions":
    """Send questions, and return them as they wait for their answers.

    Arguments are those of :func:`exchange`.
    """
    if again is not None:
        # Nobody is to begin, and to pay for, what nobody waits for any more.
        for message in messages:
            message.metadata.ttl = _ttl(timeout)
    return Questions(messages, list(grid.push_messages(messages)), clock)


def _ttl(seconds: float) -> float:
    """Return the lifetime of a message whose answer is waited for so long."""
    return max(seconds, _SHORTEST_TTL_S)


@dataclass(eq=False)
class _Question:
    """One question, however often it was asked.

    Attributes:
        message: as it was sent first.
        ids: of the copies that may still be answered.
        again_at: when it is asked again; infinite where nothing was said about it yet.
        errors: replies that were no answer.
        errors_seen: errors by the time it was asked last.
        silences: how often it was asked again because nothing came.
        error: the last reply that was no answer.
    """

    message: Message
    ids: set[str]
    again_at: float = math.inf
    errors: int = 0
    errors_seen: int = 0
    silences: int = 0
    error: Message | None = None

    @property
    def was_silent(self) -> bool:
        """Whether nothing at all came since the question was asked last."""
        return self.errors == self.errors_seen

    def describe(self) -> str:
        """Say what is asked, and what came instead of an answer."""
        about = self.message.metadata
        what = about.message_type
        if about.group_id not in ("", "0"):
            what += f" of round {about.group_id}"
        if self.was_silent or self.error is None:
            return f"{what} is not answered yet"
        came = "an error" if self.error.has_error() else refusal_of(self.error)
        return f"{what} is answered with {came}"

    def copy(self, ttl: float) -> Message:
        """Return the question as a new message that lives ``ttl`` seconds."""
        about = self.message.metadata
        return Message(
            self.message.content,
            about.dst_node_id,
            about.message_type,
            ttl=ttl,
            group_id=about.group_id,
        )


class Questions:
    """Questions that wait for their answers.

    Args:
        messages: as they were sent.
        ids: that the grid gave them.
        clock: by which they are asked again.
    """

    def __init__(self, messages: Sequence[Message], ids: Sequence[str], clock: Clock) -> None:
        self._clock = clock
        asked = [
            _Question(message, {message_id})
            for message, message_id in zip(messages, ids, strict=True)
        ]
        self.waiting = dict.fromkeys(asked)
        self._by_id = {message_id: question for question in asked for message_id in question.ids}

    @property
    def ids(self) -> Set[str]:
        """Of all messages that may still be answered, as they are at each look.

        Asked about one that was, SuperLink would reply with errors for ever. A view: of a large
        cohort a copy at each look would be quadratic.
        """
        return self._by_id.keys()

    def settles(self, reply: Message, again: AskAgain | None) -> bool:
        """Take a reply in; say whether it is the answer to a question that waits."""
        question = self._by_id.pop(reply.metadata.reply_to_message_id, None)
        if question is None:
            return False
        question.ids.discard(reply.metadata.reply_to_message_id)
        if again is not None and again.is_no_answer(reply):
            question.error = reply  # counts as the answer if nothing better comes in time
            question.errors += 1
            retry_at = self._clock.now() + again.pause_s(question.errors)
            question.again_at = min(question.again_at, retry_at)
            return False
        for message_id in question.ids:  # an answer to another copy would be a second one
            del self._by_id[message_id]
        del self.waiting[question]
        return True

    def drop(self, again: AskAgain) -> None:
        """Wait no more for those who are gone."""
        gone = [it for it in self.waiting if again.is_gone(it.message.metadata.dst_node_id)]
        for question in gone:
            for message_id in question.ids:
                del self._by_id[message_id]
            del self.waiting[question]

    def ask_again(self, grid: Grid, again: AskAgain, *, end: float) -> None:
        """Ask again where an error came, or nothing for long."""
        now = self._clock.now()
        for question in self.waiting:
            if math.isinf(question.again_at):
                question.again_at = now + again.silence_s(question.silences)
                question.errors_seen = question.errors
            if now < question.again_at:
                continue
            if question.was_silent:  # an error does not lengthen the next silence
                question.silences += 1
            to = again.name_of(question.message.metadata.dst_node_id)
            log.info("%s: %s; asked again.", to, question.describe())
            for message_id in grid.push_messages([question.copy(_ttl(end - self._clock.now()))]):
                question.ids.add(message_id)
                self._by_id[message_id] = question
            question.again_at = math.inf

    def last_errors(self) -> Iterator[Message]:
        """Yield the last error of each that has not answered."""
        yield from (question.error for question in self.waiting if question.error is not None)


__all__ = [
    "FIRST_PAUSE_S",
    "LONGEST_PAUSE_S",
    "AskAgain",
    "Questions",
    "Reach",
    "exchange",
    "longer",
    "send",
]
