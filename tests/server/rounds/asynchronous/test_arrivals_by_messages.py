"""Institutions that answer by messages, when each of them is done."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fake_institutions import (
    START,
    Fake,
    drifters,
    end,
    essence,
    halfway_to,
    make_app,
    make_job,
    nodes,
    plan,
)
from flwr.app import Message
from virtual_runs import strategy

from confide.errors import RunFailedError
from confide.flower.messages import assign_message_id
from confide.privacy.randomness import seed_from
from confide.protocol.messages import Reply
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import sha256
from confide.server.app import run_server_app
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.exchange import AskAgain, Reach
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines.inline import InlineGrid
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.composed import Strategy
from confide.strategies.selections.uniform import SelectUniform
from confide.strategies.timings.fedasync import FedAsync
from confide.strategies.timings.fedbuff import FedBuff

pytestmark = pytest.mark.usefixtures("identity")

NAMES = "abc"
TurnFn = Callable[[str, int], float]
"""(institution, number of its question) -> the smallest of those that are open comes next."""


def drawn(name: str, number: int) -> float:
    return seed_from(b"order", name, number)


def alphabetic(name: str, number: int) -> float:
    return float(NAMES.index(name))


@dataclass
class Mail(InlineGrid):
    """Brings one reply at a time, whose turn it is, and may bring each twice or none of a node."""

    fakes: Sequence[Fake]
    turn_fn: TurnFn = drawn
    copies: int = 1
    silent: str = ""
    open: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(make_app(self.fakes), nodes(self.fakes))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = {assign_message_id(message): message for message in messages}
        self.open |= sent
        return list(sent)

    def _turn(self, message_id: str) -> float:
        message = self.open[message_id].metadata
        return self.turn_fn(self.fakes[message.dst_node_id - 1].name, int(message.group_id or 0))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        there = {
            number: message
            for number, message in self.open.items()
            if number in set(message_ids)
            and (message.metadata.message_type, self._name(message)) != ("train", self.silent)
        }
        if not there:
            return []
        reply = self._answer(self.open.pop(min(there, key=self._turn)))
        return [reply] * self.copies

    def _name(self, message: Message) -> str:
        return self.fakes[message.metadata.dst_node_id - 1].name


def by_messages(
    grid: Mail,
    algorithm: Strategy,
    *,
    checkpoint: Checkpoint | None = None,
    made: list[Checkpoint] | None = None,
    most: int = 100,
    **settings: Any,
) -> Outcome:
    job = replace(
        make_job(algorithm=algorithm, **settings),
        plan=replace(plan(), num_rounds=most),
        reach=Reach(),
        checkpoint=checkpoint,
        commit_fn=None if made is None else made.append,
    )
    return run_server_app(job, grid, initial=START)


def asked(fake: Fake) -> list[int]:
    return [request.server_round for kind, request in fake.asked if kind == "train"]


def test_two_steps_of_fedbuff_by_hand() -> None:
    # a: 1.0, and a again, of the same tensors: step to 1. a, of 1: 0.5; then a's fourth, 0.5
    fakes = [Fake("a", 1, halfway_to(2.0)), Fake("b", 1, halfway_to(6.0))]
    timing = FedBuff(concurrency=2, buffer_size=2)
    outcome = by_messages(Mail(fakes, alphabetic), strategy(timing), num_rounds=2)
    assert [record.order for record in outcome.state.history] == [("a", "a"), ("a", "a")]
    assert end(outcome) == [1.5, 1.5]
    # b's question was still open: it is nobody's answer any more
    assert asked(fakes[0]) == [1, 2, 3, 4]
    assert outcome.state.flight is None


def test_a_late_answer_weighs_less() -> None:
    # a, a: step to 1. b, of the tensors before: 3/sqrt(2); a: 0.5
    turns = {("a", 1): 0, ("a", 2): 1, ("b", 1): 2, ("a", 3): 3}
    fakes = [Fake("a", 1, halfway_to(2.0)), Fake("b", 1, halfway_to(6.0))]
    timing = FedBuff(concurrency=2, buffer_size=2)
    mail = Mail(fakes, lambda name, number: turns.get((name, number), 9))
    outcome = by_messages(mail, strategy(timing), num_rounds=2)
    assert outcome.state.history[1].order == ("b", "a")
    assert outcome.state.history[1].staleness == (1, 0)
    assert end(outcome) == pytest.approx([1.0 + (3.0 / 2**0.5 + 0.5) / 2.0] * 2, abs=1e-6)


def test_everybody_in_one_buffer_is_fedavg_in_any_order() -> None:
    timing = FedBuff(concurrency=3, buffer_size=3)
    ends = set()
    for sign in (1, -1):

        def turn_fn(name: str, number: int, sign: int = sign) -> float:
            return 10 * number + sign * alphabetic(name, number)

        fakes = [replace(fake, num_examples=4) for fake in drifters()]
        outcome = by_messages(Mail(fakes, turn_fn), strategy(timing), num_rounds=1)
        ends.add(sha256(outcome.state.params))
    fakes = [replace(fake, num_examples=4) for fake in drifters()]
    ends.add(sha256(by_messages(Mail(fakes), strategy(), num_rounds=1).state.params))
    assert len(ends) == 1


@pytest.mark.parametrize(
    "timing",
    [
        FedBuff(concurrency=2, buffer_size=3),
        FedBuff(concurrency=3, buffer_size=2),
        FedAsync(concurrency=2, mixing=0.6),
    ],
)
@pytest.mark.parametrize("refusing", [False, True])
def test_a_run_resumed_after_any_answer_is_the_undisturbed_one(
    tmp_path: Path, timing: FedBuff | FedAsync, refusing: bool
) -> None:
    def fakes() -> list[Fake]:
        made = drifters()
        if refusing:
            made[1].tamper = lambda reply: Reply(institution="b", refusal="privacy")
        return made

    made: list[Checkpoint] = []
    grid = Mail(fakes())
    expected = by_messages(grid, strategy(timing), made=made, num_rounds=5)
    answers = sum(len(asked(fake)) for fake in grid.fakes)
    # Of every answer, and of who takes part; what comes after the last step is nobody's
    assert len(made) == answers + 1
    for number, checkpoint in enumerate(made):
        store = CheckpointStore(tmp_path / str(number), kept=1)
        store.save(checkpoint)
        again = Mail(fakes())
        resumed = by_messages(again, strategy(timing), checkpoint=store.latest(), num_rounds=5)
        assert essence(resumed) == essence(expected)
        # What was asked before is asked by the same number, and nothing twice that was answered
        before, after = map(dict, ([(f.name, asked(f)) for f in g.fakes] for g in (grid, again)))
        assert all(
            before[name][len(before[name]) - len(own) :] == own for name, own in after.items()
        )


def test_an_answer_that_comes_twice_is_counted_once() -> None:
    timing = FedBuff(concurrency=2, buffer_size=2)
    once = by_messages(Mail(drifters()), strategy(timing), num_rounds=4)
    twice = by_messages(Mail(drifters(), copies=2), strategy(timing), num_rounds=4)
    assert essence(twice) == essence(once)


def test_who_is_silent_holds_up_nobody_else() -> None:
    timing = FedBuff(concurrency=3, buffer_size=2)
    grid = Mail(drifters(), silent="b")
    outcome = by_messages(grid, strategy(timing), num_rounds=6, round_timeout_s=0.4)
    assert outcome.state.server_round == 6
    assert not any("b" in record.accepted for record in outcome.state.history)
    assert sum(record.seconds for record in outcome.state.history) < 0.4


def test_who_is_silent_is_given_up_and_its_place_is_free() -> None:
    timing = FedBuff(concurrency=1, buffer_size=1)
    grid = Mail(drifters(), silent="b")
    outcome = by_messages(grid, strategy(timing), num_rounds=6, round_timeout_s=0.1)
    refused = [record.refused for record in outcome.state.history]
    assert {"b": "no_reply"} in refused
    assert outcome.state.server_round == 6


def test_a_step_waits_for_as_many_institutions_as_it_needs() -> None:
    # a alone would fill each buffer
    timing = FedBuff(concurrency=2, buffer_size=2)
    grid = Mail(drifters(), alphabetic)
    outcome = by_messages(grid, strategy(timing), num_rounds=3, min_clients=2)
    assert all(len(set(record.order)) == 2 for record in outcome.state.history)
    assert any(len(record.order) > 2 for record in outcome.state.history)


def test_a_step_without_enough_institutions_ends_the_run() -> None:
    timing = FedBuff(concurrency=3, buffer_size=2)
    with pytest.raises(RunFailedError, match="round 1"):
        by_messages(
            Mail(drifters()[:2], silent="b"),
            strategy(timing),
            most=3,
            num_rounds=3,
            min_clients=2,
            round_timeout_s=0.05,
        )


def test_answers_of_who_withdrew_do_not_spoil_the_sum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Checkpoint] = []
    timing = FedBuff(concurrency=3, buffer_size=3)
    by_messages(
        Mail(drifters()), strategy(timing, weighting="num_examples"), made=made, num_rounds=2
    )
    middle = next(one for one in made if one.state.flight and one.state.flight.begun)
    job = make_job(algorithm=strategy(timing, weighting="num_examples"), num_rounds=2)
    without = replace(
        job,
        plan=replace(plan(), num_rounds=100),
        checkpoint=middle,
        without=frozenset({"c"}),
    )
    outcome = run_server_app(without, Mail(drifters()), initial=START)
    assert outcome.state.server_round == 2
    assert "are left out" in caplog.text
    assert not any("c" in record.order for record in outcome.state.history)


# Rounds that ask more than they need


def test_a_round_is_closed_by_the_first_answers_that_it_needs() -> None:
    selection = SelectUniform(clients_per_round=2, over_selection=1.5)
    grid = Mail(drifters(), alphabetic)
    outcome = by_messages(grid, fedavg(selection=selection), num_rounds=2)
    for record in outcome.state.history:
        assert record.accepted == ("a", "b")
        assert record.refused == {"c": "not_needed"}
    assert asked(grid.fakes[2]) == []


def test_a_refusal_makes_room_for_the_next_answer() -> None:
    fakes = drifters()
    fakes[0].tamper = lambda reply: Reply(institution="a", refusal="privacy")
    selection = SelectUniform(clients_per_round=2, over_selection=1.5)
    outcome = by_messages(Mail(fakes, alphabetic), fedavg(selection=selection), num_rounds=1)
    record = outcome.state.history[0]
    assert (record.accepted, record.refused) == (("b", "c"), {"a": "privacy"})


def test_who_declines_for_a_while_is_not_asked_until_nothing_is_left() -> None:
    """A full disk, say: asked again at once, it would give all its answers away by declining."""
    declined = 0

    def unwell(reply: Reply) -> Reply:
        nonlocal declined
        declined += 1
        return Reply(institution="a", refusal=Refusal.STORAGE) if declined <= 4 else reply

    fakes = [
        Fake("a", 1, halfway_to(2.0), tamper=unwell),
        Fake("b", 1, halfway_to(6.0)),
        Fake("c", 1, halfway_to(6.0)),
    ]
    timing = FedBuff(concurrency=3, buffer_size=2)
    outcome = by_messages(Mail(fakes, alphabetic), strategy(timing), num_rounds=10, most=12)
    history = outcome.state.history
    assert [record.server_round for record in history if record.refused] == [1, 2, 3, 4]
    assert asked(fakes[0])[:5] == [1, 2, 3, 4, 5]
    assert any("a" in record.accepted for record in history)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("silent", ["", "b"])
def test_who_is_revoked_is_given_up_at_once_and_asked_no_more(silent: str) -> None:
    fakes, gone = [Fake(name, n + 1) for n, name in enumerate(NAMES)], set[str]()

    def revokes(reply: Reply) -> Reply:
        if len(asked(fakes[2])) == 3:
            gone.add("b")
        return reply

    fakes[2].tamper = revokes
    timing = FedBuff(concurrency=3, buffer_size=2)
    names = {node: fake.name for node, fake in enumerate(fakes, 1)}
    again = AskAgain(names=names, gone_fn=lambda: frozenset(gone), after_silence_s=1000.0)
    left: list[tuple[Mapping[str, int], int]] = []
    job = replace(
        make_job(algorithm=strategy(timing), num_rounds=12, round_timeout_s=1000.0),
        plan=replace(plan(), num_rounds=100),
        reach=Reach(names=names, again=again),
        leave_fn=lambda declared, after: left.append((dict(declared), after)),
    )
    outcome = run_server_app(job, Mail(fakes, drawn, silent=silent), initial=START)
    ((declared, after),) = left
    assert declared == {"b": 2}
    assert list(outcome.clients) == ["a", "c"]
    assert outcome.state.server_round == 12
    accepted = [it.accepted for it in outcome.state.history]
    assert all("b" not in names for names in accepted[after + 1 :])
    assert any("b" in names for names in accepted[: after + 1]) is not (silent == "b")
