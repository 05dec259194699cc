"""Institutions that are revoked while a run goes on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from fake_institutions import Fake, drifters, essence, make_app, make_job, nodes, run
from flwr.app import Message

from confide.errors import RunFailedError
from confide.protocol.messages import Reply
from confide.server.rounds.exchange import AskAgain, Reach
from confide.server.rounds.job import Job
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines.inline import InlineGrid

pytestmark = pytest.mark.usefixtures("identity")


@dataclass
class Revoking:
    """Institutions, some of whom are revoked at an instant that a test chooses."""

    fakes: Sequence[Fake] = field(default_factory=drifters)
    gone: frozenset[str] = frozenset()
    left: list[tuple[Mapping[str, int], int]] = field(default_factory=list)

    def revoke_when(self, name: str, *, trains: int, gone: str) -> None:
        """Revoke ``gone`` while ``name`` answers a round."""

        def tamper(reply: Reply) -> Reply:
            fake = next(it for it in self.fakes if it.name == name)
            if sum(kind == "train" for kind, _ in fake.asked) == trains:
                self.gone |= {gone}
            return reply

        next(it for it in self.fakes if it.name == name).tamper = tamper

    def job(self, **settings: int) -> Job:
        names = {node: fake.name for node, fake in enumerate(self.fakes, 1)}
        again = AskAgain(names=names, gone_fn=lambda: self.gone, after_silence_s=100.0)
        return replace(
            make_job(**settings),
            reach=Reach(names=names, again=again),
            leave_fn=lambda declared, after: self.left.append((dict(declared), after)),
        )

    def run(self, **settings: int) -> Outcome:
        return run(self.fakes, rounds=4, job=self.job(**settings), timeout=60.0)

    def rounds_of(self, name: str) -> list[int]:
        fake = next(it for it in self.fakes if it.name == name)
        return [it.server_round for kind, it in fake.asked if kind == "train"]


def test_who_is_revoked_is_asked_no_more_and_the_run_is_that_of_the_others() -> None:
    revoking = Revoking()
    revoking.revoke_when("c", trains=2, gone="c")
    outcome = revoking.run()
    assert revoking.rounds_of("c") == [1, 2]
    assert revoking.left == [({"c": 3}, 2)]
    assert list(outcome.clients) == ["a", "b"]
    assert [it.accepted for it in outcome.state.history] == [
        ("a", "b", "c"),
        ("a", "b", "c"),
        ("a", "b"),
        ("a", "b"),
    ]
    assert "c" not in outcome.test
    assert {kind for kind, _ in revoking.fakes[2].asked} == {"query", "train"}


def test_a_round_under_way_does_not_wait_for_who_is_revoked() -> None:
    revoking = Revoking()
    revoking.revoke_when("a", trains=1, gone="b")
    outcome = revoking.run()
    # Its answer was there; the rounds after are of the others
    assert [it.accepted for it in outcome.state.history][1:] == [("a", "c")] * 3

    silent = Revoking()
    silent.revoke_when("c", trains=3, gone="b")
    muted = _Muted(make_app(silent.fakes), nodes(silent.fakes))
    ended = run(silent.fakes, rounds=4, grid=muted, job=silent.job(), timeout=600.0)
    assert [it.refused.get("b") for it in ended.state.history] == [None, None, "revoked", None]
    assert silent.left == [({"b": 2}, 3)]


class _Muted(InlineGrid):
    """Loses what the second institution answers in round 3, in which it is revoked."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [
            it
            for it in super().pull_messages(message_ids)
            if (it.metadata.src_node_id, it.metadata.group_id) != (2, "3")
        ]


def test_a_run_goes_on_as_one_that_was_resumed_without_it() -> None:
    revoking, made = Revoking(), []
    revoking.revoke_when("c", trains=2, gone="b")
    outcome = run(
        revoking.fakes,
        rounds=5,
        job=replace(revoking.job(), commit_fn=made.append),
        timeout=60.0,
    )
    job = replace(make_job(), checkpoint=made[2], without=frozenset({"b"}))
    assert essence(outcome) == essence(run(drifters(), rounds=5, job=job))


def test_too_few_that_are_left_end_the_run_with_a_way_on() -> None:
    revoking = Revoking()
    revoking.revoke_when("c", trains=1, gone="b")
    with pytest.raises(RunFailedError, match=r"b was revoked, 2 .*server\.min_clients=2") as raised:
        revoking.run(min_clients=3)
    assert raised.value.missing == {"b": "revoked"}
    assert revoking.left == [({"b": 2}, 1)]


def test_a_model_that_is_done_is_scored_by_whoever_is_left() -> None:
    revoking = Revoking()
    revoking.revoke_when("c", trains=4, gone="b")
    outcome = revoking.run(min_clients=3)
    assert list(outcome.clients) == ["a", "c"]


def test_enrolment_does_not_wait_for_who_is_revoked() -> None:
    revoking = Revoking(gone=frozenset({"b"}))
    outcome = revoking.run()
    assert list(outcome.clients) == ["a", "c"]
    assert revoking.fakes[1].asked == []
