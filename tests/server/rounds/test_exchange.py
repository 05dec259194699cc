"""Asking again in a deployment: who answers late, wrongly or not at all, and who is waited for."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from confide.errors import RunFailedError
from confide.flower.messages import Run, assign_message_id, raised, task_identity
from confide.protocol.messages import Reply, Request, pack_reply, pack_request
from confide.protocol.refusals import Refusal
from confide.server.rounds.enrolment import enrol
from confide.server.rounds.exchange import AskAgain, Reach, exchange
from confide.server.rounds.participants import Clients, read_answer

AGAIN = AskAgain(after_error_s=0.02, after_silence_s=0.1)
A, B, C = 1, 2, 3
NAMES = {A: "a", B: "b", C: "c"}
ANSWER, ERROR, SILENCE = "answer", "error", "silence"
LATE = "answer after a while"
LATE_S = 0.25
PLAN = "{}"


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with task_identity():
        yield


@dataclass
class ScriptedGrid(Grid):
    """RequestHandler each asking of a node as its script says, the last line again and again.

    Like SuperLink it forgets what it gave.

    Asked about a message that was answered, it replies with an error, again and again, as SuperLink
    does.
    """

    scripts: Mapping[int, Sequence[str | Reply]]
    online: list[Sequence[int]] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    open: dict[str, tuple[float, Message]] = field(default_factory=dict)
    forgotten: int = 0

    def set_run(self, run: Run) -> None:
        """There is one alone."""

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return (
            self.online.pop(0)
            if len(self.online) > 1
            else self.online[0]
            if self.online
            else list(self.scripts)
        )

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            node, message_id = message.metadata.dst_node_id, assign_message_id(message)
            script, asked = (
                self.scripts[node],
                sum(sent.metadata.dst_node_id == node for sent in self.sent),
            )
            self.sent.append(message)
            ids.append(message_id)
            at, reply = self._reply(message, script[min(asked, len(script) - 1)])
            self.open[message_id] = (at, reply)
        return ids

    def _reply(self, message: Message, line: str | Reply) -> tuple[float, Message]:
        if line == ERROR:
            return 0.0, raised(message)
        answer = (
            Reply(institution=NAMES[message.metadata.dst_node_id], num_examples=5)
            if isinstance(line, str)
            else line
        )
        at = {SILENCE: float("inf"), LATE: time.monotonic() + LATE_S}.get(str(line), 0.0)
        return at, Message(pack_reply(answer), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = []
        for message_id in message_ids:
            if message_id not in self.open:
                self.forgotten += 1
                replies.append(
                    raised(next(m for m in self.sent if m.metadata.message_id == message_id))
                )
            elif self.open[message_id][0] <= time.monotonic():
                replies.append(self.open.pop(message_id)[1])
        return replies

    def asked(self, node: int) -> int:
        return sum(message.metadata.dst_node_id == node for message in self.sent)


def questions(*nodes: int) -> list[Message]:
    content = pack_request(Request(plan=PLAN))
    return [Message(content, node, "train", group_id="3") for node in nodes]


def ask(
    grid: ScriptedGrid, *nodes: int, timeout: float = 5.0, again: AskAgain | None = AGAIN
) -> list[Message]:
    return list(exchange(grid, questions(*nodes), timeout, again))


def nodes_of(replies: Iterable[Message]) -> list[int]:
    return [reply.metadata.src_node_id for reply in replies]


def refusing(code: str) -> Reply:
    return Reply(institution="a", refusal=code)


# --- one question


@pytest.mark.parametrize(
    "first", [ERROR, SILENCE, refusing("policy_approval"), refusing("policy_hours")]
)
def test_who_does_not_answer_is_asked_again(first: str | Reply) -> None:
    grid = ScriptedGrid({A: [first, ANSWER]})
    (reply,) = ask(grid, A)
    assert not reply.has_error()
    assert grid.asked(A) == 2


def test_a_refusal_that_time_does_not_lift_is_an_answer() -> None:
    grid = ScriptedGrid({A: [refusing("policy_max_epsilon"), ANSWER]})
    (reply,) = ask(grid, A)
    answer = read_answer(reply)
    assert isinstance(answer, Reply)
    assert answer.refusal == "policy_max_epsilon"
    assert grid.asked(A) == 1


def test_without_asking_again_an_error_is_a_reply() -> None:
    grid = ScriptedGrid({A: [ERROR, ANSWER]})
    (reply,) = ask(grid, A, again=None)
    assert read_answer(reply) == Refusal.ERROR_REPLY
    assert grid.asked(A) == 1


@pytest.mark.parametrize("second", [ANSWER, LATE, SILENCE])
def test_of_several_answers_to_one_question_one_is_taken(second: str) -> None:
    grid = ScriptedGrid({A: [LATE, second], B: [LATE]})
    replies = ask(grid, A, B)
    assert sorted(nodes_of(replies)) == [A, B]
    assert grid.asked(A) >= 2


def test_answers_that_arrive_together_are_one_answer() -> None:
    class Hoarding(ScriptedGrid):
        """Brings nothing until a question was asked twice."""

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return super().pull_messages(message_ids) if self.asked(A) > 1 else []

    grid = Hoarding({A: [ANSWER]})
    assert nodes_of(ask(grid, A)) == [A]


def test_who_answered_is_not_asked_again_while_others_are() -> None:
    grid = ScriptedGrid({A: [ANSWER], B: [ERROR, ERROR, ANSWER]})
    assert nodes_of(ask(grid, A, B)) == [A, B]
    assert (grid.asked(A), grid.asked(B)) == (1, 3)


def test_a_message_that_was_answered_is_never_asked_about_again() -> None:
    grid = ScriptedGrid({A: [ERROR, ERROR, SILENCE, ANSWER], B: [LATE]})
    assert sorted(nodes_of(ask(grid, A, B))) == [A, B]
    assert grid.forgotten == 0


def test_the_same_question_is_asked_again() -> None:
    grid = ScriptedGrid({A: [ERROR, ANSWER]})
    ask(grid, A)
    first, second = grid.sent
    assert first.content == second.content
    assert (first.metadata.message_type, first.metadata.group_id) == (
        second.metadata.message_type,
        second.metadata.group_id,
    )
    assert first.metadata.message_id != second.metadata.message_id


# --- time


def test_when_time_is_up_the_last_error_is_told_and_silence_is_not() -> None:
    grid = ScriptedGrid({A: [ANSWER], B: [ERROR], C: [SILENCE]})
    replies = ask(grid, A, B, C, timeout=0.4)
    assert nodes_of(replies) == [A, B]
    assert [reply.has_error() for reply in replies] == [False, True]
    assert grid.asked(B) > 2


def test_who_waits_for_approval_until_time_is_up_is_told_as_that() -> None:
    (reply,) = ask(ScriptedGrid({A: [refusing("policy_approval")]}), A, timeout=0.3)
    answer = read_answer(reply)
    assert isinstance(answer, Reply)
    assert answer.refusal == "policy_approval"


@pytest.mark.parametrize("again", [AGAIN, None])
def test_silence_is_counted_when_time_is_up(
    again: AskAgain | None, caplog: pytest.LogCaptureFixture
) -> None:
    grid = ScriptedGrid({A: [ANSWER], B: [SILENCE], C: [SILENCE]})
    assert nodes_of(ask(grid, A, B, C, timeout=0.2, again=again)) == [A]
    assert "2 institutions have not answered within 0.2 s" in caplog.text


def test_no_question_outlives_the_deadline() -> None:
    started = time.time()
    grid = ScriptedGrid({A: [ERROR, ERROR, ERROR, ANSWER]})
    ask(grid, A, timeout=30.0)
    ends = [message.metadata.created_at + message.metadata.ttl for message in grid.sent]
    assert len(ends) == 4
    assert all(29 < end - started < 31 for end in ends)


def test_a_wait_is_cut_where_time_is_up() -> None:
    started = time.monotonic()
    assert ask(ScriptedGrid({A: [SILENCE]}), A, timeout=0.3) == []
    assert time.monotonic() - started < 2


@dataclass
class SteppedClock:
    """Passes while somebody sleeps, and not otherwise."""

    is_virtual: bool = False
    time_s: float = 0.0

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


@dataclass
class TimedGrid(ScriptedGrid):
    """Answers as its script says, but by a clock, and each look is counted."""

    clock: SteppedClock = field(default_factory=SteppedClock)
    answers_at: float = 0.0
    looks: int = 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.looks += 1
        return super().pull_messages(message_ids) if self.clock.now() >= self.answers_at else []


@pytest.mark.parametrize(("took_s", "most"), [(0.1, 8), (1.0, 16), (10.0, 28), (600.0, 620)])
def test_a_reply_waits_for_at_most_a_quarter_of_what_it_took(took_s: float, most: int) -> None:
    grid = TimedGrid({A: [ANSWER]}, answers_at=took_s)
    (question,) = questions(A)
    (reply,) = exchange(grid, [question], timeout=3600.0, clock=grid.clock)
    assert not reply.has_error()
    assert grid.clock.now() - took_s <= min(1.0, 0.25 * took_s + 0.01)
    assert grid.looks <= most


def test_pauses_grow_to_a_bound_however_often() -> None:
    again = AskAgain()
    assert [again.pause_s(times) for times in (1, 2, 3, 5000)] == [2, 4, 8, 30]
    assert [again.silence_s(times) for times in (0, 1, 5000)] == [60, 120, 600]


# --- enrolment


def enrolled(
    grid: ScriptedGrid, *, least: int = 1, timeout: float = 5.0, names: Mapping[int, str] = NAMES
) -> Clients:
    return enrol(grid, PLAN, least=least, timeout=timeout, reach=Reach(names=names, again=AGAIN))


def test_all_who_are_registered_are_waited_for() -> None:
    grid = ScriptedGrid(
        {A: [ANSWER], B: [ANSWER], C: [ANSWER]}, online=[[], [B], [B, A], [B, A, C]]
    )
    assert set(enrolled(grid).num_examples) == {"a", "b", "c"}


def test_who_is_missing_is_named_and_the_others_begin_where_they_are_enough(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = ScriptedGrid({A: [ANSWER], B: [ANSWER], C: [ANSWER]}, online=[[A, C]])
    assert set(enrolled(grid, least=2, timeout=0.3).num_examples) == {"a", "c"}
    assert "b does not take part: not_connected" in caplog.text


def test_too_few_who_are_connected_end_the_run_naming_who_is_missing() -> None:
    grid = ScriptedGrid({A: [ANSWER]}, online=[[A]])
    with pytest.raises(
        RunFailedError, match=r"1 institutions connected .*Missing: b, c\. `confide doctor`"
    ) as caught:
        enrolled(grid, least=2, timeout=0.2)
    assert caught.value.missing == {"b": "not_connected", "c": "not_connected"}


def test_a_node_that_answers_under_anothers_name_is_left_out() -> None:
    grid = ScriptedGrid({A: [ANSWER], B: [Reply(institution="a", num_examples=9)], C: [ANSWER]})
    clients = enrolled(grid)
    assert clients.num_examples == {"a": 5, "c": 5}
    assert clients.names == {A: "a", C: "c"}


def test_a_node_that_nobody_registered_is_not_asked() -> None:
    grid = ScriptedGrid({A: [ANSWER], B: [ANSWER]}, online=[[B, A]])
    assert enrolled(grid, names={A: "a"}).names == {A: "a"}
    assert grid.asked(B) == 0


@pytest.mark.parametrize("order", [(A, B, C), (C, A, B)])
def test_order_of_arrival_does_not_change_who_takes_part(order: Sequence[int]) -> None:
    class Ordered(ScriptedGrid):
        """Brings replies in an order of its own."""

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return sorted(
                super().pull_messages(message_ids),
                key=lambda reply: order.index(reply.metadata.src_node_id),
            )

    clients = enrolled(Ordered({A: [ANSWER], B: [ERROR, ANSWER], C: [LATE]}))
    assert list(clients.num_examples) == ["a", "b", "c"]
    assert clients.names == NAMES


def test_who_declines_is_named_with_the_reason() -> None:
    grid = ScriptedGrid(
        {
            A: [ANSWER],
            B: [ERROR],
            C: [Reply(institution="c", refusal="policy_tasks", figures={"allowed": 1.0})],
        }
    )
    with pytest.raises(RunFailedError) as caught:
        enrolled(grid, least=2, timeout=0.3)
    assert caught.value.missing == {
        "b": "error_reply",
        "c": "policy_tasks: has more than the 1 allowed",
    }


def test_an_errors_text_is_not_read() -> None:
    (message,) = questions(A)
    assign_message_id(message)
    assert (
        read_answer(Message(Error(code=5, reason="a record"), reply_to=message))
        == Refusal.ERROR_REPLY
    )
